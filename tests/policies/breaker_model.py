"""What a breaker should do, said as directly as possible, and three ways to drive the real one."""

from __future__ import annotations

import asyncio
import itertools
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from decimal import Decimal
from fractions import Fraction
from typing import Any, Protocol, cast

import httpx

from mahavishnu.errors import BreakerOpen
from mahavishnu.policies.breaker import Breaker, BreakerGuard
from mahavishnu.protocols import Leaf, Outcome, Site
from mahavishnu.testing import VirtualClock
from mahavishnu.units import Percent
from tests.metering import metrics_for
from tests.runtime.calls.worlds import World

DICE = 0.75
"""What every draw gives: an open time is a tenth longer than it would be."""
MAYBE_LONGER = Fraction(1, 10)
Refused = int
"""A refusal, as its retry-after in ns."""


class Told(Exception):
    """What a call ends with, when it fails."""


class Declined(Told):
    """One that is ignored, or recorded, by its name."""


End = BaseException | httpx.Response | str
ENDS: dict[str, Callable[[], End]] = {
    "ok": lambda: "an answer without a status",
    "good": lambda: httpx.Response(200),
    "missing": lambda: httpx.Response(404),
    "broken": lambda: httpx.Response(503),
    "fault": Told,
    "declined": Declined,
    "late": TimeoutError,
    "gone": asyncio.CancelledError,
    "group": lambda: BaseExceptionGroup("two", [Told(), Declined()]),
}
_NAMES = {Told: "Told", Declined: "Declined", TimeoutError: "TimeoutError"}


WAITING = 1 << 80
"""When a call that has not begun is lost: never."""
LOST = (0, True, False)
"""What is assumed of a probe that is: a failure, until it is back."""


