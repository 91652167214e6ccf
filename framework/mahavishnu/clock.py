"""The real clock: the operating system's monotonic time, asyncio's timers, and real sleep."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import Context
from weakref import WeakKeyDictionary, ref

from mahavishnu.policy import Clock, Handle

_SECOND = 1_000_000_000
_FEW = 64


class SystemClock:
    """Implements `policy.Clock`; every time and delay is in nanoseconds."""

    runs = True

    def __init__(self) -> None:
        self._queues: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[int, _Queue]] = WeakKeyDictionary()
        self._latest: tuple[Callable[[], object], dict[int, _Queue]] = _no_loop, {}

    now = staticmethod(time.monotonic_ns)
    """Monotonic time: only differences mean something."""

    def call_later(self, delay: int, call: Callable[[], object]) -> Handle:
        """Run `call` on the running event loop after the delay; raises RuntimeError where no loop runs."""
        return asyncio.get_running_loop().call_later(delay / _SECOND, call)

    def deadline(self, delay: int, call: Callable[[], object]) -> Handle:
        """As `call_later`, for one of a few delays that recur: all of one delay share a timer of the loop."""
        known, queues = self._latest
        if known() is not asyncio.get_running_loop():
            queues = self._of_loop()
        queue = queues.get(delay)
        if queue is None:
            queue = queues[delay] = _Queue(delay)
        return queue.add(call)

    def _of_loop(self) -> dict[int, _Queue]:
        """The queues of the running loop."""
        loop = asyncio.get_running_loop()
        queues = self._queues.setdefault(loop, {})
        self._latest = ref(loop, self._forget), queues
        return queues

    def _forget(self, _: object) -> None:
        self._latest = _no_loop, {}

    async def sleep(self, delay: int) -> None:
        """Let other tasks run for this long."""
        await asyncio.sleep(delay / _SECOND)

    def pause(self, delay: int) -> None:
        """Block this thread for this long."""
        time.sleep(delay / _SECOND)

    def wait(self, event: threading.Event, delay: int) -> None:
        """Block this thread until the event is set, at most this long."""
        event.wait(delay / _SECOND)


def _no_loop() -> None:
    """What no running loop is."""


class _Deadline:
    """One call that is due at a time, unless it is called off."""

    __slots__ = ("_queue", "call", "due")

    def __init__(self, queue: _Queue, due: int, call: Callable[[], object]) -> None:
        self._queue = queue
        self.due = due
        self.call: Callable[[], object] | None = call

    def cancel(self) -> None:
        """Never call, and let go of it."""
        if self.call is not None:
            self.call = None
            self._queue.live -= 1

    def run(self) -> None:
        """Call, unless it was called off meanwhile."""
        call = self.call
        self.cancel()
        if call is not None:
            call()


class _Queue:
    """Deadlines of one delay on one event loop: first come, first due; one timer serves them all."""

    __slots__ = ("_armed", "_delay", "_waiting", "live")

    def __init__(self, delay: int) -> None:
        self._delay = delay
        self._waiting: deque[_Deadline] = deque()
        self._armed = False
        self.live = 0

    def add(self, call: Callable[[], object]) -> _Deadline:
        if len(self._waiting) > _FEW + 2 * self.live:
            self._waiting = deque(one for one in self._waiting if one.call is not None)
        one = _Deadline(self, time.monotonic_ns() + self._delay, call)
        self._waiting.append(one)
        self.live += 1
        if not self._armed:
            self._arm(self._delay)
        return one

    def _arm(self, delay: int) -> None:
        # In a context of its own: the timer is nobody's in particular, and keeps nobody's alive.
        asyncio.get_running_loop().call_later(delay / _SECOND, self._ring, context=Context())
        self._armed = True

    def _ring(self) -> None:
        self._armed = False
        loop, now = asyncio.get_running_loop(), time.monotonic_ns()
        while self._waiting and (self._waiting[0].call is None or self._waiting[0].due <= now):
            one = self._waiting.popleft()
            if one.call is not None:
                loop.call_soon(one.run)
        if self._waiting:
            self._arm(self._waiting[0].due - now)


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
