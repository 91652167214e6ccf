"""Histories of calls made at the same time, and whether some order of them explains every answer.

The search is that of Wing and Gong, "Testing and Verifying Concurrent Objects" (1993), with the memory of Lowe's.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import sys
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from io import StringIO
from typing import Any, NamedTuple, cast

from mahavishnu import limit
from mahavishnu.asgi import Hardening
from mahavishnu.errors import RateLimited
from mahavishnu.runtime.current import forget
from mahavishnu.runtime.keys import Caller
from mahavishnu.runtime.limits.admission import Admission
from mahavishnu.runtime.limits.engine import Engine
from mahavishnu.runtime.redis.store import RedisStore
from mahavishnu.testing import VirtualClock
from tests.runtime.asgi_client import harden, limits, site, spec_of

SECOND = 10**9
DAY = 86_400 * SECOND
CALLERS, CALLS = 8, 25
CLIENTS = ("ann", "ben", "cleo")
PAUSES = (0, 0, 0, 0, SECOND // 20, SECOND // 4, SECOND)
UNKNOWN = -1
State = tuple[int, ...]


class Rate(NamedTuple):
    """A rate, as the spec says it and as its definition decides: this is the model, not our code."""

    algorithm: str
    quota: int
    burst: int
    cost: int
    per: str
    period: int

    @property
    def said(self) -> dict[str, Any]:
        """As in a spec."""
        burst = {"burst": self.burst} if self.algorithm == "gcra" else {}
        unit = {SECOND: "second", DAY: "day"}[self.period]
        shown = {"rate": f"{self.quota}/{unit}", "per": self.per, "cost": self.cost}
        return {**shown, **burst, "algorithm": self.algorithm}

    def after(self, state: State, at: int) -> State | None:
        """What follows from one more call at that time (ns); None: it does not fit."""
        if self.algorithm == "sliding_log":
            live = tuple(one for one in state if one > at - self.period)
            return (*live, *[at] * self.cost) if len(live) + self.cost <= self.quota else None
        if self.algorithm == "sliding_window":
            index, into = divmod(at, self.period)
            then, older, newer = state or (index, 0, 0)
            before, now = {0: (older, newer), 1: (newer, 0)}.get(index - then, (0, 0))
            used = before * (self.period - into) + (now + self.cost) * self.period
            return (index, before, now + self.cost) if used <= self.quota * self.period else None
        # In shares of a ns, of which one call takes `period`.
        full = max(*state, at * self.quota) if state else at * self.quota
        full += self.cost * self.period
        return (full,) if full - at * self.quota <= self.burst * self.period else None

    def most(self, span: int) -> float:
        """What may be let in within so many ns, both ends included, whenever they begin."""
        if self.algorithm == "gcra":
            return self.burst + span * self.quota / self.period
        windows = 1 + span // self.period
        return windows * (self.quota if self.algorithm == "sliding_log" else 2 * self.quota - 1)


class Call(NamedTuple):
    """One call: when it began and ended in the order of things, its time (ns), who made it, and its answer.

    `wait` is how long it was told to wait (ns), or UNKNOWN; None: it was let in.
    """

    began: int
    ended: int
    at: int
    client: str
    wait: int | None


class Ticking(VirtualClock):
    """A clock that goes on when it is read, sometimes; each thread knows what it has `read` since it last forgot."""

    def __init__(self, dice: random.Random) -> None:
        super().__init__(start=100 * SECOND)
        self._dice = dice
        self._mine = threading.local()

    def now(self) -> int:
        """The time in ns, which is never earlier than anybody's before."""
        with self._lock:
            self._now += self._dice.choice(PAUSES)
            now = self._now
            self.read.append(now)
        time.sleep(0)  # others take their turn
        return now

    @property
    def read(self) -> list[int]:
        """What this thread has read."""
        if not hasattr(self._mine, "times"):
            self._mine.times = list[int]()
        times: list[int] = self._mine.times
        return times


def some_rates(dice: random.Random, *, usual: bool = False, period: int = SECOND) -> tuple[Rate, ...]:
    """One to three; the `usual` ones are those that a request's decision in one pass knows."""
    return tuple(
        Rate(
            "gcra" if usual else dice.choice(["gcra", "sliding_window", "sliding_log"]),
            dice.choice([4, 5, 8] if usual else [3, 4, 6]),
            dice.randint(2, 5),
            dice.randint(1, 2),
            dice.choice(["client", "client", "global"]),
            period,
        )
        for _ in range(dice.randint(1, 3))
    )


def in_threads(rates: Sequence[Rate], dice: random.Random, calls: int = CALLS) -> list[Call]:
    """What is answered to a tool's callers, who are threads with so many calls each."""
    clock, order, made = Ticking(dice), itertools.count(), list[Call]()
    harden(site(), limits(**_said(rates, match={"tool": "*"})), clock=clock)
    doors = {client: limit(tool="search", client=client) for client in CLIENTS}
    together = threading.Barrier(CALLERS)

    def asking(who: Sequence[str]) -> None:
        together.wait()
        for client in who:
            clock.read.clear()
            began, wait = next(order), None
            try:
                with doors[client]:
                    pass
            except RateLimited as refused:
                wait = refused.retry_after
            # Of the times that were read the first is before the lock, the second what is decided by.
            made.append(Call(began, next(order), clock.read[1], client, wait))

    threads = [
        threading.Thread(target=asking, args=(dice.choices(CLIENTS, k=calls),)) for _ in range(CALLERS)
    ]
    with switching_often():
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    forget()
    return sorted(made)


