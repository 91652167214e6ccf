"""The real clock's deadlines: many that recur, one timer; each at its time, none that was called off."""

from __future__ import annotations

import asyncio
import gc
import random
import time
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import Any, cast
from weakref import ref

import pytest

from mahavishnu.clock import SystemClock
from mahavishnu.protocols import Handle

MS = 1_000_000
_WHO: ContextVar[str] = ContextVar("who", default="nobody")


async def _until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not done():  # noqa: ASYNC110 - what is waited for is the real clock
            await asyncio.sleep(0.001)


async def test_each_runs_once_in_order_and_never_early() -> None:
    """Deadlines of one delay run in the order in which they were set, none before its time."""
    clock, rung, due = SystemClock(), list[int](), list[int]()

    def ring(number: int) -> None:
        assert clock.now() >= due[number]
        rung.append(number)

    for number in range(20):
        due.append(clock.now() + 5 * MS)
        clock.deadline(5 * MS, partial(ring, number))
        if number % 5 == 0:
            await asyncio.sleep(0.002)
    await _until(lambda: len(rung) == 20)
    await asyncio.sleep(0.01)
    assert rung == list(range(20))


async def test_what_is_called_off_does_not_run_and_the_next_one_still_does() -> None:
    """The timer was set for the first, which is called off: the second runs all the same, at its own time."""
    clock, rung = SystemClock(), list[str]()
    first = clock.deadline(10 * MS, lambda: rung.append("first"))
    await asyncio.sleep(0.005)
    clock.deadline(10 * MS, lambda: rung.append("second"))
    first.cancel()
    first.cancel()
    await _until(lambda: bool(rung))
    assert rung == ["second"]


async def test_one_that_is_called_off_in_the_turn_in_which_it_is_due_does_not_run() -> None:
    """The first of two that are due calls off the second."""
    clock, rung = SystemClock(), list[str]()
    others: list[Handle] = []

    def first() -> None:
        rung.append("first")
        others[0].cancel()

    clock.deadline(MS, first)
    others.append(clock.deadline(MS, lambda: rung.append("second")))
    time.sleep(0.003)  # noqa: ASYNC251 - both are due when the loop turns
    await _until(lambda: bool(rung))
    await asyncio.sleep(0.005)
    assert rung == ["first"]


async def test_a_fault_in_one_does_not_keep_the_others_from_running() -> None:
    """What a deadline calls may fail: the loop hears of it, and the next one runs."""
    clock, rung, faults = SystemClock(), list[str](), list[object]()

    def fail() -> None:
        raise ZeroDivisionError

    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context["exception"]))
    clock.deadline(MS, fail)
    clock.deadline(MS, lambda: rung.append("second"))
    await _until(lambda: bool(rung))
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


async def test_the_shared_timer_carries_nobody_s_context() -> None:
    """What one request knows of itself is not seen, nor kept alive, by the deadline of another."""
    clock, seen = SystemClock(), list[str]()
    _WHO.set("the first")
    clock.deadline(MS, lambda: seen.append(_WHO.get()))
    _WHO.set("the second")
    clock.deadline(MS, lambda: seen.append(_WHO.get()))
    await _until(lambda: len(seen) == 2)
    assert seen == ["nobody", "nobody"]


class _Bell:
    """A task's end, as an alarm is one: it says when it was reached."""

    def __init__(self, clock: SystemClock, name: int, rung: list[int]) -> None:
        self.due = 0
        self.task: asyncio.Task[Any] = cast("asyncio.Task[Any]", asyncio.current_task())
        self._clock, self._name, self._rung = clock, name, rung

    def expire(self) -> None:
        assert self._clock.now() >= self.due > 0
        self._rung.append(self._name)


