"""The state of rates in Redis or Valkey, for all processes: one call decides everything a request meets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, cast

from mahavishnu.protocols import Charge, Clock, Meter, Taken
from mahavishnu.runtime.limits.memory_store import MemoryStore, Taking
from mahavishnu.runtime.redis.address import Address
from mahavishnu.runtime.redis.known import Known
from mahavishnu.runtime.redis.line import Line
from mahavishnu.runtime.redis.link import GONE, LATE, Link, Word, failure, nothing
from mahavishnu.runtime.redis.names import tag
from mahavishnu.runtime.redis.script import GIVE_BACK, TAKE
from mahavishnu.runtime.redis.series import Outcomes
from mahavishnu.runtime.redis.server_memory import ServerMemory
from mahavishnu.runtime.redis.taken import Answer, Joined, Part, Plan, closed_by_loss, without_store

_PLANS = 10_000
_RULE = "g1.1000000.1"


class RedisStore:
    """Implements `protocols.Store` on a shared server, and without it on what each rate declares for that case.

    The server's own clock decides; this host's is used for deadlines only. One connection for each event
    loop carries the calls of all its requests. Nothing here raises for a fault of the server.
    """

    waits = True

    def __init__(
        self,
        address: Address,
        whose: str,
        clock: Clock,
        meter: Meter,
        told: Callable[[bool, str], object] = nothing,
        evicts: Callable[[str], object] = nothing,
    ) -> None:
        """`whose` keys they are: the service's full name. `told` hears that the server is found or lost, and why;
        `evicts`, by which policy it forgets keys."""
        self.memory = MemoryStore(clock)
        """What is counted in this process: rates of its own, and all that are `local` while the server is lost."""
        self._address, self._whose, self._clock = address, whose, clock
        self._known = Known(clock, told)
        self._memory = ServerMemory(evicts)
        self._plans: dict[int, Plan] = {}
        self._lines: dict[asyncio.AbstractEventLoop, Line] = {}
        self._line: Line | None = None
        self._series = Outcomes(meter, self.up)
        self.take_script, self.give_back_script = TAKE, GIVE_BACK
        with suppress(RuntimeError):  # without a loop the first request connects
            self._here(asyncio.get_running_loop())

    async def take(self, charges: Sequence[Charge], keys: Sequence[str]) -> Taken:
        """Decide all charges at once: every enforced one is admitted and consumed, or none is."""
        plan = self._plans.get(id(charges))
        if plan is None or plan.charges is not charges:
            plan = self._planned(charges)
        if not plan.twins:
            return self.memory.take(charges, keys)
        line, loop = self._line, asyncio.get_running_loop()
        if line is None or line.loop is not loop:
            line = self._here(loop)
        answer = await self._answer(line, line.send(plan.question(keys)), plan, keys)
        if not isinstance(answer, list):
            answer = await self._troubled(line, plan, keys, answer)
            if answer is None:
                return self._without(plan, keys, line)
        self._series.ok.inc()
        taken = Answer(plan, keys, cast("list[int]", answer))
        return self._with_own(taken, keys) if plan.own.places else taken

    def give_back(self, taken: Any) -> None:
        """Return what `take` consumed, for a request that was denied later; nobody waits for it."""
        if isinstance(taken, Answer):
            self._return(taken)
        elif isinstance(taken, Joined):
            for part in taken.parts:
                self.give_back(part.taken)
        elif isinstance(taken, Taking):
            self.memory.give_back(taken)

    def tell_open(self, name: str, span: int) -> None:
        """Leave word that a breaker is open, for as long as it is; whoever left word first is heard."""
        self._say("SET", self._open_key(name), "1", "PX", -(-span // 1_000_000), "NX")

    def ask_open(self, name: str, told: Callable[[int], object]) -> None:
        """See whether anybody has left word; nobody waits for the answer."""
        asked = self._say("PTTL", self._open_key(name))
        if asked is not None:
            asked.add_done_callback(partial(_told, told))

    def _open_key(self, name: str) -> str:
        return f"{tag(self._whose)}:open:{name}"

    def _say(self, *words: Word) -> asyncio.Future[Any] | None:
        """Say something by the way, where an event loop runs and the server is there."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return None
        line = self._line
        if line is None or line.loop is not loop:
            line = self._here(loop)
        return line.call(*words)

    def show(self, meter: Meter) -> None:
        """Count through this meter."""
        self._series = Outcomes(meter, self.up)

    def carry(self, charge: Charge) -> None:
        """In this process; on the server a bucket goes on under the new numbers."""
        self.memory.carry(charge)

    def rename(self, name: str, other: str) -> None:
        """In this process; on the server what is set aside is found by its old name."""
        self.memory.rename(name, other)

    def forget(self, name: str) -> None:
        """In this process."""
        self.memory.forget(name)

    def keys(self) -> int:
        """How many keys are held in this process."""
        return self.memory.keys()

    @property
    def shared(self) -> int:
        """How many decisions of this process fell on a bucket that several keys share."""
        return self.memory.shared

    def up(self) -> bool:
        """Whether the server is asked; every event loop has its own way to it, until it ends."""
        return all(line.up for line in self._living())

    def reason(self) -> str:
        """Why it is not asked, in words."""
        return next((line.reason for line in self._living() if not line.up), "")

    def _living(self) -> list[Line]:
        return [line for loop, line in list(self._lines.items()) if not loop.is_closed()]

    def close(self) -> None:
        """Let go of the running event loop's connection; it comes back with the next request."""
        line = self._lines.pop(asyncio.get_running_loop(), None)
        if line is not None:
            line.close()
        self._line = None

    def _here(self, loop: asyncio.AbstractEventLoop) -> Line:
        """The line of this event loop; those of loops that have ended are forgotten."""
        for ended in [one for one in [*self._lines] if one.is_closed()]:
            self._lines.pop(ended, None)  # another thread may have been faster
        line = self._lines.get(loop)
        if line is None:
            seen = self._series.duration.observe
            name = f"mahavishnu-{self._whose}"
            line = Line(self._address, name, self._clock, self._probe, self._known, seen)
            self._lines[loop] = line
        self._line = line
        return line

    def _planned(self, charges: Sequence[Charge]) -> Plan:
        if len(self._plans) >= _PLANS:
            self._plans.clear()
        plan = self._plans[id(charges)] = Plan(charges, self._whose)
        return plan

    async def _troubled(self, line: Line, plan: Plan, keys: Sequence[str], answer: Any) -> list[int] | None:
        """What comes of a call that was not answered well: a good answer after all, or None."""
        script, words = self.take_script, plan.words(keys)
        if answer is None and await line.opened():
            answer = await self._answer(line, line.call("EVALSHA", script.name, *words), plan, keys)
        if failure(answer) == "NOSCRIPT":
            answer = await self._answer(line, line.call("EVAL", script.text, *words), plan, keys)
        if isinstance(answer, list):
            return cast("list[int]", answer)
        self._blame(line, answer)
        return None

    async def _answer(
        self, line: Line, asked: asyncio.Future[Any] | None, plan: Plan, keys: Sequence[str]
    ) -> Any:
        """What the server says, None where nobody could be asked; what nobody waits for any more is given back."""
        if asked is None:
            return None
        try:
            answer = await asked
        except asyncio.CancelledError:
            line.desert(asked, partial(self._deserted, plan, keys))
            raise
        if answer is LATE:
            line.desert(asked, partial(self._deserted, plan, keys))
        return answer

    def _blame(self, line: Line, answer: Any) -> None:
        if answer is None:
            self._series.skipped.inc()
            return
        (self._series.timeout if answer is LATE else self._series.error).inc()
        line.judge(answer)

    def _without(self, plan: Plan, keys: Sequence[str], line: Line) -> Taken:
        """The server is lost: what each rate has declared for that."""
        if plan.closing:
            return closed_by_loss(plan, line.retry_after)
        local = self.memory.take(plan.local.charges, plan.local.of(keys))
        return without_store(plan, local, line.retry_after)

    def _with_own(self, taken: Answer, keys: Sequence[str]) -> Taken:
        """Add the rates that hold for this process alone; what they refuse has consumed nothing elsewhere."""
        plan = taken.plan
        own = self.memory.take(plan.own.charges, plan.own.of(keys))
        both = Joined((Part(plan.shared, taken), Part(plan.own, own)))
        if not both.admitted:
            self.give_back(both)
        return both

    def _return(self, taken: Answer) -> None:
        line = self._lines.get(asyncio.get_running_loop())  # the last one used may be another loop's
        if line is None or not line.up:
            return
        words = taken.returned()
        if words:
            asked = line.call("EVALSHA", self.give_back_script.name, *words)
            if asked is not None:
                asked.add_done_callback(partial(self._returned, line, words))

    def _deserted(self, plan: Plan, keys: Sequence[str], answer: Any) -> None:
        """What was charged for a request that has ended meanwhile, or goes on without it."""
        if isinstance(answer, list):
            self._return(Answer(plan, keys, cast("list[int]", answer)))

    def _returned(self, line: Line, words: Sequence[Word], asked: asyncio.Future[Any]) -> None:
        answer = None if asked.cancelled() else asked.result()
        if failure(answer) == "NOSCRIPT":
            line.call("EVAL", self.give_back_script.text, *words)
        elif type(answer) is int:
            self._series.ok.inc()
        else:
            self._blame(line, answer)

    async def _probe(self, link: Link) -> object:
        """Run both scripts, as requests will: this is also how the server comes to know them."""
        key, take, back = f"{tag(self._whose)}:probe", self.take_script, self.give_back_script
        undone = ("1", key, _RULE, "1", "0", "0", "0")
        asked = (
            link.call("EVAL", take.text, "1", key, _RULE, "0", "1"),
            link.call("EVAL", back.text, *undone),
            link.call("EVALSHA", back.name, *undone),
        )
        self._memory.ask(link)
        answers = [await one for one in asked]
        return next((one for one in answers if one in (LATE, GONE) or failure(one)), answers[0])


def _told(told: Callable[[int], object], asked: asyncio.Future[Any]) -> None:
    left = None if asked.cancelled() else asked.result()
    if type(left) is int and left > 0:
        told(left * 1_000_000)
