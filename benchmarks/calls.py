"""What protecting a call costs while all is well: a closed breaker, an unneeded retry, a deadline kept."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any

from benchmarks.app import IN_FLIGHT, Call
from benchmarks.fused import Closed, Wheel
from benchmarks.goals import Goal, Report, at_most
from benchmarks.harness import CONTROL, Candidate, peer, side_by_side, table, times, whole
from mahavishnu.clock import SystemClock
from mahavishnu.dependencies import dependency
from mahavishnu.runtime.current import forget, use
from mahavishnu.runtime.service import Service
from mahavishnu.spec import Spec

Protect = Callable[[Call], Call]
_ATTEMPTS = 3
_DEADLINE = 0.1
_BOUND = "the lower bound, by hand"
_BREAKING = "mahavishnu, on a time window, with its series"
_RETRYING = "mahavishnu, with its budget and series"
_ENDING = "mahavishnu, with its series"
_EVERYTHING = "mahavishnu, with retry, bulkhead and timeout"
_GOALS = {_BREAKING: 0.8, _RETRYING: 0.6, _ENDING: 1.5, _EVERYTHING: 3.0}
"""Microseconds."""
_BREAKER = {"breaker": {"failure_rate": "50%", "min_calls": 5}}
_RETRY = {"retry": {"attempts": _ATTEMPTS, "base": "1ms", "max": "1ms"}}
_TIMEOUT = {"timeout": "100ms"}


def report(rounds: int) -> Report:
    """The tables; raises AssertionError when a breaker, a retry or a deadline is none."""
    families = (
        ("a closed breaker", _breakers, _breaks),
        ("a retry that is not needed", _retries, _repeats),
        ("a deadline that is kept", _deadlines, _ends),
    )
    tables, goals = list[str](), list[Goal]()
    for title, make, proof in families:
        text, added = _family(rounds, title, make, proof)
        tables.append(text)
        goals += [
            at_most(f"{title}: {name}, added", added[name] / 1000, goal, "", unit="µs")
            for name, goal in _GOALS.items()
            if name in added
        ]
    introduction = "### A call\n\nAdded to one awaited call of a coroutine function:\n\n"
    return Report(introduction + "\n\n".join(tables), tuple(goals))


def _start() -> None:
    """Our service, whose every dependency has one policy, and one has all."""
    everything = {**_TIMEOUT, **_RETRY, **_BREAKER, "bulkhead": {"concurrency": 100}}
    dependencies = {
        "breaking": _BREAKER,
        "retrying": _RETRY,
        "ending": _TIMEOUT,
        "everything": everything,
        "throttled": {**everything, "throttle": {}},
    }
    forget()
    said = {
        "mahavishnu": 1,
        "service": {"name": "shop", "app": "shop.main:app"},
        "dependencies": dependencies,
    }
    use(Service(Spec.model_validate(said), SystemClock()))


def _ours(name: str) -> Protect:
    return dependency(name)(idempotent=True)


def _breakers() -> Mapping[str, Protect]:
    aiobreaker, hyx, pybreaker = peer("aiobreaker"), peer("hyx.circuitbreaker"), peer("pybreaker")
    return {
        _BREAKING: _ours("breaking"),
        _EVERYTHING: _ours("everything"),
        "mahavishnu, and with a throttle": _ours("throttled"),
        _BOUND: Closed,
        "circuitbreaker": peer("circuitbreaker").CircuitBreaker(failure_threshold=5),
        "hyx": hyx.consecutive_breaker(failure_threshold=5),
        "purgatory": peer("purgatory").AsyncCircuitBreakerFactory(default_threshold=5)("payments"),
        "aiobreaker": aiobreaker.CircuitBreaker(fail_max=5, timeout_duration=timedelta(seconds=30)),
        "pybreaker, its context manager": partial(_calling, pybreaker.CircuitBreaker(fail_max=5)),
    }


def _calling(breaker: Any, call: Call) -> Call:
    async def protected(item: str) -> int:
        with breaker.calling():
            return await call(item)

    return protected


def _retries() -> Mapping[str, Protect]:
    stamina, tenacity = peer("stamina"), peer("tenacity")
    stamina.instrumentation.set_on_retry_hooks([])  # its log goes to the terminal, and is not asked for here
    return {
        _RETRYING: _ours("retrying"),
        _BOUND: _loop,
        "hyx": peer("hyx.retry").retry(on=ConnectionError, attempts=_ATTEMPTS, backoff=0.001),
        "stamina": stamina.retry(on=ConnectionError, attempts=_ATTEMPTS, wait_initial=0.001, wait_max=0.001),
        "tenacity": tenacity.retry(
            stop=tenacity.stop_after_attempt(_ATTEMPTS), wait=tenacity.wait_fixed(0.001)
        ),
    }


def _loop(call: Call) -> Call:
    async def protected(item: str) -> int:
        for _ in range(_ATTEMPTS - 1):
            try:
                return await call(item)
            except ConnectionError:
                await asyncio.sleep(0.001)
        return await call(item)

    return protected


def _deadlines() -> Mapping[str, Protect]:
    return {
        _ENDING: _ours("ending"),
        _BOUND: partial(_wheel, Wheel(int(_DEADLINE * 1e9))),
        "asyncio.timeout": partial(_within, asyncio.timeout),
        "anyio.fail_after": partial(_within_sync, peer("anyio").fail_after),
        "asyncio.wait_for": lambda call: lambda item: asyncio.wait_for(call(item), _DEADLINE),
        "hyx": partial(_within, peer("hyx.timeout").timeout),
    }


def _within(timeout: Callable[[float], Any], call: Call) -> Call:
    async def protected(item: str) -> int:
        async with timeout(_DEADLINE):
            return await call(item)

    return protected


def _within_sync(timeout: Callable[[float], Any], call: Call) -> Call:
    async def protected(item: str) -> int:
        with timeout(_DEADLINE):
            return await call(item)

    return protected


def _wheel(wheel: Wheel, call: Call) -> Call:
    async def protected(item: str) -> int:
        watched = wheel.add(time.monotonic_ns())
        try:
            return await call(item)
        finally:
            watched[1] = None

    return protected


class _Target:
    """The function that is called; it fails as often as it is told to, and can take its time."""

    def __init__(self) -> None:
        self.calls = 0
        self.faults = 0
        self.delay = 0.0

    async def __call__(self, item: str) -> int:
        self.calls += 1
        if self.delay:
            await asyncio.sleep(self.delay)
        if self.faults:
            self.faults -= 1
            raise ConnectionError
        return len(item)


def _family(
    rounds: int, title: str, make: Callable[[], Mapping[str, Protect]], proof: Callable[[Call, _Target], Any]
) -> tuple[str, dict[str, float]]:
    _start()
    protections = make()

    async def bare(item: str) -> int:
        return len(item)

    base = Candidate("bare", partial(_calls, bare))
    candidates = [Candidate(name, partial(_calls, protect(bare))) for name, protect in protections.items()]
    _, results = side_by_side(base, candidates, rounds=rounds, block=1000)
    _start()  # what is proved starts anew: a rate knows the successes before
    for (name, protect), one in zip(make().items(), candidates, strict=True):
        one.check(partial(_proved, name, protect, proof))
    for one in (base, *candidates):
        one.close()
    bound = results[_BOUND].ns
    rows = [(name, whole(results[name].ns), times(results[name].ns / bound)) for name in protections]
    text = table((title, "ns", "x bound"), [*rows, (CONTROL, whole(results[CONTROL].ns), "")])
    return text, {name: results[name].ns for name in protections}


async def _calls(call: Call, number: int) -> None:
    for done in range(0, number, IN_FLIGHT):
        for _ in range(min(IN_FLIGHT, number - done)):
            await call("x")
        await asyncio.sleep(0)


async def _proved(name: str, protect: Protect, proof: Callable[[Call, _Target], Any]) -> None:
    target = _Target()

    async def called(item: str) -> int:
        return await target(item)

    try:
        await proof(protect(called), target)
    except AssertionError as fault:
        raise AssertionError(f"{name} does not do its job: {fault}") from fault


async def _breaks(call: Call, target: _Target) -> None:
    target.faults = 10**9
    for _ in range(50):
        with suppress(Exception):  # each library has its own word for it
            await call("x")
    if target.calls > 10:
        raise AssertionError(f"{target.calls} of 50 calls reached what always fails")


async def _repeats(call: Call, target: _Target) -> None:
    target.faults = 2
    await call("x")
    if target.calls != 3:
        raise AssertionError(f"{target.calls} attempts, not 3")


async def _ends(call: Call, target: _Target) -> None:
    target.delay = 5
    began = time.monotonic()
    try:
        await call("x")
    except (Exception, asyncio.CancelledError):  # noqa: BLE001 - each has its own word; the bound cancels
        took = time.monotonic() - began
        if took > 1:
            raise AssertionError(f"ended after {took:.1f} s") from None
    else:
        raise AssertionError("it was not ended")
