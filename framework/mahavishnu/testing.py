"""For tests of services: a clock that stands still until it is told to move, as a class and a pytest fixture."""

# This module is the pytest plugin `mahavishnu`; its fixtures exist only where pytest already runs.

from __future__ import annotations

import asyncio
import heapq
import itertools
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from mahavishnu.clock import replaced
from mahavishnu.errors import MahavishnuError
from mahavishnu.ground.words import meant
from mahavishnu.protocols import Watched
from mahavishnu.signals import AgreementError, Signal, exposed
from mahavishnu.units import Duration


class VirtualClock:
    """Implements `protocols.Clock` in virtual nanoseconds: no test sleeps, and time is exact.

    With `auto`, whoever sleeps moves the time himself, so that retries and waits pass at once. Dead letters are
    kept in memory.
    """

    runs = False

    def __init__(self, start: int = 0, *, auto: bool = False) -> None:
        self.auto = auto
        self._now = start
        self._timers: list[_Timer] = []
        self._order = itertools.count()
        self._lock = threading.RLock()

    def now(self) -> int:
        """The virtual time in nanoseconds."""
        return self._now

    def advance(self, by: int | str) -> None:
        """Move the time by nanoseconds, a Duration or a text like `30s`; what comes due runs at its own time.

        Whoever sleeps in a task is woken now and goes on when the event loop next runs: see `settle`.
        """
        until = self._now + (Duration.parse(by) if isinstance(by, str) else by)
        while (due := self._due(until)) is not None:
            due.call()
        with self._lock:
            self._now = max(self._now, until)

    def stall(self, by: int | str) -> None:
        """Move the time while nothing runs, as a handler does that blocks: what came due meanwhile runs late."""
        with self._lock:
            self._now += Duration.parse(by) if isinstance(by, str) else by
        self.advance(0)

    async def settle(self, turns: int = 20) -> None:
        """Let every task that can go on do so, for this many turns of the event loop."""
        for _ in range(turns):
            await asyncio.sleep(0)

    def call_later(self, delay: int, call: Callable[[], object]) -> _Timer:
        """Run `call` once the time has moved this far, in the thread that moves it."""
        with self._lock:
            timer = _Timer(self._now + max(0, delay), next(self._order), call)
            heapq.heappush(self._timers, timer)
        return timer

    def deadline(self, delay: int, call: Callable[[], object]) -> _Timer:
        """As `call_later`."""
        return self.call_later(delay, call)

    def watch(self, watched: Watched, loop: object, now: int, delay: int) -> None:  # noqa: ARG002 - time moves for all
        """Let it `expire` this long after now, unless its `due` is 0 by then."""
        watched.due = now + delay
        with self._lock:
            heapq.heappush(self._timers, _Watch(watched, next(self._order)))

    def watch_once(self, watched: Watched, loop: object, now: int, delay: int) -> None:
        """As `watch`."""
        self.watch(watched, loop, now, delay)

    async def sleep(self, delay: int) -> None:
        """Wait in virtual time; with `auto`, move it."""
        if self.auto:
            self.advance(delay)
            await asyncio.sleep(0)
            return
        loop = asyncio.get_running_loop()
        woken: asyncio.Future[None] = loop.create_future()
        timer = self.call_later(delay, lambda: _wake(loop, woken))
        try:
            await woken
        finally:
            timer.cancel()

    def pause(self, delay: int) -> None:
        """Block this thread in virtual time until another moves it; with `auto`, move it."""
        self.wait(threading.Event(), delay)

    def wait(self, event: threading.Event, delay: int) -> None:
        """Block this thread until the event is set, or the time has moved this far; with `auto`, move it."""
        if self.auto:
            if not event.is_set():
                self.advance(delay)
            return
        timer = self.call_later(delay, event.set)
        event.wait()
        timer.cancel()

    @property
    def timers(self) -> int:
        """How many timers are set and not called off: 0 when nothing was left behind."""
        with self._lock:
            return sum(not timer.off for timer in self._timers)

    def _due(self, until: int) -> _Timer | None:
        with self._lock:
            while self._timers and self._timers[0].at <= until:
                timer = heapq.heappop(self._timers)
                if not timer.off:
                    self._now = max(self._now, timer.at)
                    return timer
            return None