class Reference:
    """Every call of the window is remembered, and every question answered by looking through all of them."""

    def __init__(self, said: Breaker, lease: int) -> None:
        self.said, self.lease, self.width = said, lease, -(-said.window // 20)
        self.generation, self.tickets = 0, itertools.count()
        self.opened = self.since = self.until = 0
        self.state = "closed"
        self.to(self.held or "closed", 0)

    @property
    def held(self) -> str | None:
        return self.said.mode if self.said.mode in ("open", "closed") else None

    def to(self, state: str, now: int) -> None:
        if state == "open" and not self.held:
            if self.state == "closed":
                self.opened = max(0, self.opened - (now - self.since) // self.said.window)
            longest = self.said.max_open_for or 10 * self.said.open_for
            span = min(longest, self.said.open_for * 2**self.opened)
            self.opened += span < longest
            self.until = now + int(span + span * MAYBE_LONGER)
        goes_on = (self.state, state, self.held) == ("half_open", "open", None)
        self.state, self.since = state, now
        if not goes_on:  # the probes that opened it may yet say otherwise
            self.generation += 1
            self.seen: list[tuple[int, bool, bool]] = []
            self.leases: dict[int, int] = {}
            self.lost: set[int] = set()

    def become(self, said: Breaker, now: int) -> None:
        before, self.said = self.held, said
        if before != self.held:
            self.to(self.held or "closed", now)
        elif self.state == "half_open":
            self.judge(now)

    def enter(self, now: int) -> tuple[int, int | None] | Refused | None:
        """A permit, a refusal, or None: refused for ever."""
        if self.held:
            return None if self.held == "open" else (self.generation, None)
        if self.state == "open" and now >= self.until:
            self.to("half_open", now)
        self.expire(now)
        if self.state == "closed":
            return self.generation, None
        if self.state == "half_open" and len(self.seen) + len(self.leases) < self.said.probes:
            ticket = next(self.tickets)
            self.leases[ticket] = WAITING
            return self.generation, ticket
        if self.said.mode == "observe":
            return -1, None
        return (self.until if self.state == "open" else min(now + self.lease, *self.leases.values())) - now

    def begin(self, permit: tuple[int, int | None], now: int) -> None:
        """What it waited for has come."""
        generation, ticket = permit
        if ticket in self.leases and generation == self.generation:
            self.leases[ticket] = now + self.lease

    def leave(self, permit: tuple[int, int | None], end: End, duration: int, now: int) -> None:
        generation, ticket = permit
        verdict = self.verdict(end)
        if ticket is not None and verdict is None:
            self.expire(now)
        held = ticket is None or self.leases.pop(ticket, None) is not None or ticket in self.lost
        if held and generation == self.generation and not self.held and verdict is not None:
            if ticket in self.lost:
                self.lost.remove(ticket)
                self.seen.remove(LOST)
            slow = self.said.slow_call is not None and duration > self.said.slow_call
            self.seen.append((now // self.width, verdict, slow))
            if self.state == "half_open":
                self.expire(now)
            else:
                self.judge(now)

    def verdict(self, end: End) -> bool | None:
        """Whether it is a failure; None: it is nothing."""
        if isinstance(end, str):
            return False
        if isinstance(end, httpx.Response):
            return self.word(end.status_code, end.status_code >= 500)
        if isinstance(end, asyncio.CancelledError):
            return None
        found = [self.named(type(part)) for part in _parts(end)]
        return True if True in found else (None if None in found else False)

    def named(self, kind: type[BaseException]) -> bool | None:
        words = {name for of, name in _NAMES.items() if issubclass(kind, of)}
        words = {f"{Told.__module__}.{name}" if name != "TimeoutError" else name for name in words}
        words |= {"timeout"} if kind is TimeoutError else set()
        if words & {*self.said.ignore}:
            return None
        return True if self.said.failure_on is None else bool(words & {*self.said.failure_on})

    def word(self, status: int, by_itself: bool) -> bool | None:
        if status < 400:
            return False
        if status in self.said.ignore:
            return None
        return by_itself if self.said.failure_on is None else status in self.said.failure_on

    def expire(self, now: int) -> None:
        if self.state == "half_open":
            for ticket in [ticket for ticket, until in self.leases.items() if until <= now]:
                del self.leases[ticket]
                self.lost.add(ticket)
                self.seen.append(LOST)
            self.judge(now)

    def judge(self, now: int) -> None:
        said, half, probing = self.said, Percent(Decimal("0.5")), self.state != "closed"
        row = said.consecutive_failures or 10**9
        fail = said.failure_rate or (half if probing or not (said.slow_call or row < 10**9) else None)
        slow = (said.slow_rate or said.failure_rate or half) if said.slow_call else None
        live = self.seen if probing else [one for one in self.seen if now // self.width - one[0] < 20]
        total = said.probes if probing else len(live)
        tests = [(sum(one[at] for one in live), rate.ratio) for at, rate in ((1, fail), (2, slow)) if rate]
        over = any(Fraction(count, total) >= rate for count, rate in tests)
        streak = sum(1 for _ in itertools.takewhile(lambda one: one[1], reversed(self.seen)))
        if probing and not over:
            left = total - len(live)
            if all(Fraction(count + left, total) < rate for count, rate in tests):
                self.to("closed", now)
        elif self.state == "open":
            return
        elif (over and (probing or total >= said.min_calls)) or (not probing and streak >= row):
            self.to("open", now)


def _parts(end: BaseException) -> tuple[BaseException, ...]:
    group = isinstance(end, BaseExceptionGroup)
    return cast("BaseExceptionGroup[BaseException]", end).exceptions if group else (end,)


class Driver(Protocol):
    """One way to make calls that a breaker guards, at a virtual time."""

    clock: VirtualClock
    guard: BreakerGuard
    may_wait: bool
    """Whether a call that is let in has not begun before it is told to."""

    def enter(self) -> Any:
        """Let a call in; raises BreakerOpen."""
        ...

    def begin(self, call: Any) -> None:
        """It has waited for nothing, or long enough."""
        ...

    def leave(self, call: Any, end: End) -> None:
        """End it so."""
        ...

    def close(self) -> None:
        """All calls have ended."""
        ...


class Direct:
    """The state machine itself."""

    may_wait = True

    def __init__(self, said: Breaker, lease: int) -> None:
        self.clock = VirtualClock()
        guard = said.guard(Site("stripe", self.clock, metrics_for(said), lease, lambda: DICE))
        assert guard is not None
        self.guard: BreakerGuard = guard

    def enter(self) -> list[Any]:
        return [self.guard.enter(), self.clock.now()]

    def begin(self, call: list[Any]) -> None:
        self.guard.renew(call[0])
        call[1] = self.clock.now()

    def leave(self, call: list[Any], end: End) -> None:
        permit, began = call
        outcome, leaves = judged(end)
        now = self.clock.now()
        self.guard.leave(permit, outcome, now - began, now, leaves)

    def close(self) -> None:
        pass


class _Process:
    """A process that calls a dependency with this breaker and nothing else; a lost probe is known by `open_for`."""

    may_wait = False

    def __init__(self, said: Breaker) -> None:
        self.world = World(auto=False, draw=DICE, breaker=said.model_dump(mode="json", exclude_none=True))
        self.clock, self.guard = self.world.clock, self.world.breaker

    def begin(self, call: Any) -> None:
        """It has, when it was let in."""


class Tasks(_Process):
    """Tasks of an event loop, through a decorated coroutine function."""

    def __init__(self, said: Breaker, lease: int) -> None:
        super().__init__(said)
        self.runner = asyncio.Runner()
        self.runner.run(asyncio.sleep(0))
        self.call = self.world.stripe(_wait)

    def enter(self) -> tuple[asyncio.Task[Any], asyncio.Future[Any]]:
        async def begin() -> tuple[asyncio.Task[Any], asyncio.Future[Any]]:
            end = asyncio.get_running_loop().create_future()
            task = asyncio.create_task(self.call(end))
            await asyncio.sleep(0)
            if task.done():
                task.result()
            return task, end

        return self.runner.run(begin())

    def leave(self, call: tuple[asyncio.Task[Any], asyncio.Future[Any]], end: End) -> None:
        async def ended() -> None:
            task, future = call
            if isinstance(end, asyncio.CancelledError):
                task.cancel()
            else:
                future.set_result(end)
            await asyncio.wait([task])
            assert task.cancelled() == isinstance(end, asyncio.CancelledError)
            if not task.cancelled():
                task.exception()

        self.runner.run(ended())

    def close(self) -> None:
        self.runner.close()


async def _wait(end: asyncio.Future[Any]) -> httpx.Response | str:
    return _told(await end)


class Threads(_Process):
    """A thread for each call, through a decorated function."""

    def __init__(self, said: Breaker, lease: int) -> None:
        super().__init__(said)
        self.call = self.world.stripe(_block)

    def enter(self) -> tuple[threading.Thread, queue.SimpleQueue[End]]:
        begun: Future[None] = Future()
        end: queue.SimpleQueue[End] = queue.SimpleQueue()

        def work() -> None:
            try:
                self.call(begun, end)
            except BreakerOpen as refused:
                begun.set_exception(refused)
            except BaseException:  # noqa: BLE001 - it is what the call was told to end with
                pass

        thread = threading.Thread(target=work)
        thread.start()
        begun.result()
        return thread, end

    def leave(self, call: tuple[threading.Thread, queue.SimpleQueue[End]], end: End) -> None:
        thread, told = call
        told.put(end)
        thread.join()

    def close(self) -> None:
        pass


def _block(begun: Future[None], end: queue.SimpleQueue[End]) -> httpx.Response | str:
    begun.set_result(None)
    return _told(end.get())


def _told(end: End) -> httpx.Response | str:
    if isinstance(end, BaseException):
        raise end
    return end


def judged(end: End) -> tuple[Outcome, tuple[Leaf, ...]]:
    """What the call path makes of an end."""
    from mahavishnu.outcomes.faults import leaves_of, leaves_of_answer, worst

    leaves = leaves_of(end) if isinstance(end, BaseException) else leaves_of_answer(end)
    return worst(outcome for outcome, _ in leaves), leaves