@pytest.mark.parametrize(
    "delays", [(1, 2, 3, 4), (60_000, 1, 2, 3, 4), (60_000, 4, 60_000, 1, 3, 2), (4, 3, 2, 1)]
)
async def test_delays_of_any_length_are_over_at_their_ends(delays: tuple[int, ...]) -> None:
    """Whichever was set first: the timer is set anew for one that is due sooner, and then for the next one."""
    clock, rung = SystemClock(), list[int]()
    for _ in range(2):
        for ms in delays:
            clock.watch_once(_Bell(clock, ms, rung), asyncio.get_running_loop(), clock.now(), ms * MS)
        asyncio.get_running_loop().call_later(0.3, rung.append, 300)
        await _until(lambda: 300 in rung)
        assert rung == [1, 2, 3, 4, 300]
        rung.clear()


async def test_timers_that_were_set_for_later_do_not_pile_up() -> None:
    """While one waits for long, a thousand times one comes that is due sooner than the last."""
    clock, rung = SystemClock(), list[int]()
    clock.watch_once(_Bell(clock, 0, rung), asyncio.get_running_loop(), clock.now(), 3_600_000 * MS)
    for turn in range(10):
        for number in range(100):
            clock.watch_once(
                _Bell(clock, number, rung), asyncio.get_running_loop(), clock.now(), MS - 1000 * number
            )
        while len(rung) < 100 * (turn + 1):  # noqa: ASYNC110 - the bells are the clock's
            await asyncio.sleep(0.001)
    gc.collect()
    loop = asyncio.get_running_loop()
    handles = [one for one in gc.get_objects() if isinstance(one, asyncio.TimerHandle)]
    assert sum(one._loop is loop for one in handles) < 10  # type: ignore[attr-defined]


async def test_who_is_always_called_off_in_time_costs_no_timers() -> None:
    """Of a hundred that come one after the other, and none of which is due, the first alone has one that rings."""
    clock, rung, rings = SystemClock(), list[int](), list[float]()
    loop = asyncio.get_running_loop()
    own = loop.call_later

    def counted(delay: float, *more: Any, **named: Any) -> asyncio.TimerHandle:
        rings.append(delay)
        return own(delay, *more, **named)

    loop.call_later = counted  # type: ignore[method-assign, assignment]
    for number in range(100):
        bell = _Bell(clock, number, rung)
        clock.watch_once(bell, asyncio.get_running_loop(), clock.now(), 20 * MS + number * MS // 5)
        bell.due = 0
    await asyncio.sleep(0.05)
    assert [one for one in rings if one != 0.05] == rings[:1]


async def test_among_those_that_are_called_off_the_others_keep_their_order() -> None:
    """Of 2,000 one in four stays."""
    clock, rung, draw = SystemClock(), list[int](), random.Random(1)
    began, kept = clock.now(), list[int]()
    for number, ms in enumerate(draw.sample(range(2000), 2000)):
        bell = _Bell(clock, ms, rung)
        clock.watch_once(bell, asyncio.get_running_loop(), began, 20 * MS + ms * MS // 50)
        if number % 4:
            bell.due = 0
        else:
            kept.append(ms)
    await _until(lambda: len(rung) == 500)
    assert rung == sorted(kept)


def test_delays_of_any_length_that_are_called_off_do_not_pile_up() -> None:
    """Behind one that waits long, and each of its own length; another loop has its own."""
    clock, rung = SystemClock(), list[int]()

    async def scenario() -> None:
        first = _Bell(clock, 0, rung)
        clock.watch_once(first, asyncio.get_running_loop(), clock.now(), 3_600_000 * MS)
        for number in range(10_000):
            bell = _Bell(clock, number, rung)
            clock.watch_once(bell, asyncio.get_running_loop(), clock.now(), 3_600_000 * MS + number)
            bell.due = 0
            del bell.task
        gc.collect()
        assert sum(type(one) is _Bell for one in gc.get_objects()) < 200
        first.due = 0
        del first.task
        loops.append(ref(asyncio.get_running_loop()))

    async def other() -> None:
        clock.watch_once(_Bell(clock, 7, rung), asyncio.get_running_loop(), clock.now(), MS)
        await _until(lambda: bool(rung))

    loops = list[ref[asyncio.AbstractEventLoop]]()
    asyncio.run(scenario())
    asyncio.run(other())
    assert rung == [7]
    gc.collect()
    assert loops[0]() is None
