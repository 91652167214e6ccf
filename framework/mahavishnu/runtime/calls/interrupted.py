"""A call that is cancelled in the pause before its next attempt: the cancellation tells how the last one had failed."""

from __future__ import annotations

from asyncio import CancelledError
from typing import Any

from mahavishnu.protocols import Clock

_FAILURE = "_mahavishnu_failure"


async def pause(clock: Clock, delay: int, guard: object, failure: object) -> None:
    """Wait this long (ns) after an attempt of a guard's call that has failed by this error or answer."""
    try:
        await clock.sleep(delay)
    except CancelledError as cancelled:
        cancelled.__dict__[_FAILURE] = (guard, failure)
        raise
    finally:
        del failure  # an error whose frame holds it would live until the garbage collector comes


def failure_before(cancelled: CancelledError, guard: object) -> Any:
    """What was known when a call of this very guard was cancelled in a pause, told once; None outside of one."""
    of, failure = cancelled.__dict__.get(_FAILURE, (None, None))
    if of is not guard:
        return None
    del cancelled.__dict__[_FAILURE]
    return failure
