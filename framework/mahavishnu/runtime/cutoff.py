"""End the current task's work at a time of the injected clock, as asyncio.timeout does on the loop's."""

from __future__ import annotations

import asyncio
from types import TracebackType

from mahavishnu.policy import Clock, Handle


class Cutoff:
    """An async context manager: past its time the body is cancelled, and TimeoutError leaves the block.

    A cancellation from outside stays a cancellation. `restart` moves the time, `stop` lifts it.
    """

    def __init__(self, clock: Clock, delay: int | None) -> None:
        self._clock = clock
        self._delay = delay
        self._task: asyncio.Task[object] | None = None
        self._timer: Handle | None = None
        self._cancelling = 0
        self.expired = False

    async def __aenter__(self) -> Cutoff:
        self._task = asyncio.current_task()
        self._cancelling = self._task.cancelling() if self._task else 0
        self.restart(self._delay)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if not self.expired or self._task is None:
            return
        outside = self._task.uncancel() > self._cancelling
        if kind is asyncio.CancelledError and not outside:
            raise TimeoutError from error

    def restart(self, delay: int | None) -> None:
        """Count from now again; None lifts the limit."""
        self.stop()
        if delay is not None:
            self._timer = self._clock.call_later(delay, self._expire)

    def stop(self) -> None:
        """Lift the limit."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        self.expired = True
        if self._task is not None:
            self._task.cancel()
