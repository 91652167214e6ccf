"""How many calls to a dependency run at once, and how long the next one waits."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from decimal import Decimal
from threading import Event, Lock
from typing import TYPE_CHECKING, ClassVar

from mahavishnu.errors import BulkheadFull
from mahavishnu.policy import Policy, camel
from mahavishnu.promql import total
from mahavishnu.protocols import Guard, Leaf, Meter, Outcome, Site
from mahavishnu.series import DEPENDENCY_CALLS
from mahavishnu.settings import Count
from mahavishnu.signals import WINDOW, Across, Alert, Feed, Kind, Label, Severity, Signal, Unit
from mahavishnu.units import Duration

if TYPE_CHECKING:  # what only reads a spec loads no event loop
    import asyncio

_FULL_RATIO = Decimal("0.9")
_REFUSED_RATIO = Decimal("0.01")
_ACTION = "See whether {name} became slow; if it did not, raise dependencies.{name}.bulkhead.concurrency."

BULKHEAD_IN_FLIGHT = Signal(
    "mahavishnu_bulkhead_in_flight",
    Kind.GAUGE,
    "Calls that a bulkhead has let out and that still run.",
    (Label("dependency"),),
    across=Across.SUM,
)
BULKHEAD_CAPACITY = Signal(
    "mahavishnu_bulkhead_capacity",
    Kind.GAUGE,
    "How many calls a bulkhead lets run at once.",
    (Label("dependency"),),
    across=Across.SUM,
)
BULKHEAD_REFUSALS = Signal(
    "mahavishnu_bulkhead_refusals_total",
    Kind.COUNTER,
    "Calls that found no place in a bulkhead within its wait.",
    (Label("dependency"),),
    unit=Unit.CALLS,
)


class Bulkhead(Policy):
    """At most so many calls at once in one process; the next waits a moment and is then refused."""

    keyword: ClassVar[str] = "bulkhead"

    concurrency: Count
    """How many calls run at once."""
    wait: Duration | None = None
    """How long a call waits for a place, while there is time for it; not at all when absent."""

    def guard(self, site: Site, before: Guard | None = None) -> BulkheadGuard:
        """The semaphore that enforces this."""
        if isinstance(before, BulkheadGuard):
            before.show(site.meter)
            return before
        return BulkheadGuard(self, site)

    def signals(self, name: str) -> tuple[Signal, ...]:
        every = (BULKHEAD_IN_FLIGHT, BULKHEAD_CAPACITY, BULKHEAD_REFUSALS)
        return tuple(one.closed(dependency=name) for one in every)

    def bounds(self, name: str) -> tuple[tuple[Signal, Decimal], ...]:
        return ((BULKHEAD_IN_FLIGHT, Decimal(self.concurrency)),)

    def alerts(self, name: str) -> tuple[Alert, ...]:
        return (self._saturated(name), self._refusing(name))

    def _saturated(self, name: str) -> Alert:
        in_flight, capacity = (one.closed(dependency=name) for one in (BULKHEAD_IN_FLIGHT, BULKHEAD_CAPACITY))
        return Alert(
            name=f"Dependency{camel(name)}BulkheadSaturated",
            severity=Severity.P2,
            expr=in_flight.lately(dependency=name) / capacity.lately(dependency=name) > _FULL_RATIO,
            hold=Duration.parse("5m"),
            summary=f"$value of the {self.concurrency} places for calls to {name} are taken.",
            unit="ratio",
            meaning=f"Calls to {name} last longer, or are more, than its bulkhead was made for.",
            impact="Calls are about to be refused, or already are.",
            action=_ACTION.format(name=name),
            path=("dependencies", name, "bulkhead"),
            proof=(
                Feed(in_flight.select(dependency=name), healthy=0, faulty=self.concurrency),
                Feed(capacity.select(dependency=name), healthy=self.concurrency, faulty=self.concurrency),
            ),
        )

    def _refusing(self, name: str) -> Alert:
        refusals, calls = BULKHEAD_REFUSALS.closed(dependency=name), DEPENDENCY_CALLS.closed(dependency=name)
        refused = total(refusals.rate(WINDOW, dependency=name))
        return Alert(
            name=f"Dependency{camel(name)}BulkheadRefusing",
            severity=Severity.P2,
            expr=refused / total(calls.rate(WINDOW, dependency=name)) > _REFUSED_RATIO,
            bad=refused,
            hold=Duration.parse("10m"),
            summary=f"The bulkhead of dependency {name} refuses $value of its calls.",
            unit="ratio",
            meaning=f"{self.concurrency} calls to {name} run, and the next found no place in time.",
            impact=f"Requests that need {name} fail, although it may be well.",
            action=_ACTION.format(name=name),
            path=("dependencies", name, "bulkhead"),
            proof=(
                Feed(refusals.select(dependency=name), healthy=0, faulty=60),
                Feed(calls.select(dependency=name, outcome="success"), healthy=600, faulty=540),
                Feed(calls.select(dependency=name, outcome="rejected"), healthy=0, faulty=60),
            ),
        )


class _Waiter:
    """One call in the queue; `granted` says whether the place was handed to it."""

    __slots__ = ("granted", "wake")

    def __init__(self, wake: Callable[[], object]) -> None:
        self.granted = False
        self.wake = wake


class BulkheadGuard:
    """A semaphore for threads and event loops together, first come first served.

    A place that becomes free is handed to the first who waits, so nobody overtakes; whoever is cancelled
    passes on a place that he was handed meanwhile. No lock is held while a call waits or runs.

    `free` and `waiters` are for whoever takes a place without calling: while nobody waits, one less is free. To look
    and to take is one step, for CPython switches threads at calls and at jumps back only.
    """

    def __init__(self, settings: Bulkhead, site: Site) -> None:
        self._name = site.name
        self._clock = site.clock
        self._capacity = settings.concurrency
        self.free: int = settings.concurrency
        self._wait = None if settings.wait is None else int(settings.wait)
        self.waiters: deque[_Waiter] = deque()
        self._lock = Lock()
        self.show(site.meter)

    def show(self, meter: Meter) -> None:
        """Show the places, and count, through this meter."""
        self._refusals = meter.counter(BULKHEAD_REFUSALS, dependency=self._name)
        meter.gauge(BULKHEAD_IN_FLIGHT, lambda: float(self.in_flight), dependency=self._name)
        meter.gauge(BULKHEAD_CAPACITY, lambda: float(self._capacity), dependency=self._name)

    def become(self, settings: Bulkhead, timeout: int | None) -> None:
        """So many places from now on: who is inside stays, who waits gets what has become free."""
        with self._lock:
            self.free += settings.concurrency - self._capacity  # below 0 while more are inside than places
            self._capacity = settings.concurrency
            self._wait = None if settings.wait is None else int(settings.wait)
        self.hand_on()

    @property
    def in_flight(self) -> int:
        """How many calls run now."""
        return self._capacity - self.free

    @property
    def waiting(self) -> int:
        """How many calls wait now."""
        return len(self.waiters)

    def enter(self, left: int | None = None) -> object:
        """Take a place, blocking a thread (no event loop) for at most `wait` and `left` ns; raises BulkheadFull."""
        if self._taken():
            return None
        if _in_event_loop():  # whoever could return a place is blocked meanwhile
            raise self._full()
        event = Event()
        waiter = self._queued(event.set)
        if waiter is None:
            return None
        try:
            self._clock.wait(event, self._patience(left))
        except BaseException:
            self._abandon(waiter)
            raise
        self._settle(waiter)
        return None

    async def enter_async(self, left: int | None = None) -> object:
        """Take a place, letting other tasks run for at most `wait` and `left` ns; raises BulkheadFull."""
        if self._taken():
            return None
        import asyncio

        loop = asyncio.get_running_loop()
        woken: asyncio.Future[None] = loop.create_future()
        waiter = self._queued(lambda: loop.call_soon_threadsafe(_resolve, woken))
        if waiter is None:
            return None
        timer = self._clock.call_later(self._patience(left), waiter.wake)
        try:
            await woken
        except BaseException:
            self._abandon(waiter)
            raise
        finally:
            timer.cancel()
        self._settle(waiter)
        return None

    def leave(
        self,
        permit: object,
        outcome: Outcome,
        duration: int,
        now: int,
        leaves: Sequence[Leaf] = (),
    ) -> None:
        """Return a place."""
        self.give_back()

    def give_back(self) -> None:
        """Return a place: to the first who waits, else to all."""
        self.free += 1
        if self.waiters:
            self.hand_on()

    def hand_on(self) -> None:
        """Places that are free go to those who wait."""
        with self._lock:
            while self.waiters and self.free > 0:
                self.free -= 1  # before he leaves the queue, or who comes just then would take it, too
                waiter = self.waiters.popleft()
                waiter.granted = True
                try:
                    waiter.wake()
                except RuntimeError:  # his event loop is closed: nobody is there to take the place
                    self.free += 1

    def renew(self, permit: object) -> None:
        """A place has no lease."""

    def observed(self, permit: object) -> bool:
        """It is always enforced."""
        return False

    def refuses(self) -> bool:
        """A place may become free at any time."""
        return False

    def busy(self) -> bool:
        """Whether places are being handed on."""
        return self._lock.locked()

    def _patience(self, left: int | None) -> int:
        """How long to wait: who has no time for the call any more needs no place for it."""
        wait = self._wait or 0
        return wait if left is None else min(wait, left)

    def _taken(self) -> bool:
        """Whether a place was free and is now ours; raises BulkheadFull when there is no waiting."""
        if self.free > 0 and not self.waiters:
            self.free -= 1
            return True
        if self._wait is None:
            raise self._full()
        return False

    def _queued(self, wake: Callable[[], object]) -> _Waiter | None:
        """A place in the queue; None when a place in the bulkhead became free just now, and is taken."""
        waiter = _Waiter(wake)
        with self._lock:
            self.waiters.append(waiter)
            # Whoever left before he could see us has left a place; whoever leaves from now on sees us.
            if self.free > 0 and self.waiters[0] is waiter:
                self.free -= 1
                self.waiters.popleft()
                return None
            return waiter

    def _settle(self, waiter: _Waiter) -> None:
        with self._lock:
            if waiter.granted:
                return
            self.waiters.remove(waiter)
        raise self._full()

    def _abandon(self, waiter: _Waiter) -> None:
        with self._lock:
            if not waiter.granted:
                self.waiters.remove(waiter)
                return
        self.give_back()

    def _full(self) -> BulkheadFull:
        self._refusals.inc()
        return BulkheadFull(self._name, "bulkhead", f"all {self._capacity} places of the bulkhead are taken")


def _in_event_loop() -> bool:
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _resolve(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)
