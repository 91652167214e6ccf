"""What may stand in for the calls of a dependency, and what is noted of each for that."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextvars import copy_context
from dataclasses import replace
from hashlib import blake2b
from typing import Any, Protocol
from uuid import uuid4

from mahavishnu.errors import MahavishnuError, Parked
from mahavishnu.events import CALL_LOST
from mahavishnu.outcomes.faults import why
from mahavishnu.policies.fallback import DeadLetter, StaleCache, Static
from mahavishnu.protocols import Clock, Meter
from mahavishnu.runtime import context
from mahavishnu.runtime.calls.degraded import mark
from mahavishnu.runtime.calls.operation import Operation
from mahavishnu.runtime.calls.stale import Stale
from mahavishnu.runtime.context import Degraded
from mahavishnu.runtime.dead_letters.handlers import redriven
from mahavishnu.runtime.dead_letters.letters import Letter, LettersUnreachable
from mahavishnu.runtime.dead_letters.queue import DeadLetterQueue, Kept
from mahavishnu.runtime.spans import Note, nothing
from mahavishnu.runtime.telemetry.redaction import Redactor
from mahavishnu.series import DEPENDENCY_FALLBACKS, FALLBACKS
from mahavishnu.spec import Spec
from mahavishnu.units import SECOND

NOTHING: Any = object()
"""What stands in where nothing does."""
Tell = Callable[..., object]


class Fallbacks:
    """What stands in for one dependency, and how often it did; what was told `before` is told no second time."""

    def __init__(
        self,
        name: str,
        stand_in: StandIn | None,
        meter: Meter,
        tell: Tell,
        before: Fallbacks | None = None,
        note: Note = nothing,
    ) -> None:
        self.name = name
        self.stand_in = stand_in
        self._note = note
        self._tell = tell
        self.told: set[str] = before.told if before else set()
        """The forms of calls for which nothing stands in, as far as the log has said so."""
        self._count = {
            (kind, outcome): meter.counter(
                DEPENDENCY_FALLBACKS, dependency=name, fallback=kind, outcome=outcome
            )
            for kind in FALLBACKS
            for outcome in ("served", "failed")
        }

    def served(self, kind: str, age: int | None = None, letter: str = "") -> None:
        """Something stood in: count it, and mark whatever is being served."""
        self._count[kind, "served"].inc()
        self._noted("served", kind, age, letter)
        mark(Degraded(self.name, kind, age))

    def failed(self, kind: str) -> None:
        """Nothing did."""
        self._count[kind, "failed"].inc()
        self._noted("failed", kind)

    def forgone(self, form: str) -> None:
        """A call is made in a form in which nothing stands in for it: say so once."""
        if form not in self.told:
            self.told.add(form)
            help = "guard a function, or use its httpx client"
            self._tell("no fallback", dependency=self.name, what=f"nothing stands in for {form}", help=help)

    def _noted(self, outcome: str, kind: str, age: int | None = None, letter: str = "") -> None:
        facts: dict[str, str | int] = {"mahavishnu.dependency": self.name, "mahavishnu.fallback": kind}
        facts |= {} if age is None else {"mahavishnu.age": age}
        facts |= {"mahavishnu.letter": letter} if letter else {}
        self._note(f"mahavishnu.fallback.{outcome}", facts)

    def idle(self) -> bool:
        """Whether the spec lets nothing stand in here: it says nothing, or a letter is being made again."""
        return self.stand_in is None or (self.stand_in.kind == "dead_letter" and redriven() == self.name)


class Missing(Exception):
    """There is nothing that could stand in."""


class StandIn(Protocol):
    """What a spec lets stand in for calls of a dependency. A Ticket holds what it noted of one before it is made."""

    kind: str

    def noted(self, operation: Operation, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Raises MahavishnuError for a call for which it could never stand in."""
        ...

    def keep(self, noted: Any, answer: Any) -> None:
        """The call was answered well."""
        ...


