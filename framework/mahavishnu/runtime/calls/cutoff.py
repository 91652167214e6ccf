"""End the current task's work at a time of the injected clock, as asyncio.timeout does on the loop's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

from mahavishnu.protocols import Handle

Timer = Callable[[int, Callable[[], object]], Handle]
"""How a clock sets a timer: its `deadline` for delays that recur, its `call_later` for all others."""


class Cutoff:
    """An async context manager: past its time the body is cancelled, and TimeoutError leaves the block.

    A cancellation from outside stays a cancellation. `restart` moves the time, `stop` lifts it; `on_expiry` is
    called when the time is over, before the cancellation.
    """

    __slots__ = ("_cancelling", "_delay", "_on_expiry", "_set", "_task", "_timer", "expired")

    def __init__(
        self,
        timer: Timer,
        delay: int | None,
        on_expiry: Callable[[], object] | None = None,
    ) -> None:
        self._set = timer
        self._delay = delay
        self._on_expiry = on_expiry
        self._task: asyncio.Task[object] | None = None
        self._timer: Handle | None = None
        self._cancelling = 0
        self.expired = False

    def begin(self) -> None:
        """Limit what the current task does from now on; `end` must follow in the same task."""
        self._task = asyncio.current_task()
        self._cancelling = self._task.cancelling() if self._task else 0
        self.restart(self._delay)

    def end(self, error: BaseException | None) -> bool:
        """Lift the limit; whether the error that ends the block is the cancellation of this very cutoff."""
        if self._timer is not None:
            self.stop()
        task, self._task = self._task, None
        self._on_expiry = None  # with it no cycle is left for the garbage collector
        if not self.expired or task is None:
            return False
        outside = task.uncancel() > self._cancelling
        return isinstance(error, asyncio.CancelledError) and not outside

    async def __aenter__(self) -> Self:
        self.begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.end(error):
            raise TimeoutError from error

    def restart(self, delay: int | None) -> None:
        """Count from now again; None lifts the limit."""
        self.stop()
        if delay is not None:
            self._timer = self._set(delay, self._expire)

    def stop(self) -> None:
        """Lift the limit."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        # By way of the loop: whoever moves a virtual clock may be another thread, or the very task.
        if self._task is not None:
            self._timer = self._task.get_loop().call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        self.expired = True
        if self._on_expiry is not None:
            self._on_expiry()
        if self._task is not None:
            self._task.cancel()
