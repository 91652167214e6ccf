"""The bulkhead: never more at once than it says, first come first served, and no place is ever lost."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from mahavishnu.clock import SystemClock
from mahavishnu.errors import BulkheadFull
from mahavishnu.policies.bulkhead import Bulkhead, BulkheadGuard
from mahavishnu.protocols import Outcome, Site
from mahavishnu.testing import VirtualClock
from tests.metering import metrics_for, value

OK = Outcome.SUCCESS


class World:
    """A bulkhead, its clock and its series."""

    def __init__(self, clock: VirtualClock | None = None, **said: Any) -> None:
        settings = Bulkhead.model_validate(said)
        self.clock = clock or VirtualClock()
        self.metrics = metrics_for(settings)
        self.guard: BulkheadGuard = settings.guard(Site("stripe", self.clock, self.metrics))

    def leave(self) -> None:
        self.guard.leave(None, OK, 1, self.clock.now())

    @property
    def numbers(self) -> tuple[int, int]:
        """How many run and how many wait."""
        return self.guard.in_flight, self.guard.waiting


def scenario(work: Callable[[], Awaitable[None]]) -> None:
    """Run an async test."""

    async def run() -> None:
        await work()

    asyncio.run(run())


def test_without_a_wait_the_next_is_refused_at_once() -> None:
    """Two places, two calls; the third is refused, in both worlds, and shown."""
    world = World(concurrency=2)
    world.guard.enter()
    asyncio.run(world.guard.enter_async())
    with pytest.raises(BulkheadFull, match="all 2 places"):
        world.guard.enter()
    with pytest.raises(BulkheadFull):
        asyncio.run(world.guard.enter_async())
    assert value(world.metrics, "mahavishnu_bulkhead_refusals_total") == 2
    assert value(world.metrics, "mahavishnu_bulkhead_in_flight") == 2
    assert value(world.metrics, "mahavishnu_bulkhead_capacity") == 2
    world.leave()
    world.guard.enter()


def test_the_first_to_wait_is_the_first_to_enter() -> None:
    """Nobody overtakes, not even one who comes at the moment a place becomes free."""
    world = World(concurrency=1, wait="1s")
    order: list[int] = []

    async def one(number: int) -> None:
        await world.guard.enter_async()
        order.append(number)

    async def work() -> None:
        await world.guard.enter_async()
        tasks = [asyncio.create_task(one(number)) for number in range(5)]
        await world.clock.settle()
        world.leave()
        late = asyncio.create_task(one(99))
        await world.clock.settle()
        for _ in range(5):
            world.leave()
            await world.clock.settle()
        await asyncio.gather(*tasks, late)

    scenario(work)
    assert order == [0, 1, 2, 3, 4, 99]
    assert world.numbers == (1, 0)


def test_whoever_has_waited_long_enough_is_refused() -> None:
    """Exactly after `wait`, not a nanosecond sooner; the queue forgets him and no timer stays."""
    world = World(concurrency=1, wait="100ms")

    async def work() -> None:
        await world.guard.enter_async()
        task = asyncio.create_task(world.guard.enter_async())
        await world.clock.settle()
        world.clock.advance(99_999_999)
        await world.clock.settle()
        assert not task.done()
        world.clock.advance(1)
        with pytest.raises(BulkheadFull):
            await task

    scenario(work)
    assert (world.numbers, world.clock.timers) == ((1, 0), 0)


def test_a_place_that_comes_at_the_last_moment_is_taken() -> None:
    """When the wait ends and a place becomes free in the same turn of the loop, the place is not lost."""
    world = World(concurrency=1, wait="100ms")

    async def work() -> None:
        await world.guard.enter_async()
        task = asyncio.create_task(world.guard.enter_async())
        await world.clock.settle()
        world.clock.advance("100ms")
        world.leave()
        await task

    scenario(work)
    assert world.numbers == (1, 0)


def test_a_cancelled_wait_leaves_the_queue() -> None:
    """The next in the queue is served instead."""
    world = World(concurrency=1, wait="1s")

    async def work() -> None:
        await world.guard.enter_async()
        tasks = [asyncio.create_task(world.guard.enter_async()) for _ in range(2)]
        await world.clock.settle()
        tasks[0].cancel()
        await world.clock.settle()
        assert world.numbers == (1, 1)
        world.leave()
        await tasks[1]
        assert tasks[0].cancelled()

    scenario(work)
    assert world.numbers == (1, 0)


def test_a_place_handed_to_a_cancelled_task_is_passed_on() -> None:
    """Granted and cancelled in the same turn of the loop: the place goes to the next, or is free again."""
    for waiting in (1, 2):
        world = World(concurrency=1, wait="1s")

        async def work(world: World = world, waiting: int = waiting) -> None:
            await world.guard.enter_async()
            tasks = [asyncio.create_task(world.guard.enter_async()) for _ in range(waiting)]
            await world.clock.settle()
            world.leave()
            tasks[0].cancel()
            await world.clock.settle()
            assert tasks[0].cancelled()
            assert [task.done() for task in tasks[1:]] == [True] * (waiting - 1)

        scenario(work)
        assert world.numbers == (waiting - 1, 0)


def test_a_place_is_not_handed_to_a_loop_that_is_closed() -> None:
    """Whoever waited in a loop that died is skipped."""
    world = World(concurrency=1, wait="1s")
    world.guard.enter()
    loop = asyncio.new_event_loop()
    task = loop.create_task(world.guard.enter_async())
    loop.run_until_complete(asyncio.sleep(0))
    assert world.numbers == (1, 1)
    loop.close()
    world.leave()
    assert world.numbers == (0, 0)
    # Nobody can await it any more; asyncio would complain about that when it is collected.
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    task.get_coro().close()


def test_a_thread_waits_and_gets_the_place() -> None:
    """A blocked thread goes on as soon as a place is free, and is refused when its time is over."""
    world = World(concurrency=1, wait="1s")
    world.guard.enter()
    entered = threading.Thread(target=world.guard.enter)
    entered.start()
    while world.guard.waiting < 1:
        pass
    world.leave()
    entered.join(timeout=5)
    assert world.numbers == (1, 0)
    refused = World(VirtualClock(auto=True), concurrency=1, wait="1s")
    refused.guard.enter()
    with pytest.raises(BulkheadFull):
        refused.guard.enter()
    assert refused.clock.now() == 10**9
    assert refused.numbers == (1, 0)


def test_an_interrupted_thread_leaves_the_queue() -> None:
    """Ctrl-C in the middle of the wait holds no place and no turn."""

    class Interrupted(VirtualClock):
        def wait(self, event: threading.Event, delay: int) -> None:
            raise KeyboardInterrupt

    world = World(Interrupted(), concurrency=1, wait="1s")
    world.guard.enter()
    with pytest.raises(KeyboardInterrupt):
        world.guard.enter()
    assert world.numbers == (1, 0)


def test_an_event_loop_is_never_blocked() -> None:
    """A blocking call made inside a running loop is refused at once: who should return a place meanwhile?"""
    world = World(concurrency=1, wait="1000s")

    async def work() -> None:
        world.guard.enter()
        with pytest.raises(BulkheadFull):
            world.guard.enter()

    scenario(work)


def test_threads_and_loops_share_the_places() -> None:
    """Eight threads and forty tasks of two loops, in real time: never more than three at once, none lost."""
    settings = Bulkhead.model_validate({"concurrency": 3, "wait": "10s"})
    guard = settings.guard(Site("stripe", SystemClock(), metrics_for(settings)))
    lock, running, most, done = threading.Lock(), [0], [0], [0]

    def inside(step: int) -> None:
        with lock:
            running[0] += step
            most[0] = max(most[0], running[0])
            done[0] += step > 0

    def thread() -> None:
        for _ in range(50):
            guard.enter()
            inside(1)
            inside(-1)
            guard.leave(None, OK, 1, 0)

    async def task() -> None:
        for _ in range(10):
            await guard.enter_async()
            inside(1)
            await asyncio.sleep(0)
            inside(-1)
            guard.leave(None, OK, 1, 0)

    async def tasks() -> None:
        await asyncio.gather(*(task() for _ in range(20)))

    threads = [threading.Thread(target=thread) for _ in range(8)]
    threads += [threading.Thread(target=lambda: asyncio.run(tasks())) for _ in range(2)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(timeout=30)
    assert (most[0], done[0], guard.in_flight, guard.waiting) == (3, 800, 0, 0)


def test_random_schedules_lose_no_place() -> None:
    """2,000 seeded steps of coming, leaving, being cancelled and time passing: the places always add up."""
    dice = random.Random(7)
    world = World(concurrency=3, wait="10ms")

    async def work() -> None:
        tasks: list[asyncio.Task[object]] = []
        running = 0
        for _ in range(2000):
            match dice.randrange(4):
                case 0:
                    tasks.append(asyncio.create_task(world.guard.enter_async()))
                case 1 if running:
                    world.leave()
                    running -= 1
                case 2 if tasks:
                    dice.choice(tasks).cancel()
                case _:
                    world.clock.advance(dice.randrange(6_000_000))
            await world.clock.settle(dice.randrange(3))
            over = [task for task in tasks if task.done()]
            running += sum(1 for task in over if not task.cancelled() and task.exception() is None)
            tasks = [task for task in tasks if task not in over]
            assert world.guard.in_flight >= running
            assert world.guard.in_flight <= 3
        world.clock.advance("10ms")
        results = await asyncio.gather(*tasks, return_exceptions=True)
        running += sum(1 for one in results if not isinstance(one, BaseException))
        assert world.numbers == (running, 0)

    scenario(work)
    assert world.clock.timers == 0
