"""The real clock: the operating system's monotonic time, asyncio's timers, and real sleep."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from mahavishnu.policy import Clock, Handle

_SECOND = 1_000_000_000


class SystemClock:
    """Implements `policy.Clock`; every time and delay is in nanoseconds."""

    def now(self) -> int:
        """Monotonic time: only differences mean something."""
        return time.monotonic_ns()

    def call_later(self, delay: int, call: Callable[[], object]) -> Handle:
        """Run `call` on the running event loop after the delay; raises RuntimeError where no loop runs."""
        return asyncio.get_running_loop().call_later(delay / _SECOND, call)

    async def sleep(self, delay: int) -> None:
        """Let other tasks run for this long."""
        await asyncio.sleep(delay / _SECOND)

    def pause(self, delay: int) -> None:
        """Block this thread for this long."""
        time.sleep(delay / _SECOND)

    def wait(self, event: threading.Event, delay: int) -> None:
        """Block this thread until the event is set, at most this long."""
        event.wait(delay / _SECOND)


_PROCESS: list[Clock] = [SystemClock()]


def process_clock() -> Clock:
    """The clock of whatever starts in this process now: the real one, but in tests that replace it."""
    return _PROCESS[-1]


@contextmanager
def replaced(clock: Clock) -> Generator[None, None, None]:
    """Within the block, everything that starts reads this clock; for tests."""
    _PROCESS.append(clock)
    try:
        yield
    finally:
        _PROCESS.remove(clock)
