"""What stands in for a call that failed, around everything else: fallback(retry(breaker(bulkhead(timeout(call)))))."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

from mahavishnu.errors import BadAnswer, DependencyError, Parked
from mahavishnu.outcomes.faults import outcome_of, outcome_of_answer
from mahavishnu.outcomes.statuses import status_of
from mahavishnu.protocols import Outcome
from mahavishnu.runtime.calls.interrupted import failure_before
from mahavishnu.runtime.calls.operation import Operation
from mahavishnu.runtime.calls.stand_in import NOTHING, Fallbacks, Ticket
from mahavishnu.runtime.dead_letters.handlers import keyed


def call(guard: Any, operation: Operation, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Make a call in whose place something may stand; raises Parked where it is kept."""
    if _alone(guard, operation):
        return guard.call(operation.function, operation.terms, *args, **kwargs)
    step = _Step(guard.fallbacks, operation, args, kwargs)
    try:
        with keyed(step.key):
            answer = guard.call(operation.function, operation.terms, *args, **kwargs)
    except Exception as fault:
        if not replaceable(fault, guard.within()) or (found := step.instead(fault)) is NOTHING:
            raise
        return found
    if not failed(answer) or guard.within():
        return step.good(answer)
    found = step.instead(bad(guard.name, answer))
    return answer if found is NOTHING else found


async def call_async(
    guard: Any, operation: Operation, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    """As `call`, for a coroutine function."""
    if _alone(guard, operation):
        return await guard.call_async(operation.function, operation.terms, *args, **kwargs)
    step = _Step(guard.fallbacks, operation, args, kwargs)
    try:
        with keyed(step.key):
            answer = await guard.call_async(operation.function, operation.terms, *args, **kwargs)
    except Exception as fault:
        if not replaceable(fault, guard.within()) or (found := await step.instead_async(fault)) is NOTHING:
            raise
        return found
    except asyncio.CancelledError as cancelled:
        if (left := interrupted(cancelled, guard)) is not None:
            step.leave(left)
        raise
    if not failed(answer) or guard.within():
        return step.good(answer)
    found = await step.instead_async(bad(guard.name, answer))
    return answer if found is NOTHING else found


def _alone(guard: Any, operation: Operation) -> bool:
    """Whether nothing is to stand in for this call; whatever the spec says, none is kept that must be made but once."""
    held: Fallbacks | None = guard.fallbacks
    if held is None or operation.own is not None:
        return held is None
    return not operation.terms.repeatable or held.idle()


class _Step:
    """One call of a function, and what may stand in for it: its own code, else what the spec says."""

    def __init__(
        self, fallbacks: Fallbacks, operation: Operation, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        self._fallbacks = fallbacks
        self._own: Any = operation.own
        self._operation = operation
        self._args, self._kwargs = args, kwargs
        stand_in = None if self._own is not None else fallbacks.stand_in
        self._ticket = (
            None if stand_in is None else Ticket(fallbacks, stand_in.noted(operation, args, kwargs))
        )
        self.key = "" if self._ticket is None else self._ticket.key

    def good(self, answer: Any) -> Any:
        if self._ticket is not None and not self._refuses(answer):
            self._ticket.keep(answer)
        return answer

    def _refuses(self, answer: Any) -> bool:
        """Whether it is handed out, and yet no answer to what was asked."""
        failed = self._operation.terms.failed
        return (status_of(answer) or 0) >= 400 or (failed is not None and failed(answer))

    def instead(self, error: Exception) -> Any:
        """What stands in, or NOTHING; raises Parked, and whatever code of its own raises."""
        if self._ticket is not None:
            return _value(self._ticket.instead(error))
        with self._counted():
            return self._own(*self._args, **self._kwargs, error=error)

    async def instead_async(self, error: Exception) -> Any:
        if self._ticket is not None:
            return _value(await self._ticket.instead_async(error))
        with self._counted():
            return await self._own(*self._args, **self._kwargs, error=error)

    def leave(self, error: Exception) -> None:
        if self._ticket is not None:
            self._ticket.leave(error)

    @contextmanager
    def _counted(self) -> Generator[None, None, None]:
        try:
            yield
        except BaseException:
            self._fallbacks.failed("callable")
            raise
        self._fallbacks.served("callable")


def _value(found: Any) -> Any:
    return found if found is NOTHING else found[0]


def interrupted(cancelled: asyncio.CancelledError, guard: Any) -> Exception | None:
    """Why a call had failed that was cancelled in a pause between attempts; None where nothing may stand in."""
    found = failure_before(cancelled, guard)
    if isinstance(found, Exception):
        return found if replaceable(found, guard.within()) else None
    return bad(guard.name, found) if failed(found) and not guard.within() else None


def replaceable(fault: Exception, within: bool) -> bool:
    """Whether something may stand in for a call that failed so: not where it is the caller's own doing.

    `within`: the call was part of another one of the same dependency, which has fallbacks of its own.
    """
    if within or isinstance(fault, Parked):
        return False
    return isinstance(fault, DependencyError) or outcome_of(fault) in (Outcome.FAILURE, Outcome.TIMEOUT)


def failed(answer: object) -> bool:
    """Whether a dependency's answer says that it failed."""
    return outcome_of_answer(answer) is Outcome.FAILURE


def bad(dependency: str, answer: object) -> BadAnswer:
    """Such an answer as an error."""
    return BadAnswer(dependency, answer, status_of(answer) or 0)
