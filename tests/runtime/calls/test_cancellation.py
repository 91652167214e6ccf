"""Calls that are cancelled, in every form, at every await point: nothing leaks, and nothing is counted."""

from __future__ import annotations

import asyncio
import functools
import itertools
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from typing import Any, NamedTuple

import httpx
import pytest

from mahavishnu.protocols import Outcome
from tests.figures import FULL, figure
from tests.runtime.calls.worlds import World, all_but


@types.coroutine
def _cancelled_at(
    work: Coroutine[Any, Any, object], point: int, late: bool, seen: list[int]
) -> Generator[Any, Any, object]:
    """Drive a coroutine; at its await number `point` it is cancelled.

    `late`: what it awaited has come to pass in the same moment; else it was still waiting for it.
    """
    thrown: BaseException | None = None
    for step in itertools.count():
        seen[0] = step
        if late and step == point:
            thrown = asyncio.CancelledError()
        try:
            awaited = work.send(None) if thrown is None else work.throw(thrown)
        except StopIteration as end:
            return end.value
        thrown = None
        task = asyncio.current_task()
        if not late and step == point - 1 and task is not None:
            task.cancel()
        try:
            yield awaited
        except BaseException as fault:  # noqa: BLE001 - it is thrown on
            thrown = fault
    raise AssertionError


Form = Callable[[World, list[str]], Awaitable[object]]


async def _body(ended: list[str], fail: bool = False) -> None:
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    ended.append("failed" if fail else "done")
    if fail:
        raise ConnectionError


async def _decorated(world: World, ended: list[str]) -> None:
    await world.stripe(functools.partial(_body, ended))()


async def _repeated(world: World, ended: list[str]) -> None:
    turns = iter([True, False])

    @world.stripe(idempotent=True)
    async def call() -> None:
        await _body(ended, fail=next(turns))

    await call()


async def _block(world: World, ended: list[str]) -> None:
    async with world.stripe:
        await _body(ended)


async def _loop(world: World, ended: list[str]) -> None:
    turns = iter([True, False])
    async for attempt in world.stripe.attempts():
        with attempt:
            await _body(ended, fail=next(turns))


class _Parts(httpx.AsyncByteStream):
    def __init__(self, ended: list[str]) -> None:
        self._ended = ended

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(2):
            await asyncio.sleep(0)
            yield b"part"
        await asyncio.sleep(0)
        self._ended.append("done")


async def _streamed(world: World, ended: list[str]) -> None:
    async def answer(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)
        return httpx.Response(200, stream=_Parts(ended))

    async with world.stripe.httpx_async_client(transport=httpx.MockTransport(answer)) as client:
        await client.get("https://stripe.example/")


FORMS: tuple[Form, ...] = (_decorated, _repeated, _block, _loop, _streamed)


class Case(NamedTuple):
    """How a call is made, and how it is cancelled."""

    form: Form
    crowded: bool
    """Whether it must first wait for a place in the bulkhead."""
    late: bool
    """Whether what it awaited comes to pass in the very moment of the cancellation."""
    half_open: bool
    """Whether it is a probe."""


def _cases() -> list[Case]:
    flags = (False, True)
    every = [Case(*one) for one in itertools.product(FORMS, flags, flags, flags)]
    # A failed attempt decides a half-open breaker, so that there would be nothing to cancel any more.
    return [case for case in every if not (case.half_open and case.form in (_repeated, _loop))]


async def _one(world: World, case: Case, point: int) -> tuple[int, int]:
    """Make a call and cancel it at that await; how many awaits it came to, how many attempts had ended."""
    ended: list[str] = []
    seen = [0]
    held = [await world.bulkhead.enter_async() for _ in range(4 if case.crowded else 0)]
    work: Any = case.form(world, ended)

    async def driven() -> None:
        await _cancelled_at(work, point, case.late, seen)

    task = asyncio.create_task(driven())
    await asyncio.sleep(0)
    for permit in held:
        world.bulkhead.leave(permit, Outcome.CANCELLED, 0, 0)
    await asyncio.wait([task])
    assert task.cancelled() is (seen[0] >= point)
    return seen[0], len(ended)


def _trip(world: World) -> None:
    """Make it half open; raises BreakerOpen when a permit was leaked."""
    while world.breaker.state != "open":
        world.breaker.leave(world.breaker.enter(), Outcome.FAILURE, 0, world.clock.now())
    world.clock.advance("30s")


async def _cancel(case: Case, rounds: int) -> tuple[int, int, int]:
    """Cancel so many calls, at one await point after the other: how many calls, leaks and wrong counts."""
    failures = 1 if case.half_open else 10**6
    breaker = {"consecutive_failures": failures, "min_calls": 10**6, "probes": 2}
    world = World(**all_but(breaker=breaker))
    awaits, _ = await _one(world, case, 10**6)
    leaked = wrong = 0
    for number in range(rounds):
        if case.half_open:
            _trip(world)
        before = world.judged()
        _, ended = await _one(world, case, 1 + number % awaits)
        leaked += not world.at_rest()
        wrong += world.judged() - before != ended
    if case.half_open:
        _trip(world)
    return rounds, leaked, wrong


def _cancel_everywhere(rounds: int) -> tuple[int, ...]:
    results = [asyncio.run(_cancel(case, rounds)) for case in _cases()]
    return tuple(map(sum, zip(*results, strict=True)))


def test_a_cancelled_call_leaks_nothing_and_counts_as_nothing() -> None:
    """In every form, at every await point, closed and half open, with and without a queue."""
    calls, leaked, wrong = _cancel_everywhere(12)
    assert calls >= 300
    assert (leaked, wrong) == (0, 0)


@pytest.mark.proof
def test_thousands_of_cancelled_calls_leak_nothing_and_count_as_nothing() -> None:
    """The same, at length; every await point of every form is met many times."""
    calls, leaked, wrong = _cancel_everywhere(4000 if FULL else 48)
    figure(f"dependency: permits leaked by {calls:,} cancelled calls", "0", leaked)
    figure(f"dependency: cancelled calls that a breaker counted, of {calls:,}", "0", wrong)
    assert calls >= (10_000 if FULL else 1_200)
    assert (leaked, wrong) == (0, 0)