class _Timer:
    """A call that is due at a time; those of one time run in the order in which they were set."""

    __slots__ = ("_order", "at", "call", "cancelled")

    def __init__(self, at: int, order: int, call: Callable[[], object]) -> None:
        self.at = at
        self.call = call
        self.cancelled = False
        self._order = order

    @property
    def off(self) -> bool:
        return self.cancelled

    def cancel(self) -> None:
        self.cancelled = True

    def __lt__(self, other: _Timer) -> bool:
        return (self.at, self._order) < (other.at, other._order)


class _Watch(_Timer):
    """One that is called off where it is looked at."""

    __slots__ = ("_watched",)

    def __init__(self, watched: Watched, order: int) -> None:
        super().__init__(watched.due, order, watched.expire)
        self._watched = watched

    @property
    def off(self) -> bool:
        return self._watched.due != self.at


def _wake(loop: asyncio.AbstractEventLoop, woken: asyncio.Future[None]) -> None:
    def wake() -> None:
        if not woken.done():
            woken.set_result(None)

    if _running() is loop:
        wake()
    else:
        loop.call_soon_threadsafe(wake)


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class Hardened:
    """What a test has of the service it drives: the virtual clock, every series as a scrape finds it, and faults."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock

    def series(self, name: str, **labels: str) -> float:
        """The sum of a series' samples whose labels include these; 0 when there is none, or no service yet.

        Raises MahavishnuError for a name, a label or a value that the service never shows: it would be 0 for ever.
        """
        from mahavishnu.runtime.current import current  # only those who run a service pay for the runtime

        service = current()
        if service is None:
            return 0.0
        _known(service.contract.signals.values(), name, labels)
        return service.metrics.total(name, labels)

    def trip(self, dependency: str) -> None:
        """Open the breaker of a dependency at once, as its failures would: for its `open_for`, then it lets probes in.

        Raises MahavishnuError for a dependency that the spec has not, or whose breaker cannot open.
        """
        from mahavishnu import dependencies

        breaker = dependencies.dependency(dependency).guard().breaker
        if breaker is None:
            raise MahavishnuError(f"the dependency `{dependency}` has no breaker")
        if not breaker.trip():
            raise MahavishnuError(f"the breaker of `{dependency}` is held by its `mode`")


def _known(signals: Iterable[Signal], name: str, labels: Mapping[str, str]) -> None:
    shown = exposed(signals)
    if name not in shown:
        raise MahavishnuError(f"the service shows no series `{name}`: {meant(name, shown)}")
    try:
        for label, value in labels.items():
            if label != "le":
                shown[name].check_value(label, "=", value)
    except AgreementError as fault:
        raise MahavishnuError(str(fault)) from None


def _start_anew() -> None:
    from mahavishnu.asgi import MADE
    from mahavishnu.runtime.current import forget

    forget()
    for one in [*MADE]:
        one.start_anew()


if TYPE_CHECKING or "pytest" in sys.modules:
    import pytest

    @pytest.fixture
    def hardening() -> Iterator[Hardened]:
        """Every middleware and dependency runs on one virtual clock in this test, and nothing sleeps.

        All of them start anew, with the spec's file as it is then: also those of an app that other tests ask, too.
        The clock moves where the code waits by it. A time in the real world, like a fake dependency's `sleep`, moves
        nothing, so no timeout ends it: let the fake wait for ever, ask in a task, `await clock.settle()`, and
        `clock.advance("2s")`.
        """
        clock = VirtualClock(auto=True)
        _start_anew()
        with replaced(clock):
            yield Hardened(clock)
        _start_anew()

    @pytest.fixture
    def virtual_clock() -> VirtualClock:
        """A clock that stands still until the test moves it."""
        return VirtualClock()
