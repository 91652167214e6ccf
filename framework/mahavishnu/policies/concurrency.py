"""How many requests run at once, and how many may wait for how long."""

from __future__ import annotations

import asyncio
from collections import deque
from decimal import Decimal
from typing import Annotated, ClassVar

from pydantic import Field

from mahavishnu.policy import Clock, Count, Gate, Limit, Meter, Refusal, camel, not_yet
from mahavishnu.promql import total
from mahavishnu.series import LIMIT_DECISIONS, LIMIT_IN_FLIGHT, LIMIT_QUEUED, LIMIT_QUOTA
from mahavishnu.signals import Alert, Feed, Severity, Signal
from mahavishnu.units import Duration

_WINDOW = Duration.parse("5m")
_HOLD = Duration.parse("5m")
_NEARLY_FULL = Decimal("0.9")
_REFUSED_RATIO = Decimal("0.01")


class Concurrency(Limit):
    """At most so many matching requests at once; the rest wait in a bounded queue or are refused."""

    keyword: ClassVar[str] = "concurrency"
    later: ClassVar[frozenset[str]] = frozenset({"max"})

    concurrency: Annotated[Count, not_yet("adaptive")]
    """How many requests run at once in one process."""
    queue: Annotated[int, Field(strict=True, ge=0, le=1_000_000)] = 0
    """How many more may wait for a place."""
    wait: Duration = Duration.parse("1s")
    """How long one of them waits at the most."""

    def number(self) -> float:
        return self.concurrency

    def signals(self, name: str) -> tuple[Signal, ...]:
        return (*super().signals(name), LIMIT_IN_FLIGHT.closed(limit=name), LIMIT_QUEUED.closed(limit=name))

    def alerts(self, name: str) -> tuple[Alert, ...]:
        return (self._saturated(name), self._refusing(name))

    def _saturated(self, name: str) -> Alert:
        running, quota = LIMIT_IN_FLIGHT.select(limit=name), LIMIT_QUOTA.select(limit=name)
        return Alert(
            name=f"Limit{camel(name)}Saturated",
            severity=Severity.P2,
            expr=running / quota > _NEARLY_FULL,
            hold=_HOLD,
            summary=f"Limit {name} is $value full: nearly all of its {self.concurrency} places are taken.",
            unit="ratio",
            meaning=f"More than 90% of the {self.concurrency} places of limit {name} are taken, for {_HOLD}.",
            impact="The next requests wait, and are refused when the queue is full.",
            action=f"Find what keeps requests running; raise limits.{name}.concurrency if there is room.",
            path=("limits", name),
            proof=(
                Feed(running, healthy=0, faulty=self.concurrency),
                Feed(quota, healthy=self.concurrency, faulty=self.concurrency),
            ),
        )

    def _refusing(self, name: str) -> Alert:
        decisions = LIMIT_DECISIONS.closed(limit=name)
        refused = total(decisions.rate(_WINDOW, limit=name, outcome=self.denial))
        return Alert(
            name=f"Limit{camel(name)}QueueFull",
            severity=Severity.P2,
            expr=refused / total(decisions.rate(_WINDOW, limit=name)) > _REFUSED_RATIO,
            hold=_HOLD,
            summary=f"Limit {name} finds no place for $value of its requests.",
            unit="ratio",
            meaning=f"More than 1% of the requests found all {self.concurrency} places and the queue of "
            f"{self.queue} full, or waited longer than {self.wait}.",
            impact=f"They {'are' if self.mode == 'enforce' else 'would be'} refused with 503.",
            action=f"Find what keeps requests running; then weigh `queue` against `wait` of limits.{name}.",
            path=("limits", name),
            proof=(
                Feed(decisions.select(limit=name, outcome="allowed"), healthy=600, faulty=570),
                Feed(decisions.select(limit=name, outcome=self.denial), healthy=0, faulty=30),
            ),
        )

    def rank(self, route: str, method: str) -> int:  # noqa: ARG002
        """Every request is worth the same."""
        return 1

    def gate(self, name: str, clock: Clock, meter: Meter) -> Gate:
        """The places of this limit in this process."""
        slots = Slots(self.concurrency, self.queue, self.wait, clock, enforced=self.mode == "enforce")
        meter.gauge(LIMIT_IN_FLIGHT, lambda: slots.running, limit=name)
        meter.gauge(LIMIT_QUEUED, lambda: len(slots.waiting), limit=name)
        return slots


class Slots:
    """Places for requests and a first-come, first-served queue for those that find none.

    When not enforced nobody waits or is refused: every request is let in, and told what would have happened.
    """

    def __init__(self, places: int, queue: int, wait: int, clock: Clock, *, enforced: bool = True) -> None:
        self.places = places
        self.queue = queue
        self.running = 0
        self.waiting: deque[asyncio.Future[bool]] = deque()
        self._wait = wait
        self._clock = clock
        self._enforced = enforced

    def try_enter(self, rank: int) -> bool:  # noqa: ARG002 - every request is worth the same here
        """Take a place if one is free, without waiting."""
        if self.running < self.places:
            self.running += 1
            return True
        return False

    async def enter(self, rank: int) -> Refusal | None:
        """Take a place, waiting for one if need be; the refusal says why there was none."""
        if self.try_enter(rank):
            return None
        if not self._enforced:
            self.running += 1
            return Refusal("is full", self._wait) if self.running > self.places + self.queue else None
        if len(self.waiting) >= self.queue:
            return Refusal("is full, and so is its queue" if self.queue else "is full", self._wait)
        return None if await self._turn() else Refusal("had no free place in time", self._wait)

    def leave(self, took: int | None) -> None:  # noqa: ARG002 - the number of places does not depend on it
        """Give the place to the next that waits, or free it."""
        while self.waiting:
            turn = self.waiting.popleft()
            if not turn.done():
                turn.set_result(True)
                return
        self.running -= 1

    async def _turn(self) -> bool:
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.waiting.append(turn)
        timer = self._clock.call_later(self._wait, lambda: _pass_over(turn))
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.result():
                self.leave(None)  # the place was given in the same moment in which the request was given up
            raise
        finally:
            timer.cancel()
            if turn in self.waiting:
                self.waiting.remove(turn)


def _pass_over(turn: asyncio.Future[bool]) -> None:
    """It has waited long enough without a place."""
    if not turn.done():
        turn.set_result(False)