def in_tasks(rates: Sequence[Rate], dice: random.Random, calls: int = CALLS) -> list[Call]:
    """What is answered to requests, which are tasks."""
    engine = harden(site(), limits(**_said(rates)), clock=Ticking(dice)).app.service.engine
    return _requested(engine, dice, calls, timed=True)


def on_redis(rates: Sequence[Rate], dice: random.Random, url: str, name: str) -> list[Call]:
    """What is answered to requests where a server decides by a clock of its own: no time is known."""
    forget()
    spec = spec_of(service={"name": name}, limits=_said(rates), store=url)
    return _requested(Hardening(site(), spec, log_to=StringIO()).service.engine, dice, CALLS, timed=False)


def _requested(engine: Engine, dice: random.Random, calls: int, *, timed: bool) -> list[Call]:
    plan, order, made = engine.planner.plan("/", "GET"), itertools.count(), list[Call]()

    async def asking(who: Sequence[str]) -> None:
        for client in who:
            await asyncio.sleep(0)
            began = next(order)
            admission = Admission("", Caller(client), plan, engine.clock.now())
            await engine.admit(admission)
            wait = None if admission.refused is None else cast("int", admission.refused.retry_after)
            at = admission.entered if timed else 0
            made.append(Call(began, next(order), at, client, wait if timed or wait is None else UNKNOWN))

    async def together() -> None:
        await asyncio.gather(*(asking(dice.choices(CLIENTS, k=calls)) for _ in range(CALLERS)))
        if isinstance(engine.store, RedisStore):
            engine.store.close()

    asyncio.run(together())
    forget()
    return sorted(made)


def _said(rates: Sequence[Rate], **more: object) -> dict[str, Any]:
    return {f"rate_{number}": {**one.said, **more} for number, one in enumerate(rates)}


@contextmanager
def switching_often() -> Generator[None]:
    """Threads take turns wherever they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def explained(rates: Sequence[Rate], calls: Sequence[Call]) -> bool:
    """Whether there is an order, in which no call comes before one that had ended when it began, that the model, one
    call after the other, answers just so."""
    start: tuple[State, ...] = ((),) * (len(rates) * len(CLIENTS))
    waiting = [(0, frozenset[int](), start)]
    seen = set[Any]()
    while waiting:
        first, done, states = here = waiting.pop()
        while first in done:
            first, done = first + 1, done - {first}
        if first == len(calls):
            return True
        if here not in seen:
            seen.add(here)
            after = {one: _next(rates, states, calls[one]) for one in _possible(calls, first, done)}
            waiting += [(first, done | {one}, next_) for one, next_ in after.items() if next_ is not None]
    return False


def _possible(calls: Sequence[Call], first: int, done: frozenset[int]) -> list[int]:
    """Which call may come next, when all before the `first` and these are done: none that began when one had ended."""
    ended, possible = calls[first].ended, list[int]()
    for one in range(first, len(calls)):
        if calls[one].began > ended:
            break
        if one not in done:
            ended = min(ended, calls[one].ended)
            possible.append(one)
    return [one for one in reversed(possible) if calls[one].began < ended]


def _next(rates: Sequence[Rate], states: tuple[State, ...], call: Call) -> tuple[State, ...] | None:
    """The states after a call; None where the model would have given another answer."""
    places = [_place(number, one, call.client) for number, one in enumerate(rates)]
    seats = [(one, states[place]) for one, place in zip(rates, places, strict=True)]
    afters = [one.after(state, call.at) for one, state in seats]
    if call.wait is not None:
        told = call.wait == UNKNOWN or _told_well(seats, call.at, call.wait)
        return states if None in afters and told else None
    if None in afters:
        return None
    changed = list(states)
    for place, after in zip(places, afters, strict=True):
        changed[place] = after or ()
    return tuple(changed)


def _told_well(seats: Sequence[tuple[Rate, State]], at: int, wait: int) -> bool:
    """Whether who waits so long is let in by all, and a ns earlier is not."""
    early, due = (
        all(one.after(state, at + ns) is not None for one, state in seats) for ns in (wait - 1, wait)
    )
    return due and not early


def _place(number: int, rate: Rate, client: str) -> int:
    return number * len(CLIENTS) + (CLIENTS.index(client) if rate.per == "client" else 0)


def excess(rates: Sequence[Rate], calls: Sequence[Call]) -> float:
    """By how much the fullest window of any beginning and length is beyond its bound; at most 0: none is."""
    return max(
        (
            _excess(rate, [call.at for call in calls if call.wait is None and call.client in who])
            for rate in rates
            for who in ([CLIENTS] if rate.per == "global" else [(one,) for one in CLIENTS])
        ),
        default=0,
    )


def _excess(rate: Rate, times: Sequence[int]) -> float:
    at = sorted(times)
    return max(
        (
            (last - first + 1) * rate.cost - rate.most(at[last] - at[first])
            for first in range(len(at))
            for last in range(first, len(at))
        ),
        default=0,
    )
