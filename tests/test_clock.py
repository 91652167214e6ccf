"""The real clock's deadlines: many that recur, one timer; each at its time, none that was called off."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial

from mahavishnu.clock import SystemClock
from mahavishnu.policy import Handle

MS = 1_000_000
_WHO: ContextVar[str] = ContextVar("who", default="nobody")


async def _until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not done():  # noqa: ASYNC110 - what is waited for is the real clock
            await asyncio.sleep(0.001)


def test_each_runs_once_in_order_and_never_early() -> None:
    """Deadlines of one delay run in the order in which they were set, none before its time."""
    clock, rung, due = SystemClock(), list[int](), list[int]()

    def ring(number: int) -> None:
        assert clock.now() >= due[number]
        rung.append(number)

    async def scenario() -> None:
        for number in range(20):
            due.append(clock.now() + 5 * MS)
            clock.deadline(5 * MS, partial(ring, number))
            if number % 5 == 0:
                await asyncio.sleep(0.002)
        await _until(lambda: len(rung) == 20)
        await asyncio.sleep(0.01)

    asyncio.run(scenario())
    assert rung == list(range(20))


def test_what_is_called_off_does_not_run_and_the_next_one_still_does() -> None:
    """The timer was set for the first, which is called off: the second runs all the same, at its own time."""
    clock, rung = SystemClock(), list[str]()

    async def scenario() -> None:
        first = clock.deadline(10 * MS, lambda: rung.append("first"))
        await asyncio.sleep(0.005)
        clock.deadline(10 * MS, lambda: rung.append("second"))
        first.cancel()
        first.cancel()
        await _until(lambda: bool(rung))

    asyncio.run(scenario())
    assert rung == ["second"]


def test_one_that_is_called_off_in_the_turn_in_which_it_is_due_does_not_run() -> None:
    """The first of two that are due calls off the second."""
    clock, rung = SystemClock(), list[str]()
    others: list[Handle] = []

    def first() -> None:
        rung.append("first")
        others[0].cancel()

    async def scenario() -> None:
        clock.deadline(MS, first)
        others.append(clock.deadline(MS, lambda: rung.append("second")))
        time.sleep(0.003)  # noqa: ASYNC251 - both are due when the loop turns
        await _until(lambda: bool(rung))
        await asyncio.sleep(0.005)

    asyncio.run(scenario())
    assert rung == ["first"]


def test_a_fault_in_one_does_not_keep_the_others_from_running() -> None:
    """What a deadline calls may fail: the loop hears of it, and the next one runs."""
    clock, rung, faults = SystemClock(), list[str](), list[object]()

    def fail() -> None:
        raise ZeroDivisionError

    async def scenario() -> None:
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: faults.append(context["exception"])
        )
        clock.deadline(MS, fail)
        clock.deadline(MS, lambda: rung.append("second"))
        await _until(lambda: bool(rung))

    asyncio.run(scenario())
    assert rung == ["second"]
    assert [type(fault) for fault in faults] == [ZeroDivisionError]


def test_behind_one_that_waits_long_nothing_piles_up() -> None:
    """10,000 deadlines that were called off are let go of, although the first one of all still waits."""
    clock = SystemClock()

    async def scenario() -> None:
        clock.deadline(3_600_000 * MS, _called_off)
        for _ in range(10_000):
            clock.deadline(3_600_000 * MS, _called_off).cancel()
        assert _deadlines() < 200

    asyncio.run(scenario())
    assert _deadlines() == 0


def _called_off() -> None:
    raise AssertionError("called off, yet called")


def _deadlines() -> int:
    gc.collect()
    return sum(type(one).__name__ == "_Deadline" for one in gc.get_objects())


def test_every_event_loop_has_its_own() -> None:
    """A second loop's deadlines do not wait for the timer of one that has ended."""
    clock, rung = SystemClock(), list[str]()

    async def left_behind() -> None:
        clock.deadline(5 * MS, lambda: rung.append("never"))

    async def scenario() -> None:
        clock.deadline(5 * MS, lambda: rung.append("second"))
        await _until(lambda: bool(rung))

    asyncio.run(left_behind())
    asyncio.run(scenario())
    assert rung == ["second"]


def test_the_shared_timer_carries_nobody_s_context() -> None:
    """What one request knows of itself is not seen, nor kept alive, by the deadline of another."""
    clock, seen = SystemClock(), list[str]()

    async def scenario() -> None:
        _WHO.set("the first")
        clock.deadline(MS, lambda: seen.append(_WHO.get()))
        _WHO.set("the second")
        clock.deadline(MS, lambda: seen.append(_WHO.get()))
        await _until(lambda: len(seen) == 2)

    asyncio.run(scenario())
    assert seen == ["nobody", "nobody"]
