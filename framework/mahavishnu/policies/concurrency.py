"""How many requests run at once, how many may wait for how long, and which of them go first and last."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from mahavishnu.ground.unfit import unfit
from mahavishnu.policies._gradient import LEAST, START, Gradient
from mahavishnu.policies._places import CRITICAL, NORMAL, RANKS, SHEDDABLE, Places
from mahavishnu.policies._slowdown import ANY, Kind
from mahavishnu.policy import Limit, Match, camel
from mahavishnu.promql import lowest, total
from mahavishnu.protocols import Clock, Gate, Meter, Refusal
from mahavishnu.series import (
    LIMIT_DECISIONS,
    LIMIT_FOUND,
    LIMIT_IN_FLIGHT,
    LIMIT_NEAR,
    LIMIT_PLACES,
    LIMIT_QUEUED,
    LIMIT_QUOTA,
    LIMIT_SHED,
    LIMIT_UTILISATION,
)
from mahavishnu.settings import Count
from mahavishnu.signals import WINDOW, Alert, Feed, Severity, Signal
from mahavishnu.units import Duration

if TYPE_CHECKING:  # what only reads a spec loads no event loop
    import asyncio

_HOLD = Duration.parse("5m")
_SOON = Duration.parse("2m")
_NEARLY_FULL = Decimal("0.9")
_REFUSED_RATIO = Decimal("0.01")
_MOST = 1000
_LATELY = 10_000_000_000  # ns: so long an event loop that was late is taken for one that will be
_FLOOR = Decimal("1.5")  # an adaptive limit that has come down to this protects a service that hardly works


class Concurrency(Limit):
    """At most so many matching requests at once; the rest wait in a bounded queue or are refused."""

    keyword: ClassVar[str] = "concurrency"

    concurrency: Count | Literal["adaptive"]
    """How many requests run at once in one process; `adaptive` finds out how many it can do.

    It compares how long answers take with what is usual for their route and method.
    """
    max: Count | None = None
    """The most that `adaptive` goes up to, by default 1000."""
    queue: Annotated[int, Field(strict=True, ge=0, le=1_000_000)] = 0
    """How many more may wait for a place; `critical` ones always may, up to as many as there are places."""
    wait: Duration = Duration.parse("1s")
    """How long one of them waits at the most; 5ms while the queue never empties."""
    critical: Annotated[tuple[Match, ...], Field(max_length=100)] = ()
    """Requests that are turned away last: one place in ten is kept for them, and they go first in the queue."""
    sheddable: Annotated[tuple[Match, ...], Field(max_length=100)] = ()
    """Requests that are turned away first: one place in ten is kept from them, and they go last in the queue."""

    @model_validator(mode="after")
    def _max_is_for_adaptive(self) -> Concurrency:
        if self.max is not None and self.concurrency != "adaptive":
            what = f"`max` says how far `adaptive` goes, but concurrency is {self.concurrency}"
            raise unfit(what, "remove `max`, or write `concurrency: adaptive`")
        return self

    @model_validator(mode="after")
    def _wait_is_for_a_queue(self) -> Concurrency:
        if "wait" in self.model_fields_set and not (self.queue or self.critical):
            what = f"`wait` is {self.wait}, but `queue` is 0, so that nobody waits"
            raise unfit(what, "say how many may wait (`queue`), or remove `wait`")
        return self

    @property
    def adaptive(self) -> bool:
        """Whether the limit is found, not said."""
        return self.concurrency == "adaptive"

    @property
    def most(self) -> int:
        """The number of places, or the most that an adaptive limit goes up to."""
        return (self.max or _MOST) if self.concurrency == "adaptive" else self.concurrency

    @property
    def ranked(self) -> bool:
        """Whether some requests matter more than others."""
        return bool(self.critical or self.sheddable)

    def number(self) -> float:
        return self.most

    def rank(self, route: str, method: str) -> int:
        """0 for critical, 1 for normal, 2 for sheddable requests; who is both is critical."""
        if any(one.meets(route, method) for one in self.critical):
            return CRITICAL
        return SHEDDABLE if any(one.meets(route, method) for one in self.sheddable) else NORMAL

    def signals(self, name: str) -> tuple[Signal, ...]:
        shed = (LIMIT_SHED.closed(limit=name),) if self.ranked else ()
        gauges = LIMIT_IN_FLIGHT.closed(limit=name), LIMIT_QUEUED.closed(limit=name)
        return (*super().signals(name), *gauges, *shed)

    def bounds(self, name: str) -> tuple[tuple[Signal, Decimal], ...]:
        places = (LIMIT_IN_FLIGHT, Decimal(self.most)), (LIMIT_QUEUED, Decimal(self.queue))
        (_, number), *others = super().bounds(name)
        return (LIMIT_FOUND if self.adaptive else LIMIT_PLACES, number), *others, *places

    def alerts(self, name: str) -> tuple[Alert, ...]:
        full = (self._saturated(name),) if not self.adaptive else ()
        floor = (self._at_floor(name),) if self.adaptive and self.most >= _FLOOR else ()
        critical = (self._shedding_critical(name),) if self.critical else ()
        return (*full, *floor, self._refusing(name), *critical)

    def _saturated(self, name: str) -> Alert:
        running, quota = (one.lately(limit=name) for one in (LIMIT_IN_FLIGHT, LIMIT_QUOTA))
        return Alert(
            name=f"Limit{camel(name)}Saturated",
            severity=Severity.P2,
            expr=running / quota > _NEARLY_FULL,
            hold=_HOLD,
            summary=f"Limit {name} is $value full: nearly all of its {self.concurrency} places are taken.",
            unit="ratio",
            meaning=f"More than 90% of the {self.concurrency} places of limit {name} are taken, for {_HOLD}.",
            impact="The next requests wait, and are refused when the queue is full."
            if self.mode == "enforce"
            else "None yet (observe): nobody waits or is refused.",
            action=f"Find what keeps requests running; raise limits.{name}.concurrency if there is room.",
            path=("limits", name),
            proof=(
                Feed(LIMIT_IN_FLIGHT.select(limit=name), healthy=0, faulty=self.most),
                Feed(LIMIT_QUOTA.select(limit=name), healthy=self.most, faulty=self.most),
            ),
        )

    def _at_floor(self, name: str) -> Alert:
        """An adaptive limit is full whenever there is more to do than can be done; low is what it must not be.

        It is averaged, because at the floor it tries one more now and then, and above it is drained to a half. One that
        holds nobody back is not asked to grow: it stays low for as long as few come.
        """
        quota, each = LIMIT_QUOTA.select(limit=name), ("limit", "instance")
        lately = quota.over(WINDOW, "avg_over_time")
        decisions = LIMIT_DECISIONS.closed(limit=name)
        waited = total(LIMIT_NEAR.rate(WINDOW, limit=name), *each)
        refused = total(decisions.rate(WINDOW, limit=name, outcome=self.denial), *each)
        return Alert(
            name=f"Limit{camel(name)}AtFloor",
            severity=Severity.P2,
            expr=(lowest(lately, *each) < _FLOOR).and_(waited + refused > 0),
            hold=_HOLD,
            summary=f"Limit {name} has come down to $value: the process gets nothing done side by side.",
            meaning=f"Every further request only made the others slower, for {_HOLD}, and more wanted to come in: what "
            "they need is busy.",
            impact="Requests are served one by one, and refused as soon as a few come together."
            if self.mode == "enforce"
            else "None yet (observe); enforced, requests would be served one by one.",
            action=f"Find what all requests of limits.{name} wait for: a lock, a pool, a dependency, the processor.",
            path=("limits", name),
            proof=(
                Feed(quota, healthy=min(START, self.most), faulty=LEAST),
                Feed(LIMIT_NEAR.select(limit=name), healthy=0, faulty=60),
                Feed(decisions.select(limit=name, outcome=self.denial), healthy=0, faulty=30),
            ),
        )

    def _refusing(self, name: str) -> Alert:
        decisions = LIMIT_DECISIONS.closed(limit=name)
        places = "as many as it can do" if self.adaptive else f"all {self.concurrency} places"
        return Alert(
            name=f"Limit{camel(name)}QueueFull",
            severity=Severity.P2,
            expr=self.share(name) > _REFUSED_RATIO,
            bad=self.denied(name),
            hold=_HOLD,
            summary=f"Limit {name} finds no place for $value of its requests.",
            unit="ratio",
            meaning=f"More than 1% of the requests found {places} and the queue of "
            f"{self.queue} full, or waited longer than {self.wait}.",
            impact=f"They {'are' if self.mode == 'enforce' else 'would be'} refused with 503.",
            action=f"Find what keeps requests running; then weigh `queue` against `wait` of limits.{name}.",
            path=("limits", name),
            proof=(
                Feed(decisions.select(limit=name, outcome="allowed"), healthy=600, faulty=570),
                Feed(decisions.select(limit=name, outcome=self.denial), healthy=0, faulty=30),
            ),
        )

    def _shedding_critical(self, name: str) -> Alert:
        shed = LIMIT_SHED.closed(limit=name)
        return Alert(
            name=f"Limit{camel(name)}ShedsCritical",
            severity=Severity.P1,
            # No longer a window than it waits, so that no single moment can raise it.
            expr=total(shed.rate(_SOON, limit=name, rank="critical")) > 0,
            hold=_SOON,
            summary=f"Limit {name} turns away $value critical requests a second.",
            meaning=f"Critical requests go before all others of limit {name}, and still some find no place.",
            impact=f"What matters most {'is' if self.mode == 'enforce' else 'would be'} refused with 503.",
            action="There is more critical work than the process can do: add replicas, or find what slows it down.",
            path=("limits", name, "critical"),
            proof=(Feed(shed.select(limit=name, rank="critical"), healthy=0, faulty=30),),
        )

    def gate(self, name: str, clock: Clock, meter: Meter, before: Gate | None = None) -> Gate:
        """The places of this limit in this process."""
        slots = before if isinstance(before, Slots) else Slots.of(self, clock)
        meter.gauge(LIMIT_IN_FLIGHT, lambda: slots.running, limit=name)
        meter.gauge(LIMIT_QUEUED, lambda: slots.waiting, limit=name)
        meter.gauge(LIMIT_FOUND if self.adaptive else LIMIT_PLACES, lambda: slots.places, limit=name)
        for rank, word in enumerate(RANKS if self.ranked else ()):
            slots.shed[rank] = meter.counter(LIMIT_SHED, limit=name, rank=word).inc
        meter.gauge(LIMIT_UTILISATION, lambda: min(slots.running / slots.places, 1), limit=name)
        return slots


def _uncounted() -> None:
    """Where all ranks are equal."""


class Slots:
    """A gate: places for requests, and a queue for those that find none. Belongs to one event loop.

    When not enforced nobody waits or is refused: every request is let in, and told what would have happened.
    """

    def __init__(
        self,
        places: Places,
        wait: int,
        clock: Clock,
        *,
        gradient: Gradient | None = None,
        enforced: bool = True,
    ) -> None:
        self.room = places
        self.patience = wait
        self._clock = clock
        self.gradient = gradient
        self._enforced = enforced
        self._left = 0
        self._late_until = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self.has_room = places.has_room
        self.try_enter = places.take
        """Take a place, if there is one for that rank; needs no event loop."""
        self.shed: list[Callable[[], None]] = [_uncounted] * len(RANKS)

    @classmethod
    def of(cls, limit: Concurrency, clock: Clock) -> Slots:
        """The gate of a limit."""
        enforced = limit.mode == "enforce"
        gradient = Gradient(limit.most, clock.now(), drains=enforced) if limit.adaptive else None
        places = Places(
            gradient.limit if gradient else limit.most,
            limit.queue,
            critical=bool(limit.critical),
            sheddable=bool(limit.sheddable),
        )
        return cls(places, limit.wait, clock, gradient=gradient, enforced=enforced)

    @property
    def running(self) -> int:
        """How many have a place."""
        return self.room.running

    @property
    def waiting(self) -> int:
        """How many wait for one."""
        return self.room.waiting

    @property
    def places(self) -> int:
        """How many may run now."""
        return self.room.limit

    def become(self, limit: Concurrency) -> None:
        """Be as this limit says, with whoever runs and waits; an adaptive one goes on from where it is.

        Where nothing is enforced any more nobody waits: those who come next, past the places, would starve him.
        """
        now = self._clock.now()
        self.patience, self._enforced = limit.wait, limit.mode == "enforce"
        if not limit.adaptive:
            self.gradient = None
        elif self.gradient is None:
            self.gradient = Gradient(limit.most, now, drains=self._enforced)
        else:
            self.gradient.become(limit.most, drains=self._enforced)
        places, gradient = self.room, self.gradient
        places.become(limit.queue, critical=bool(limit.critical), sheddable=bool(limit.sheddable))
        if gradient is None:
            places.resize(limit.most, now)
        else:
            places.resize(gradient.limit, now, gradient.whole)
        if not self._enforced:
            places.let_in()

    async def enter(self, rank: int) -> Refusal | None:
        """Take a place, waiting for one if need be; the refusal says why there was none."""
        if self.try_enter(rank):
            return None
        if self.gradient is not None:
            self.gradient.pressed()
        if not self._enforced:
            self.room.running += 1
            # Nobody waits here: who runs beyond the places stands for who would.
            over = self.room.running > self.room.limit + self.room.spots(rank)
            refusal = Refusal("is full", self.patience, inside=True) if over else None
        else:
            refusal = await self._turn(rank)
        if refusal is not None:
            self.shed[rank]()
        return refusal

    def leave(self, took: int | None, kind: Kind = ANY, *, answered: bool = True) -> None:
        """Free the place; what is learnt from it is how long an answer of this kind `took` to begin, in ns."""
        places, gradient = self.room, self.gradient
        if gradient is None:
            places.leave(self._clock.now() if places.waiting else 0)
            return
        now = self._clock.now()
        if took is not None and gradient.sample(now, took if answered else None, places.running, kind):
            places.resize(gradient.limit, now, gradient.whole)
        if now >= self._late_until:
            places.leave(now)
            return
        # Handlers that compute instead of waiting end in the same turn of the event loop in which they began: they
        # never meet. So while it is late a place is free in the next turn, and none is longer than the limit allows.
        self._left += 1
        loop = _running_loop()
        if loop is None:
            self._free()
        elif self._left == 1 or loop is not self._loop:
            self._loop = loop
            loop.call_soon(self._free)

    def _free(self) -> None:
        """All that has left in the last turn gives its places back."""
        left, self._left = self._left, 0
        now = self._clock.now()
        for _ in range(left):
            self.room.leave(now)

    def lasting(self, took: int | None, kind: Kind) -> bool:
        """An adaptive limit counts what works, not who listens: of those it learns nothing, and would be full."""
        learns = self.gradient is not None
        if learns:
            self.leave(took, kind)
        return learns

    def lagging(self, by: int) -> None:
        """The event loop is late by so many ns: an adaptive limit does not grow meanwhile, or gives way."""
        if self.gradient is not None:
            self._late_until = self._clock.now() + _LATELY
            self.gradient.lagging(by)

    async def _turn(self, rank: int) -> Refusal | None:
        import asyncio

        turn: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def told(given: bool) -> bool:
            waits = not turn.done()
            if waits:
                turn.set_result(_GIVEN if given else _DISPLACED)
            return waits

        waiter = self.room.wait(rank, self._clock.now(), told)
        if waiter is None:
            return Refusal(
                "is full, and so is its queue" if self.room.spots(rank) else "is full", self.patience
            )
        waiting = waiter

        def pass_over() -> None:
            if not turn.done():
                self.room.withdraw(waiting)
                turn.set_result(_LATE)

        timer = self._clock.deadline(self.patience, pass_over)
        try:
            said = await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.result() is _GIVEN:
                # The place was given in the same moment in which the request was given up.
                self.room.leave(self._clock.now())
            raise
        finally:
            timer.cancel()
            self.room.withdraw(waiter)
        return None if said is _GIVEN else Refusal(said, self.patience)


_GIVEN = "has a place"
_DISPLACED = "is overloaded"
_LATE = "had no free place in time"


def _running_loop() -> asyncio.AbstractEventLoop | None:
    import asyncio

    try:
        return asyncio.get_running_loop()
    except RuntimeError:  # a simulation
        return None
