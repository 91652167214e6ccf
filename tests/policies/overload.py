"""A service under more load than it can bear, simulated event by event around the real gate."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mahavishnu.policies._places import RANKS, Waiter
from mahavishnu.policies.concurrency import Concurrency, Slots
from mahavishnu.testing import VirtualClock

SECOND = 10**9
# The work of one request, with a mean of 1.
WORK: dict[str, Callable[[random.Random], float]] = {
    "constant": lambda chance: 1.0,
    "uniform": lambda chance: chance.uniform(0.5, 1.5),
    "exponential": lambda chance: chance.expovariate(1),
    "lognormal": lambda chance: chance.lognormvariate(-0.5, 1),
    "pareto": lambda chance: chance.paretovariate(2.2) * 1.2 / 2.2,
    "two kinds": lambda chance: 0.5 if chance.random() < 0.9 else 5.5,
}


@dataclass
class Load:
    """What comes in, and what it meets; times in seconds."""

    capacity: int = 20
    """So many requests run side by side without getting slower."""
    service: float = 0.1
    times: float = 3.0
    """How many times its capacity is asked of it."""
    work: str = "exponential"
    thrash: float = 0.25
    """By so much of what runs beyond its capacity it gets slower altogether: it collapses."""
    patience: float = 1.0
    """When clients go; what was begun for them is done all the same."""
    ranks: tuple[float, float, float] = (0, 1, 0)
    """The shares of critical, normal and sheddable requests."""
    minutes: float = 3
    seed: int = 0
    slower: Callable[[float], float] = lambda now: 1
    """How the work changes over time."""
    routes: Callable[[float, random.Random], tuple[str, float]] | None = None
    """The route of a request that comes now, and its work; None: they all have one."""
    spec: dict[str, Any] | None = None
    """The limit; None: nothing protects the service."""


@dataclass
class Request:
    rank: int
    arrived: float
    route: str
    work: float
    entered: float = 0
    waiter: Waiter | None = None


@dataclass
class Seen:
    """What became of the requests of the second half, by rank, and of the limit in it.

    And of all of them, by the ten seconds in which they came: how many, and how many of these were refused.
    """

    asked: Counter[str] = field(default_factory=Counter[str])
    good: Counter[str] = field(default_factory=Counter[str])
    late: Counter[str] = field(default_factory=Counter[str])
    refused: Counter[str] = field(default_factory=Counter[str])
    limits: list[int] = field(default_factory=list[int])
    waiting: list[int] = field(default_factory=list[int])
    came: Counter[int] = field(default_factory=Counter[int])
    turned_away: Counter[int] = field(default_factory=Counter[int])
    capacity: float = 1

    @property
    def goodput(self) -> float:
        """Requests answered in time, as a part of what the service could do."""
        return sum(self.good.values()) / self.capacity

    def worst(self, since: float = 0) -> float:
        """The largest part that was refused of what came within ten seconds, from so many seconds on."""
        return max(self.turned_away[ten] / self.came[ten] for ten in self.came if 10 * ten >= since)

    def limit(self, share: float = 0.5) -> int:
        """The limit, below which it was for this share of the time."""
        return sorted(self.limits)[int(share * (len(self.limits) - 1))]


class Server:
    """Processor sharing: what runs beyond the capacity slows down everything, and costs on top."""

    def __init__(self, capacity: int, thrash: float) -> None:
        self._capacity = capacity
        self._thrash = thrash
        self._done = 0.0  # the work that each running request has had
        self._now = 0.0
        self._running: list[tuple[float, int, Request]] = []
        self._order = itertools.count()

    def begin(self, now: float, request: Request) -> None:
        self._advance(now)
        heapq.heappush(self._running, (self._done + request.work, next(self._order), request))

    def next(self) -> float:
        """When the next request ends."""
        if not self._running:
            return float("inf")
        return self._now + (self._running[0][0] - self._done) / self._pace()

    def end(self, now: float) -> Request:
        self._advance(now)
        return heapq.heappop(self._running)[2]

    def _advance(self, now: float) -> None:
        if self._running:
            self._done += (now - self._now) * self._pace()
        self._now = now

    def _pace(self) -> float:
        over = len(self._running) / self._capacity
        return 1.0 if over <= 1 else 1 / over / (1 + self._thrash * (over - 1))


class Simulation:
    """One run; everything follows from the load and its seed."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.chance = random.Random(load.seed)
        self.clock = VirtualClock()
        self.server = Server(load.capacity, load.thrash)
        self.slots = Slots.of(Concurrency.model_validate(load.spec), self.clock) if load.spec else None
        self.seen = Seen(capacity=load.capacity / load.service * load.minutes * 30)
        self.now = 0.0
        self.half = load.minutes * 30
        self._timers: list[tuple[float, int, Request]] = []
        self._order = itertools.count()

    def run(self) -> Seen:
        rate = self.load.times * self.load.capacity / self.load.service
        arrival, second = 0.0, self.half
        while self.now < 2 * self.half:
            at = min(arrival, self.server.next(), self._timers[0][0] if self._timers else arrival)
            self._move(at)
            if at == arrival:
                arrival = at + self.chance.expovariate(rate)
                self._arrive()
            elif self._timers and at == self._timers[0][0]:
                self._give_up(heapq.heappop(self._timers)[2])
            else:
                self._end(self.server.end(at))
            if self.now > second and self.slots:
                second += 1
                self.seen.limits.append(self.slots.places)
                self.seen.waiting.append(self.slots.waiting)
        return self.seen

    def _move(self, at: float) -> None:
        self.now = at
        self.clock.advance(max(0, round(at * SECOND) - self.clock.now()))

    def _count(self, of: Counter[str], request: Request) -> None:
        if request.arrived > self.half:
            of[RANKS[request.rank]] += 1

    def _arrive(self) -> None:
        rank = self.chance.choices((0, 1, 2), self.load.ranks)[0]
        route, work = self._asks()
        request = Request(rank, self.now, route, self.load.service * work * self.load.slower(self.now))
        self._count(self.seen.asked, request)
        self.seen.came[int(self.now / 10)] += 1
        if self.slots is None or self.slots.try_enter(rank):
            self._begin(request)
            return
        if self.slots.gradient is not None:
            self.slots.gradient.pressed()
        request.waiter = self.slots.room.wait(
            rank, self.clock.now(), lambda given: self._told(request, given)
        )
        if request.waiter is None:
            self._refuse(request)
        else:
            until = self.now + min(self.slots.patience / SECOND, self.load.patience)
            heapq.heappush(self._timers, (until, next(self._order), request))

    def _asks(self) -> tuple[str, float]:
        if self.load.routes is not None:
            return self.load.routes(self.now, self.chance)
        return "/", WORK[self.load.work](self.chance)

    def _refuse(self, request: Request) -> None:
        self._count(self.seen.refused, request)
        self.seen.turned_away[int(request.arrived / 10)] += 1

    def _told(self, request: Request, given: bool) -> bool:
        request.waiter = None
        if given:
            self._begin(request)
        else:
            self._refuse(request)
        return True

    def _give_up(self, request: Request) -> None:
        if request.waiter is not None and self.slots is not None:
            self.slots.room.withdraw(request.waiter)
            request.waiter = None
            self._refuse(request)

    def _begin(self, request: Request) -> None:
        request.entered = self.now
        self.server.begin(self.now, request)

    def _end(self, request: Request) -> None:
        in_time = self.now - request.arrived <= self.load.patience
        self._count(self.seen.good if in_time else self.seen.late, request)
        if self.slots is not None:
            self.slots.leave(round((self.now - request.entered) * SECOND), (request.route, "GET"))
