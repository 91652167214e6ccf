"""The short way of a guarded call does what the long way does, whatever happens, and loses nothing."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import mahavishnu
from mahavishnu.clock import SystemClock
from mahavishnu.errors import DependencyError
from mahavishnu.policies._breaker_states import Closed
from mahavishnu.protocols import Outcome
from mahavishnu.runtime.calls import flat
from mahavishnu.runtime.calls.call import Terms, surrounding
from mahavishnu.runtime.calls.operation import Operation
from mahavishnu.runtime.context import HERE, request_id
from mahavishnu.runtime.current import forget, use
from mahavishnu.runtime.service import Service
from mahavishnu.spec import Spec
from tests.figures import FULL, figure
from tests.metering import value
from tests.runtime.asgi_client import House, harden, site, spec_of
from tests.runtime.calls.worlds import ALL, SECOND, World, all_but, serving

Ask = Callable[[str], Awaitable[object]]
PARTS: tuple[dict[str, Any], ...] = (
    ALL,
    all_but(throttle={"min_calls": 5}),
    {"breaker": {"failure_rate": "50%", "min_calls": 5, "slow_call": "1s", "open_for": "5s"}},
    {"retry": {"attempts": 4}},
    {"timeout": "2s"},
    {"bulkhead": {"concurrency": 2}},
    {"throttle": {"min_calls": 3, "accepts": "80%"}},
    {},
)


def short(world: World, call: Ask, terms: Terms) -> Ask:
    """As the decorator guards it."""
    guard = world.service.dependencies["stripe"]
    return flat.guarded(lambda _: guard, Operation("stripe", call, terms), guard.settings)


def fitted(world: World, call: Ask, terms: Terms) -> Ask:
    """As the decorator guards what it can be written out for."""

    async def plain(how: str) -> object:
        return await call(how)

    return short(world, plain, terms)


def long(world: World, call: Ask, terms: Terms) -> Ask:
    """By way of the object that serves every form of a call."""
    guard = world.service.dependencies["stripe"]
    return lambda how: guard.call_async(call, terms, how)


def _bad(answer: object) -> bool:
    return answer == "bad"


class Day:
    """A random day of one dependency: `way` guards its calls, and what comes of them is remembered."""

    def __init__(self, way: Callable[[World, Ask, Terms], Ask], seed: int, said: dict[str, Any]) -> None:
        self.dice = random.Random(seed)
        self.world = World(auto=False, **(said or {"url": "http://x"}))
        self.ended: list[str] = []
        terms = Terms(self.dice.random() < 0.5, self.dice.choice([_bad, None]))
        self.guarded = way(self.world, self.call, terms)

    async def call(self, how: str) -> object:
        """What is guarded: it takes its time, and ends as it is asked to."""
        self.world.clock.advance(self.dice.choice([0, 1000, SECOND // 100, SECOND + 1]))
        if how == "hang":
            await self.world.clock.sleep(10 * SECOND)
        if how == "inside":
            assert [one.guard.name for one in surrounding()] == ["stripe"]
            return await self.guarded("ok")
        await asyncio.sleep(0)
        if how == "fault":
            raise ConnectionError
        return httpx.Response(int(how)) if how.isdigit() else how

    async def one(self, number: int, how: str, within: int | None) -> None:
        """A call, inside of a request that has so long or outside of one."""
        try:
            if within is None:
                said = await self.guarded(how)
            else:
                with serving(deadline=self.world.clock.now() + within):
                    said = await self.guarded(how)
            self.ended.append(f"{number} {getattr(said, 'status_code', said)}")
        except BaseException as fault:  # noqa: BLE001 - all of them are compared
            again = f" {fault} {fault.retry_after}" if isinstance(fault, DependencyError) else ""
            self.ended.append(f"{number} {type(fault).__name__}{again}")

    async def passes(self) -> None:
        """Sixty calls, some at the same time, some of them cancelled."""
        dice, clock, tasks = self.dice, self.world.clock, list[asyncio.Task[None]]()
        for number in range(60):
            how = dice.choice(["ok", "ok", "ok", "ok", "bad", "fault", "hang", "200", "429", "503", "inside"])
            within = dice.choice([None, None, 0, SECOND, 100 * SECOND])
            tasks.append(asyncio.create_task(self.one(number, how, within)))
            await clock.settle(dice.randrange(4))
            if dice.random() < 0.1:
                dice.choice(tasks).cancel()
            clock.advance(dice.choice([0, SECOND // 10, SECOND]))
        while not all(task.done() for task in tasks):
            await clock.settle()
            clock.advance(SECOND)

    def story(self) -> tuple[list[str], dict[tuple[Any, ...], float], int]:
        """How every call ended, what every series says, and how many timers are left."""
        asyncio.run(self.passes())
        samples = {
            (sample.name, *sample.labels.items()): round(sample.value, 6)
            for family in self.world.service.metrics.collect()
            for sample in family.samples
            if "stripe" in sample.labels.values()
        }
        return self.ended, samples, self.world.clock.timers


@pytest.mark.parametrize("said", PARTS, ids=lambda said: "+".join(said) or "nothing")
def test_the_short_way_is_the_long_way(said: dict[str, Any]) -> None:
    """Random days of every policy alone and of all together: nothing that can be seen differs."""
    for seed in range(4):
        one, two, other = (Day(way, seed, said).story() for way in (short, fitted, long))
        assert one == two == other
        assert one[2] == 0


def settings(dice: random.Random) -> dict[str, Any]:
    """A dependency as nobody would write it: every word that the two ways read, now and then."""

    def some(share: float, **words: list[Any]) -> dict[str, Any]:
        return {name: dice.choice(values) for name, values in words.items() if dice.random() < share}

    judged = ["timeout", 429, "connect", "result"]
    breaker = some(
        0.9, min_calls=[1, 3, 10], window=["2s", "30s"], open_for=["500ms", "5s"], probes=[1, 2, 5]
    )
    breaker |= some(0.4, failure_rate=["1%", "100%"], consecutive_failures=[1, 4], ignore=[judged[:2]])
    breaker |= some(0.3, slow_call=["5ms", "1s"], failure_on=[judged[2:]], mode=["observe", "off", "closed"])
    retry = some(0.7, attempts=[1, 2, 5], base=["10ms", "1s"], budget=["20%", "100%"])
    retry |= some(0.4, within=["500ms", "5s"], retry_on=[judged])
    bulkhead = {"concurrency": dice.choice([1, 2, 5])} | some(0.6, wait=["10ms", "5s"])
    throttle = some(0.7, min_calls=[1, 5], accepts=["50%", "100%"], window=["2s"], mode=["observe", "off"])
    parts = some(0.6, breaker=[breaker], retry=[retry], bulkhead=[bulkhead], throttle=[throttle])
    return parts | some(0.6, timeout=["10ms", "1s", "30s"])


@pytest.mark.parametrize("seed", range(40))
def test_the_short_way_is_the_long_way_whatever_is_said(seed: int) -> None:
    """Random days of random settings."""
    said = settings(random.Random(seed))
    one, two, other = (Day(way, seed, said).story() for way in (short, fitted, long))
    assert one == two == other
    assert one[2] == 0


def test_the_short_way_is_taken() -> None:
    """While all is well the other one is not even asked: if this fails, the tests above compare nothing."""
    world = World(**all_but(throttle={}, breaker={"failure_rate": "50%"}))
    guard = world.service.dependencies["stripe"]

    async def other(*_: object, **__: object) -> object:
        raise AssertionError("the long way")

    async def fine(answer: str) -> str:
        await asyncio.sleep(0)
        return answer

    guarded = flat.guarded(lambda _: guard, Operation("stripe", fine, Terms()), guard.settings)

    async def calls() -> None:
        assert await asyncio.gather(*(guarded(answer=str(one)) for one in range(4))) == ["0", "1", "2", "3"]
        for _ in range(20):
            assert await guarded("x") == "x"
        with serving(deadline=world.clock.now() + 100 * SECOND):
            assert await guarded("x") == "x"

    guard.call_async = other  # type: ignore[method-assign, assignment]
    asyncio.run(calls())
    assert (world.calls("success"), world.judged()) == (25, 25)
    assert world.at_rest()


def test_nothing_of_a_call_is_left_in_its_context() -> None:
    """Also after calls inside of calls: what follows takes the short way again."""
    world = World(others={"bank": {"bulkhead": {"concurrency": 1}}}, **ALL)
    bank = mahavishnu.dependency("bank")
    with world.stripe, bank, world.stripe:
        assert len(list(surrounding())) == 3
    assert HERE.get()[0] is None

    async def calls() -> None:
        async with bank:
            await world.stripe(_ok)()
        assert HERE.get()[0] is None

    asyncio.run(calls())


def test_a_request_inside_of_a_call_is_inside_of_it() -> None:
    """An app may call another one, or itself, in its own process: each layer knows what is around it, and whom it
    serves, also after calls of its own."""
    spec = spec_of(dependencies={"stripe": {"retry": {}}, "bank": {"retry": {}}})
    seen: list[tuple[str, list[str]]] = []

    def look() -> None:
        seen.append((request_id(), [one.guard.name for one in surrounding()]))

    async def inner(_: Request) -> Response:
        look()
        await stripe(_ok)()
        look()
        return Response()

    async def called(house: House) -> int:
        return await house.status(path="/inner")

    async def outer(_: Request) -> Response:
        assert await bank(called)(house) == 200
        look()
        async with bank:
            assert await called(house) == 200
        look()
        return Response()

    house = harden(site(Route("/inner", inner), Route("/outer", outer)), spec)
    stripe, bank = mahavishnu.dependency("stripe"), mahavishnu.dependency("bank")

    assert asyncio.run(house.status(path="/outer")) == 200
    names = [name for name, _ in seen]
    assert [found for _, found in seen] == [["bank"], ["bank"], [], ["bank"], ["bank"], []]
    assert names == [names[0], names[0], names[2], names[3], names[3], names[2]]
    assert len(set(names)) == 3


def test_a_budget_that_is_not_full_is_filled_by_short_calls() -> None:
    """A call that succeeds pays in, also where nothing else happens; once it is full that is not even looked at."""
    world = World(retry={"attempts": 2, "budget": "50%", "base": "1ms", "max": "1ms"})
    faults = [ConnectionError()]

    async def charge() -> None:
        if faults:
            raise faults.pop()

    charged = world.stripe(idempotent=True)(charge)
    quick, full = world.guardian.quick, world.guardian.retrier.fullness
    story: list[tuple[float, int]] = []
    for _ in range(3):
        asyncio.run(charged())
        story.append((full(), quick.calls))
    assert story == [(0.95, 0), (1.0, 0), (1.0, 1)]


def test_a_quick_call_may_be_slow() -> None:
    """Slower than `slow_call`, however short that is; and quicker than it, it is a quick one."""
    world = World(breaker={"failure_rate": "50%", "slow_call": "2ms"})

    async def charge(took: int) -> None:
        world.clock.advance(took)

    for took in (2_000_001, 2_000_000, 1, 3_000_000):
        asyncio.run(world.stripe(charge)(took))
    series = "mahavishnu_breaker_calls_total"
    assert [value(world.service.metrics, series, speed=speed) for speed in ("fast", "slow")] == [2, 2]


def test_quick_calls_are_shown_when_they_are_looked_for() -> None:
    """Counted many at a time: a scrape finds all of them, in the histogram too, and none twice."""
    world = World(timeout="2s")

    async def fine() -> None:
        world.clock.advance(1_000_000)

    async def calls() -> None:
        for _ in range(3):
            await world.stripe(fine)()

    for turn in (1, 2):
        asyncio.run(calls())
        assert world.calls("success") == 3 * turn
        assert value(world.service.metrics, "mahavishnu_dependency_duration_seconds_count") == 3 * turn
        assert value(world.service.metrics, "mahavishnu_dependency_duration_seconds_sum") == pytest.approx(
            0.003 * turn
        )
    assert value(world.service.metrics, "mahavishnu_dependency_duration_seconds_bucket", le="0.005") == 6


def test_loops_in_threads_lose_nothing() -> None:
    """Eight event loops share breaker, bulkhead and series without a lock: every call is counted, every place free."""
    said = {"breaker": {"min_calls": 10**6}, "bulkhead": {"concurrency": 9, "wait": "10s"}, "timeout": "60s"}
    forget()
    head = {"mahavishnu": 1, "service": {"name": "shop", "app": "shop:app"}}
    service = Service(Spec.model_validate({**head, "dependencies": {"stripe": said}}), SystemClock())
    use(service)
    lock, running, most = threading.Lock(), [0], [0]

    @mahavishnu.dependency("stripe")
    async def charge(number: int) -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        if number % 3 == 0:
            await asyncio.sleep(0)
        with lock:
            running[0] -= 1
        if number % 50 == 0:
            raise ConnectionError

    async def work() -> None:
        for _ in range(20):
            await asyncio.gather(*(charge(number) for number in range(50)), return_exceptions=True)

    threads = [threading.Thread(target=lambda: asyncio.run(work())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    bulkhead: Any = service.dependencies["stripe"].bulkhead
    counted = [
        value(service.metrics, "mahavishnu_dependency_calls_total", outcome=outcome)
        for outcome in ("success", "failure", "rejected", "cancelled")
    ]
    assert counted == [8 * 20 * 49, 8 * 20, 0, 0]
    assert value(service.metrics, "mahavishnu_breaker_calls_total") == 8 * 20 * 50
    assert (bulkhead.free, len(bulkhead.waiters), running[0]) == (9, 0, 0)
    assert most[0] <= 9


# --- cancelled at every await point --------------------------------------------------------------------


class Await:
    """A call with so many await points, cancelled at one of them."""

    def __init__(self, world: World, form: str) -> None:
        self.world, self.form = world, form

    async def make(self) -> None:
        """One guarded call, in the form that is asked for."""
        stripe = self.world.stripe
        if self.form == "decorated":
            await stripe(idempotent=True)(_steps)()
        elif self.form == "block":
            async with stripe:
                await _steps()
        elif self.form == "attempts":
            async for attempt in stripe.attempts():
                with attempt:
                    await _steps()
        else:
            transport = httpx.MockTransport(_answer)
            async with stripe.httpx_async_client(transport=transport) as client:
                await client.get("http://x/")


async def _steps() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def _answer(_: httpx.Request) -> httpx.Response:
    await _steps()
    return httpx.Response(200, stream=_Parts())


class _Parts(httpx.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(3):
            await asyncio.sleep(0)
            yield b"part"


FORMS = ("decorated", "block", "attempts", "client")


def cancelled(form: str, state: str, turns: int) -> bool:
    """Cancel a call after so many turns of the loop: False when it was over by then. It counts as nothing."""
    world = World(
        **all_but(breaker={"consecutive_failures": 1, "probes": 1}, bulkhead={"concurrency": 1, "wait": "9s"})
    )
    if state == "half_open":
        permit = world.breaker.enter()
        world.breaker.leave(permit, Outcome.FAILURE, 1, world.clock.now())
        world.clock.advance("60s")
    judged = world.judged()

    async def scenario() -> bool:
        waits = state == "waiting"
        if waits:
            await world.bulkhead.enter_async()
        task = asyncio.create_task(Await(world, form).make())
        for _ in range(turns):
            await asyncio.sleep(0)
        if task.done():
            await task
            return False
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        if waits:
            world.bulkhead.give_back()
        return True

    clock = world.clock
    clock.auto = False
    over = not asyncio.run(scenario())
    if not over:
        assert world.judged() == judged
    assert world.at_rest()
    assert not list(surrounding())
    assert asyncio.run(world.stripe(_ok)()) == "ok"
    assert isinstance(world.breaker.now_state, Closed)
    return not over


async def _ok() -> str:
    return "ok"


def _points(form: str, state: str) -> Iterator[int]:
    """Every number of turns after which a call of this form is still under way."""
    turns = 0
    while cancelled(form, state, turns) and turns < 12:
        yield turns
        turns += 1


@pytest.mark.parametrize("state", ["closed", "half_open", "waiting"])
@pytest.mark.parametrize("form", FORMS)
def test_cancelled_at_any_point_it_is_as_if_it_had_never_been(form: str, state: str) -> None:
    """Before, at and after every await, waiting for a place or not, as a probe or not: nothing leaks or counts."""
    assert len(list(_points(form, state))) >= 3


@pytest.mark.proof
def test_a_hundred_thousand_cancellations() -> None:
    """The same at length, and many at once on one dependency, at random moments."""
    total = 100_000 if FULL else 10_000
    world = World(auto=False, **all_but(breaker={"consecutive_failures": 1, "probes": 3}))
    dice, done = random.Random(5), 0

    async def storm() -> int:
        ended = 0
        while ended < total:
            tasks = [asyncio.create_task(Await(world, dice.choice(FORMS)).make()) for _ in range(20)]
            for _ in range(dice.randrange(8)):
                await asyncio.sleep(0)
                dice.choice(tasks).cancel()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            ended += sum(task.cancelled() for task in tasks)
            assert world.at_rest()
        return ended

    done = asyncio.run(storm())
    figure(
        "calls cancelled at any await point: permits leaked, failures counted",
        "0, 0 of 100,000",
        f"{world.bulkhead.in_flight}, {world.calls('failure'):.0f} of {done:,}",
    )
    assert (world.bulkhead.in_flight, world.calls("failure"), world.breaker.state) == (0, 0, "closed")
    assert done >= total
