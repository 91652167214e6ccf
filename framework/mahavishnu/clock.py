"""The real clock: the operating system's monotonic time, asyncio's timers, and real sleep."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import Context
from heapq import heapify, heappop, heappush
from typing import Protocol
from weakref import WeakKeyDictionary, ref

from mahavishnu.protocols import Clock, Handle, Watched
from mahavishnu.units import SECOND

_FEW = 128
_UNARMED = -1


class SystemClock:
    """Implements `protocols.Clock`; every time and delay is in nanoseconds."""

    runs = True

    def __init__(self) -> None:
        self._queues: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[int, _Queue]] = WeakKeyDictionary()
        self._latest: tuple[Callable[[], object], dict[int, _Queue]] = _no_loop, {}
        self._heaps: WeakKeyDictionary[asyncio.AbstractEventLoop, _Heap] = WeakKeyDictionary()

    now = staticmethod(time.monotonic_ns)
    """Monotonic time: only differences mean something."""

    def call_later(self, delay: int, call: Callable[[], object]) -> Handle:
        """Run `call` on the running event loop after the delay; raises RuntimeError where no loop runs."""
        return asyncio.get_running_loop().call_later(delay / SECOND, call)

    def deadline(self, delay: int, call: Callable[[], object]) -> Handle:
        """As `call_later`, for one of a few delays that recur: all of one delay share a timer of the loop."""
        one = _Deadline(time.monotonic_ns() + delay, call)
        self._queue(asyncio.get_running_loop(), delay).add(one)
        return one

    def watch(self, watched: Watched, loop: asyncio.AbstractEventLoop, now: int, delay: int) -> None:
        """Let it `expire` this long after now, unless its `due` is 0 by then: one append, on its task's event loop."""
        watched.due = now + delay
        known, queues = self._latest
        queue = queues[delay] if known() is loop and delay in queues else self._queue(loop, delay)
        waiting = queue.waiting
        waiting.append(watched)
        if len(waiting) > queue.room:
            queue.tend()

    def watch_once(self, watched: Watched, loop: asyncio.AbstractEventLoop, now: int, delay: int) -> None:
        """As `watch`, for a delay like no other."""
        watched.due = now + delay
        heap = self._heaps.get(loop)
        if heap is None:
            heap = self._heaps[loop] = _Heap()
        heap.add(watched)

    def _queue(self, loop: asyncio.AbstractEventLoop, delay: int) -> _Queue:
        known, queues = self._latest
        if known() is not loop:
            queues = self._of(loop)
        queue = queues.get(delay)
        if queue is None:
            queue = queues[delay] = _Queue(delay)
        return queue

    def _of(self, loop: asyncio.AbstractEventLoop) -> dict[int, _Queue]:
        queues = self._queues.setdefault(loop, {})
        self._latest = ref(loop, self._forget), queues
        return queues

    def _forget(self, _: object) -> None:
        self._latest = _no_loop, {}

    async def sleep(self, delay: int) -> None:
        """Let other tasks run for this long."""
        await asyncio.sleep(delay / SECOND)

    def pause(self, delay: int) -> None:
        """Block this thread for this long."""
        time.sleep(delay / SECOND)

    def wait(self, event: threading.Event, delay: int) -> None:
        """Block this thread until the event is set, at most this long."""
        event.wait(delay / SECOND)


def _no_loop() -> None:
    """What no running loop is."""


class _Due(Protocol):
    """What waits in a queue: called off when `due` is 0."""

    due: int

    def expire(self) -> None: ...


class _Deadline:
    """One call that is due at a time, unless it is called off."""

    __slots__ = ("_call", "due")

    def __init__(self, due: int, call: Callable[[], object]) -> None:
        self.due = due
        self._call: Callable[[], object] | None = call

    def cancel(self) -> None:
        """Never call, and let go of it."""
        self.due, self._call = 0, None

    def expire(self) -> None:
        """Call, unless it was called off meanwhile."""
        call = self._call
        self.cancel()
        if call is not None:
            call()


class _Queue:
    """Deadlines of one delay on one event loop: first come, first due; one timer serves them all.

    Those that were called off stay until their turn, or until they are as many as the others: they hold nothing.
    """

    __slots__ = ("_delay", "room", "waiting")

    def __init__(self, delay: int) -> None:
        self._delay = delay
        self.waiting: deque[_Due] = deque()
        self.room = _UNARMED
        """With more of them than this, `tend` must be called."""

    def add(self, one: _Due) -> None:
        self.waiting.append(one)
        self.tend()

    def tend(self) -> None:
        """After something was added."""
        if self.room == _UNARMED:
            self._arm(self._delay)
        elif len(self.waiting) > self.room:
            self.waiting = deque(one for one in self.waiting if one.due)
            self.room = max(_FEW, 2 * len(self.waiting))

    def _arm(self, delay: int) -> None:
        # In a context of its own: the timer is nobody's in particular, and keeps nobody's alive.
        asyncio.get_running_loop().call_later(delay / SECOND, self._ring, context=Context())
        self.room = max(_FEW, 2 * len(self.waiting))

    def _ring(self) -> None:
        self.room = _UNARMED
        loop, now, waiting = asyncio.get_running_loop(), time.monotonic_ns(), self.waiting
        while waiting and waiting[0].due <= now:
            one = waiting.popleft()
            if one.due:
                loop.call_soon(one.expire)
        if waiting:
            self._arm(waiting[0].due - now)


class _Heap:
    """As a queue, for delays of any length: a timer for the first that is due.

    Those that were called off stay until they are the first, or as many as the others. A timer that was set for one
    later serves whoever is first by then; none is kept, for it has its event loop, which would live as long as this.
    """

    __slots__ = ("_order", "_rings", "_room", "_waiting")

    def __init__(self) -> None:
        self._order = itertools.count()
        self._rings: list[int] = []
        """When timers do, the first one first."""
        self._room = _FEW
        self._waiting: list[tuple[int, int, _Due]] = []

    def add(self, one: _Due) -> None:
        waiting = self._waiting
        heappush(waiting, (one.due, next(self._order), one))
        if not self._rings or one.due < self._rings[0]:
            self._arm(one.due)
        elif len(waiting) > self._room:
            waiting[:] = [entry for entry in waiting if entry[2].due]
            heapify(waiting)
            self._room = max(_FEW, 2 * len(waiting))

    def _arm(self, due: int) -> None:
        heappush(self._rings, due)
        delay = (due - time.monotonic_ns()) / SECOND
        asyncio.get_running_loop().call_later(delay, self._ring, context=Context())

    def _ring(self) -> None:
        heappop(self._rings)
        loop, now, waiting = asyncio.get_running_loop(), time.monotonic_ns(), self._waiting
        while waiting and (waiting[0][0] <= now or not waiting[0][2].due):
            one = heappop(waiting)[2]
            if one.due:
                loop.call_soon(one.expire)
        if waiting and (not self._rings or waiting[0][0] < self._rings[0]):
            self._arm(waiting[0][0])


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
