"""What each breaker does when it matters: side by side, on what breakers are bought for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any

from benchmarks.app import Call
from benchmarks.goals import Goal, Report
from benchmarks.harness import peer, table
from mahavishnu.clock import SystemClock
from mahavishnu.dependencies import dependency
from mahavishnu.runtime.current import forget, use
from mahavishnu.runtime.service import Service
from mahavishnu.spec import Spec

Protect = Callable[[Call], Call]
_OPEN = 0.05  # seconds that every breaker stays open
_MOMENT = 0.08  # until it lets somebody try, give or take a fifth
_ROW = 5
_OURS = "mahavishnu"
_TITLE = f"""\
Every breaker opens after {_ROW} failures in a row and tries again after {_OPEN * 1000:.0f} ms, used as its
documentation shows it around a coroutine function; ours has three probes and opens at half of 20 calls, too."""


def report(_: int) -> Report:
    """The table, and the goal that ours does all of it."""
    makers = _makers()
    asked = {what: {name: asyncio.run(ask(make())) for name, make in makers.items()} for what, ask in _ASKED}
    rows = [(what, *(said for said, _ in answers.values())) for what, answers in asked.items()]
    right = sum(answers[_OURS][1] for answers in asked.values())
    goal = Goal("breakers: situations handled", f"{len(_ASKED)} of {len(_ASKED)}", f"{right} of {len(_ASKED)}",
                right == len(_ASKED))  # fmt: skip
    text = f"### Breakers when it matters\n\n{_TITLE}\n\n{table(('situation', *makers), rows)}"
    return Report(text, (goal,))


class Target:
    """What is called: it fails while it is told to, and may wait for a word."""

    def __init__(self) -> None:
        self.calls = 0
        self.failing = False
        self.go: asyncio.Event | None = None

    async def __call__(self, item: str) -> int:
        self.calls += 1
        if self.go is not None:
            await self.go.wait()
        if self.failing:
            raise ConnectionError
        return len(item)


class Case:
    """A breaker around a target."""

    def __init__(self, protect: Protect) -> None:
        self.target = target = Target()

        async def called(item: str) -> int:
            return await target(item)

        self.call = protect(called)

    async def fails(self, times: int) -> None:
        """So many calls that fail, or are refused."""
        self.target.failing = True
        for _ in range(times):
            with suppress(Exception):  # each library has its own word for it
                await self.call("x")
        self.target.failing = False

    async def through(self) -> bool:
        """Whether a call gets through now."""
        before = self.target.calls
        with suppress(Exception):
            await self.call("x")
        return self.target.calls > before

    async def opened(self) -> bool:
        """Open it; whether it is."""
        await self.fails(_ROW)
        return not await self.through()


async def _row(case: Case) -> tuple[str, bool]:
    await case.fails(20)
    return f"{case.target.calls} of 20", case.target.calls <= _ROW


async def _herd(case: Case) -> tuple[str, bool]:
    await case.opened()
    await asyncio.sleep(_MOMENT)
    case.target.calls, case.target.go = 0, asyncio.Event()
    tasks = [asyncio.create_task(case.through()) for _ in range(50)]
    await asyncio.sleep(0.01)
    case.target.go.set()
    await asyncio.gather(*tasks)
    return f"{case.target.calls} of 50", case.target.calls <= 3


async def _half(case: Case) -> tuple[str, bool]:
    for number in range(1000):
        case.target.failing = number % 2 == 0
        with suppress(Exception):
            await case.call("x")
    opened = case.target.calls < 1000
    return f"opens after {case.target.calls}" if opened else "never opens", opened


async def _hang_ups(case: Case) -> tuple[str, bool]:
    case.target.go = asyncio.Event()
    for _ in range(20):
        await _hung_up(case)
    case.target.go = None
    fine = await case.through()
    return ("nothing" if fine else "opens it"), fine


async def _hung_up(case: Case) -> None:
    """Call, and hang up."""
    task = asyncio.ensure_future(case.through())
    await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.wait([task])


async def _hung_up_probe(case: Case) -> tuple[str, bool]:
    await case.opened()
    await asyncio.sleep(_MOMENT)
    case.target.go = asyncio.Event()
    await _hung_up(case)
    case.target.go = None
    await case.fails(1)
    await case.fails(1)
    closed = await case.through() and await case.through() and await case.through() and await case.through()
    return ("closes it" if closed else "nothing"), not closed


async def _late(case: Case) -> tuple[str, bool]:
    case.target.go = asyncio.Event()
    early = asyncio.ensure_future(case.through())
    await asyncio.sleep(0.001)
    go, case.target.go = case.target.go, None
    await case.fails(_ROW)
    go.set()
    await early
    closed = await case.through()
    return ("closes it" if closed else "nothing"), not closed


async def _lost(case: Case) -> tuple[str, bool]:
    """Whether somebody gets through while the first probes never end."""
    await case.opened()
    await asyncio.sleep(_MOMENT)
    case.target.go = asyncio.Event()
    hanging = [asyncio.create_task(case.through()) for _ in range(50)]
    await asyncio.sleep(0.01)
    case.target.go = None
    for _ in range(40):
        await asyncio.sleep(_MOMENT)
        if await case.through():
            break
    else:
        return await _end(hanging, "stuck"), False
    return await _end(hanging, "goes on"), True


async def _end(tasks: list[asyncio.Task[bool]], said: str) -> str:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return said


_ASKED: tuple[tuple[str, Callable[[Case], Coroutine[Any, Any, tuple[str, bool]]]], ...] = (
    ("calls that reach what always fails", _row),
    ("concurrent calls that reach it at half-open", _herd),
    ("1,000 calls, every second one fails", _half),
    ("what 20 callers do who hang up", _hang_ups),
    ("what a probe does whose caller hangs up", _hung_up_probe),
    ("what a success does that began before it opened", _late),
    ("when all probes hang", _lost),
)


def _makers() -> Mapping[str, Callable[[], Case]]:
    aio, hyx, py = peer("aiobreaker"), peer("hyx.circuitbreaker"), peer("pybreaker")
    circuit, purgatory = peer("circuitbreaker"), peer("purgatory")

    def ours() -> Case:
        breaker = {
            "consecutive_failures": _ROW,
            "failure_rate": "50%",
            "open_for": "50ms",
            "max_open_for": "50ms",
        }
        said = {"mahavishnu": 1, "service": {"name": "shop", "app": "shop.main:app"}}
        forget()
        spec = Spec.model_validate({**said, "dependencies": {"payments": {"breaker": breaker}}})
        use(Service(spec, SystemClock()))
        return Case(dependency("payments"))

    return {
        _OURS: ours,
        "aiobreaker": lambda: Case(
            aio.CircuitBreaker(fail_max=_ROW, timeout_duration=timedelta(seconds=_OPEN))
        ),
        "purgatory": lambda: Case(
            purgatory.AsyncCircuitBreakerFactory(default_threshold=_ROW, default_ttl=_OPEN)("payments")
        ),
        "circuitbreaker": lambda: Case(
            circuit.CircuitBreaker(failure_threshold=_ROW, recovery_timeout=_OPEN)
        ),
        "pybreaker": lambda: Case(partial(_calling, py.CircuitBreaker(fail_max=_ROW, reset_timeout=_OPEN))),
        "pybreaker, its decorator": lambda: Case(py.CircuitBreaker(fail_max=_ROW, reset_timeout=_OPEN)),
        "hyx": lambda: Case(hyx.consecutive_breaker(failure_threshold=_ROW, recovery_time_secs=_OPEN)),
    }


def _calling(breaker: Any, call: Call) -> Call:
    async def protected(item: str) -> int:
        with breaker.calling():
            return await call(item)

    return protected