class FixedValue:
    """A value of the spec; every caller gets a copy of his own."""

    kind = "static"

    def __init__(self, settings: Static) -> None:
        self.settings = settings

    def noted(self, operation: Operation, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Nothing needs to be noted."""

    def keep(self, noted: Any, answer: Any) -> None:
        """Nothing is kept."""

    def value(self, _: Any) -> tuple[Any, int | None]:
        """What stands in, and its age (None: it has none)."""
        return copy.deepcopy(self.settings.static), None


class LastAnswer:
    """The last good answer to the same arguments."""

    kind = "stale_cache"

    def __init__(self, stale: Stale, tell: Tell) -> None:
        self.stale = stale
        self._tell = tell
        self._told: set[str] = set()

    def noted(self, operation: Operation, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        try:
            asked = operation.codec.wrap(args, kwargs)
        except TypeError as fault:
            raise MahavishnuError(f"dependency `{operation.dependency}`: {fault}") from None
        return blake2b(operation.name.encode() + b"\0" + asked, digest_size=24).digest()

    def keep(self, noted: bytes, answer: Any) -> None:
        try:
            self.stale.put(noted, pickle.dumps(answer, pickle.HIGHEST_PROTOCOL))
        except Exception as fault:  # noqa: BLE001 - whatever a class does about pickling, the answer is good
            kind = type(answer).__qualname__
            if kind not in self._told:
                self._told.add(kind)
                self._tell("answers cannot be kept", type=kind, error=type(fault).__name__)

    def value(self, noted: bytes) -> tuple[Any, int | None]:
        """What stands in, and its age in ns; raises Missing."""
        found = self.stale.get(noted)
        if found is None:
            raise Missing
        try:
            return pickle.loads(found[0]), found[1]  # noqa: S301 - written by this very process, into its memory
        except Exception as fault:  # not every class that can be written can be read
            raise Missing from fault


class DeadLetterFallback:
    """The call itself, kept to be made again."""

    kind = "dead_letter"

    def __init__(self, name: str, queue: DeadLetterQueue, tell: Tell, secrets: Redactor) -> None:
        self.name = name
        self.hides = secrets.hides
        """Whether a header of this name is never kept."""
        self._queue = queue
        self._tell = tell
        self._warned: set[str] = set()

    def noted(self, operation: Operation, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Letter:
        try:
            payload = operation.codec.wrap(args, kwargs)
        except TypeError as fault:
            raise MahavishnuError(f"dependency `{self.name}`: {fault}") from None
        key: Any = self.new_key() if operation.key is None else operation.key(*args, **kwargs)
        if (
            key is None or key == ""
        ):  # calls without one would be one and the same, and all but the first be lost
            what = f"dependency `{self.name}`: the `key` of a call of `{operation.name}` is empty"
            raise MahavishnuError(f"{what}: return what tells its calls apart")
        return self.letter(operation.name, str(key), payload)

    def new_key(self) -> str:
        """A key for a call that brings none."""
        return uuid4().hex

    def letter(self, operation: str, key: str, payload: bytes) -> Letter:
        """What is kept if the call fails."""
        return Letter(uuid4().hex, self.name, operation, key, payload, context.request_id())

    def keep(self, noted: Letter, answer: Any) -> None:
        """What was done need not be kept."""

    def park(self, noted: Letter, error: Exception) -> Future[str]:
        """Keep it: the id of its letter, empty where it could not be kept, once that is counted and logged.

        Nobody can call that off: who waits may be cancelled, and his letter is kept and told of all the same.
        """
        letter, told = replace(noted, error=why(error)), Future[str]()
        told.set_running_or_notify_cancel()  # what runs cannot be cancelled any more
        here = copy_context()  # another thread may end it, in whose own the log would not name the request
        self._queue.park(letter).add_done_callback(lambda kept: here.run(self._end, letter, told, kept))
        return told

    def lose(self, error: Exception, reason: str) -> None:
        """Count and log a failed call that can be no letter."""
        self._queue.parked(self.name, "lost")
        self._tell(CALL_LOST, dependency=self.name, error=why(error), reason=reason)

    def warn(self, reason: str) -> None:
        """Say once that calls like this one would be lost, while they still succeed."""
        if reason not in self._warned:
            self._warned.add(reason)
            self._tell("calls cannot be kept", dependency=self.name, reason=reason)

    def _end(self, letter: Letter, told: Future[str], future: Future[Kept]) -> None:
        fault = future.exception()
        kept = Kept("lost", "") if fault is not None else future.result()
        try:
            self._queue.parked(self.name, kept.outcome)
            self._log(letter, kept, fault)
        finally:  # whatever a log does, somebody may wait
            told.set_result(kept.id)

    def _log(self, letter: Letter, kept: Kept, fault: BaseException | None) -> None:
        facts = {"dependency": self.name, "key": letter.key, "error": letter.error}
        if kept.id:
            self._tell("call parked", letter=kept.id, **facts)
        else:
            self._tell(CALL_LOST, **facts, reason=_reason(fault))


def _reason(fault: BaseException | None) -> str:
    """Why a call could not be kept."""
    if fault is None:
        return "there is no room for dead letters"
    return str(fault) if isinstance(fault, LettersUnreachable) else why(fault)


class Ticket:
    """What is noted of one call before it is made, and by that stands in for it if it fails."""

    def __init__(self, fallbacks: Fallbacks, noted: Any) -> None:
        self.noted = noted
        self.key = noted.key if isinstance(noted, Letter) else ""
        self._fallbacks = fallbacks
        self._stand_in = fallbacks.stand_in

    def keep(self, answer: Any) -> None:
        """The call was answered well."""
        if self._stand_in is not None:
            self._stand_in.keep(self.noted, answer)

    def instead(self, error: Exception) -> Any:
        """The value that stands in with its age in seconds (None: it has none), or NOTHING; raises Parked."""
        if isinstance(self._stand_in, DeadLetterFallback):
            return self._parked(error, self._stand_in.park(self.noted, error).result())
        return self._replaced()

    async def instead_async(self, error: Exception) -> Any:
        """As `instead`, for tasks."""
        if isinstance(self._stand_in, DeadLetterFallback):
            return self._parked(error, await asyncio.wrap_future(self._stand_in.park(self.noted, error)))
        return self._replaced()

    def leave(self, error: Exception) -> None:
        """Keep what can be kept of a call that nobody waits for any more."""
        if isinstance(self._stand_in, DeadLetterFallback):
            self._stand_in.park(self.noted, error)

    def _parked(self, error: Exception, letter: str) -> Any:
        """Raise Parked for a call that is kept as this letter; NOTHING when it could not be (the id is empty)."""
        if not letter:
            return unkept(self._fallbacks, error)
        self._fallbacks.served(DeadLetterFallback.kind, letter=letter)
        what = f"the call failed ({why(error)}) and is kept as dead letter {letter}: it will be made again"
        try:
            raise Parked(self._fallbacks.name, "fallback", what, letter=letter, key=self.key) from error
        finally:
            del error  # an error whose frame holds it would live until the garbage collector comes

    def _replaced(self) -> Any:
        stand_in = self._stand_in
        if not isinstance(stand_in, FixedValue | LastAnswer):
            return NOTHING
        try:
            value, age = stand_in.value(self.noted)
        except Missing:
            self._fallbacks.failed(stand_in.kind)
            return NOTHING
        seconds = None if age is None else age // SECOND
        self._fallbacks.served(stand_in.kind, seconds)
        return value, seconds


def unkept(fallbacks: Fallbacks, error: Exception) -> Any:
    """NOTHING, counted and noted: the caller learns from the error itself that nobody makes the call again."""
    fallbacks.failed(DeadLetterFallback.kind)
    error.add_note(f"and the call to {fallbacks.name} could not be kept as a dead letter")
    return NOTHING


def fallbacks_of(
    spec: Spec,
    clock: Clock,
    meter: Meter,
    queue: DeadLetterQueue | None,
    tell: Tell,
    before: Mapping[str, Fallbacks],
    note: Note = nothing,
) -> dict[str, Fallbacks]:
    """The fallbacks of every dependency; what the caches of those `before` hold goes on."""

    def fallbacks(name: str) -> Fallbacks:
        old = before.get(name)
        stand_in = _stand_in(name, spec, clock, queue, tell, old.stand_in if old else None)
        return Fallbacks(name, stand_in, meter, tell, old, note)

    return {name: fallbacks(name) for name in spec.dependencies}


def _stand_in(
    name: str, spec: Spec, clock: Clock, queue: DeadLetterQueue | None, tell: Tell, old: StandIn | None
) -> StandIn | None:
    said = spec.dependencies[name].fallback
    if isinstance(said, Static):
        return FixedValue(said)
    if isinstance(said, StaleCache):
        return LastAnswer(Stale(said, clock, old.stale if isinstance(old, LastAnswer) else None), tell)
    if isinstance(said, DeadLetter) and queue is not None:
        return DeadLetterFallback(name, queue, tell, Redactor(spec.observability.logs.redact))
    return None
