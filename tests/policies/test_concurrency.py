"""Places for requests that run at once, and the queue for those that find none."""

from __future__ import annotations

import asyncio
import random
from functools import partial
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from mahavishnu.errors import RateLimited
from mahavishnu.policies._gradient import START
from mahavishnu.policies._places import Places
from mahavishnu.policies.concurrency import Concurrency, Slots
from mahavishnu.protocols import Refusal
from mahavishnu.testing import VirtualClock
from tests.figures import figure
from tests.runtime.asgi_client import House, handshake, harden, limits, ok, run, site

SECOND = 10**9


class Bench:
    """Slots, and what became of everyone who asked for one, by number."""

    def __init__(self, places: int, queue: int, wait: int = SECOND, *, enforced: bool = True) -> None:
        self.clock = VirtualClock()
        self.slots = Slots(Places(places, queue), wait, self.clock, enforced=enforced)
        self.entered: list[int] = []
        self.refused: dict[int, Refusal] = {}

    async def ask(self, number: int) -> None:
        refusal = await self.slots.enter(1)
        if refusal is None:
            self.entered.append(number)
        else:
            self.refused[number] = refusal

    async def all(self, count: int) -> list[asyncio.Task[None]]:
        tasks = [asyncio.create_task(self.ask(number)) for number in range(count)]
        await self.clock.settle()
        return tasks


async def test_the_queue_is_bounded_and_served_in_order() -> None:
    """Two run, three wait, the rest is refused at once; each place goes to who has waited longest."""
    bench = Bench(2, 3)
    await bench.all(10)
    assert bench.entered == [0, 1]
    assert sorted(bench.refused) == [5, 6, 7, 8, 9]
    assert (bench.slots.running, bench.slots.waiting) == (2, 3)
    for turn in range(3):
        bench.slots.leave(None)
        await bench.clock.settle()
        assert bench.entered == list(range(turn + 3))
        assert bench.slots.running == 2
    bench.slots.leave(None)
    bench.slots.leave(None)
    assert (bench.slots.running, bench.clock.timers) == (0, 0)


async def test_a_newcomer_never_overtakes_the_queue() -> None:
    """A place that comes free belongs to the queue, even in the moment before its owner wakes."""
    bench = Bench(1, 5)
    await bench.all(2)
    bench.slots.leave(None)
    late = asyncio.create_task(bench.ask(7))
    await bench.clock.settle()
    assert bench.entered == [0, 1]
    bench.slots.leave(None)
    await late
    assert bench.entered == [0, 1, 7]


async def test_who_waits_too_long_is_refused_in_the_right_moment() -> None:
    """Not a nanosecond before its time; and its place in the queue is free for others."""
    bench = Bench(1, 1)
    tasks = await bench.all(2)
    bench.clock.advance(SECOND - 1)
    await bench.clock.settle()
    assert not bench.refused
    bench.clock.advance(1)
    await tasks[1]
    assert bench.refused[1] == Refusal("had no free place in time", SECOND)
    assert (bench.slots.waiting, bench.clock.timers) == (0, 0)
    bench.slots.leave(None)
    assert bench.slots.running == 0


async def test_a_place_given_in_the_last_moment_is_not_lost() -> None:
    """It comes free, then the wait is over, before the waiting task runs: it was given, and it is used."""
    bench = Bench(1, 1)
    tasks = await bench.all(2)
    bench.slots.leave(None)
    bench.clock.advance(SECOND)
    await tasks[1]
    assert (bench.entered, bench.slots.running) == ([0, 1], 1)


async def test_a_place_that_comes_free_after_the_wait_is_over_stays_free() -> None:
    """The other way round: it is not given to someone who has gone."""
    bench = Bench(1, 1)
    tasks = await bench.all(2)
    bench.clock.advance(SECOND)
    bench.slots.leave(None)
    await tasks[1]
    assert (bench.entered, bench.slots.running) == ([0], 0)


@pytest.mark.parametrize(
    "moment", ["while waiting", "just given", "given, then cancelled twice", "wait just over"]
)
def test_a_cancellation_at_any_point_leaks_no_place(moment: str) -> None:
    """The next in the queue gets it, and in the end all are free."""

    async def scenario() -> None:
        bench = Bench(1, 2)
        tasks = await bench.all(3)
        if moment in ("just given", "given, then cancelled twice"):
            bench.slots.leave(None)
        if moment == "wait just over":
            bench.clock.advance(SECOND)
        tasks[1].cancel()
        if moment == "given, then cancelled twice":
            tasks[1].cancel()
        await bench.clock.settle()
        assert tasks[1].cancelled()
        if moment == "while waiting":
            bench.slots.leave(None)
            await bench.clock.settle()
        if moment != "wait just over":
            assert bench.entered == [0, 2]
        bench.slots.leave(None)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (bench.slots.running, bench.slots.waiting, bench.clock.timers) == (0, 0, 0)

    run(scenario())


async def test_a_burst_that_is_called_off_at_once_costs_no_place() -> None:
    """A place comes free while all who wait have gone, and none of them has heard of it yet: however many they are."""
    bench = Bench(1, 5000)
    tasks = await bench.all(5000)
    for task in tasks[1:]:
        task.cancel()
    bench.slots.leave(None)
    assert bench.slots.running == 0
    await bench.clock.settle()
    assert (bench.slots.running, bench.slots.waiting, bench.clock.timers) == (0, 0, 0)
    assert bench.slots.try_enter(1)


async def _storm(seed: int, steps: int) -> tuple[int, int]:
    """Random entries, departures, cancellations, passing time; the places left over, and the most at once."""
    chance = random.Random(seed)
    bench = Bench(chance.randint(1, 4), chance.randint(0, 4))
    running: set[int] = set()
    most = 0

    async def visit(number: int) -> None:
        if await bench.slots.enter(1) is not None:
            return
        running.add(number)
        try:
            await bench.clock.sleep(chance.randrange(SECOND * 2))
        finally:
            running.discard(number)
            bench.slots.leave(None)

    tasks: list[asyncio.Task[None]] = []
    for number in range(steps):
        tasks.append(asyncio.create_task(visit(number)))
        await bench.clock.settle(chance.randrange(3))
        if chance.random() < 0.4:
            chance.choice(tasks).cancel()
        if chance.random() < 0.4:
            bench.clock.advance(chance.randrange(SECOND))
        most = max(most, len(running) - bench.slots.places)
    while not all(task.done() for task in tasks):
        await bench.clock.settle(3)
        bench.clock.advance(SECOND)
    return bench.slots.running + bench.slots.waiting + bench.clock.timers, most


def test_random_storms_leak_nothing_and_never_exceed_the_places() -> None:
    """1,500 visits, cancelled at random points: all places are free in the end, never too many taken."""
    for seed in range(50):
        leaked, excess = run(_storm(seed, 30))
        assert (leaked, excess <= 0) == (0, True), seed


@pytest.mark.proof
def test_ten_thousand_cancellations_leak_no_place() -> None:
    """The long storm."""
    total = [run(_storm(seed, 50)) for seed in range(1000)]
    leaked, excess = sum(one[0] for one in total), max(one[1] for one in total)
    figure("places leaked over 50,000 visits, two in five followed by a cancellation", 0, leaked)
    assert (leaked, excess <= 0) == (0, True)


async def test_observing_refuses_nobody_and_counts_who_would_be() -> None:
    """Everyone runs at once; those beyond places and queue are told apart, and leaving is balanced."""
    bench = Bench(2, 3, enforced=False)
    await bench.all(10)
    assert bench.entered == [0, 1, 2, 3, 4]
    assert sorted(bench.refused) == [5, 6, 7, 8, 9]
    assert bench.slots.running == 10
    for _ in range(10):
        bench.slots.leave(None)
    assert bench.slots.running == 0


async def test_who_waits_is_let_in_once_the_limit_only_observes() -> None:
    """All at once, as those who come after; who is called off in that moment leaves his place to nobody."""
    bench = Bench(2, 5)
    tasks = await bench.all(7)
    bench.slots.become(Concurrency(concurrency=2, queue=5, mode="observe"))
    tasks[6].cancel()
    await asyncio.wait(tasks)
    assert (bench.entered, bench.refused) == ([0, 1, 2, 3, 4, 5], {})
    assert (bench.slots.running, bench.slots.waiting, bench.clock.timers) == (6, 0, 0)
    bench.slots.become(Concurrency(concurrency=2, queue=5))
    late = asyncio.create_task(bench.ask(7))
    for _ in range(4):
        bench.slots.leave(None)
        await bench.clock.settle()
        assert (bench.slots.waiting, late.done()) == (1, False)
    for _ in range(3):
        bench.slots.leave(None)
    await late
    assert (bench.slots.running, bench.entered[-1]) == (0, 7)


class Busy:
    """A hardened app whose handler runs until it is told to end."""

    def __init__(self, **limit: object) -> None:
        self.end = asyncio.Event()
        self.served = 0
        self.house: House = harden(site(Route("/", self._handler)), limits(**limit))  # type: ignore[arg-type]

    async def _handler(self, request: Request) -> Response:
        self.served += 1
        await self.end.wait()
        return PlainTextResponse("ok")

    async def crowd(self, count: int) -> list[asyncio.Task[int]]:
        tasks = [asyncio.create_task(self.house.status()) for _ in range(count)]
        await self.house.clock.settle()
        return tasks


async def test_a_full_queue_is_503_with_problem_and_retry_after() -> None:
    """The rest of the requests is served once there are places."""
    busy = Busy(slots={"concurrency": 2, "queue": 3, "wait": "1500ms"})
    tasks = await busy.crowd(5)
    answer = await busy.house.call()
    assert (answer.status, answer.headers["retry-after"]) == (503, "2")
    assert answer.json()["type"].endswith("#temporary-reduced-capacity")
    assert (busy.house.gauge("in_flight", "slots"), busy.house.gauge("queued", "slots")) == (2, 3)
    busy.end.set()
    assert await asyncio.gather(*tasks) == [200] * 5
    assert (busy.house.gauge("in_flight", "slots"), busy.house.gauge("queued", "slots")) == (0, 0)
    assert busy.house.decisions("slots") == (5, 1, 0)


async def test_what_the_queue_refuses_costs_no_quota() -> None:
    """At once or after waiting in vain: only those that ran have used the rate."""
    busy = Busy(slots={"concurrency": 1, "queue": 2, "wait": "1s"}, calls={"rate": "5/hour"})
    tasks = await busy.crowd(5)
    busy.house.clock.advance("1s")
    await busy.house.clock.settle()
    assert sorted(task.result() for task in tasks[1:]) == [503] * 4
    busy.end.set()
    assert await tasks[0] == 200
    assert [await busy.house.status() for _ in range(5)] == [200] * 4 + [429]


async def test_a_deadline_that_ends_in_the_queue_costs_no_quota_and_no_place() -> None:
    """504 without the handler having run: the rate is returned, the queue forgets the request."""
    busy = Busy(
        slots={"concurrency": 1, "queue": 5, "wait": "1h"}, calls={"rate": "3/hour"}, t={"timeout": "2s"}
    )
    tasks = await busy.crowd(3)
    busy.house.clock.advance("2s")
    await busy.house.clock.settle()
    assert [task.result() for task in tasks] == [504] * 3
    assert busy.served == 1
    assert (busy.house.gauge("in_flight", "slots"), busy.house.gauge("queued", "slots")) == (0, 0)
    busy.end.set()
    assert [await busy.house.status() for _ in range(3)] == [200, 200, 429]


async def test_a_request_given_up_while_it_waits_leaves_the_queue() -> None:
    """The server cancels it: nobody is served in its stead, and its place in the queue is free."""
    busy = Busy(slots={"concurrency": 1, "queue": 1, "wait": "1h"})
    tasks = await busy.crowd(2)
    tasks[1].cancel()
    await busy.house.clock.settle()
    assert busy.house.gauge("queued", "slots") == 0
    busy.end.set()
    assert await tasks[0] == 200
    assert (busy.served, busy.house.clock.timers, busy.house.app.service.active) == (1, 0, 0)


async def test_who_is_called_off_while_he_waits_has_used_nothing_of_his_rate() -> None:
    """The handler never ran: a request, and a websocket."""
    busy = Busy(slots={"concurrency": 1, "queue": 5, "wait": "1h"}, calls={"rate": "3/hour"})
    tasks = [*await busy.crowd(3), asyncio.create_task(handshake(busy.house.app, "/"))]
    await busy.house.clock.settle()
    for task in tasks[1:]:
        task.cancel()
    await busy.house.clock.settle()
    busy.end.set()
    assert await tasks[0] == 200
    assert [await busy.house.status() for _ in range(3)] == [200, 200, 429]


async def test_of_two_gates_the_first_is_left_when_the_second_refuses() -> None:
    """All matching concurrency limits apply; what was entered on the way is left again."""
    busy = Busy(wide={"concurrency": 10}, narrow={"concurrency": 1})
    tasks = await busy.crowd(4)
    assert sorted(task.result() for task in tasks[1:]) == [503] * 3
    assert busy.house.gauge("in_flight", "wide") == 1
    busy.end.set()
    await asyncio.gather(*tasks)
    assert (busy.house.gauge("in_flight", "wide"), busy.house.gauge("in_flight", "narrow")) == (0, 0)


@pytest.mark.parametrize("wide", [{"concurrency": 10}, {"concurrency": "adaptive", "max": 10}])
async def test_who_waits_for_one_of_a_few_places_holds_none_of_all(wide: dict[str, Any]) -> None:
    """In whatever order they stand in the spec: reports that wait for their turn keep nobody else out."""

    async def slow(request: Request) -> Response:
        await asyncio.sleep(3600)
        return PlainTextResponse("late")

    few = {"concurrency": 1, "queue": 20, "wait": "1h", "match": {"path": "/reports"}}
    house = harden(site(Route("/", ok), Route("/reports", slow)), limits(wide=wide, few=few))
    tasks = [asyncio.create_task(house.call(path="/reports")) for _ in range(12)]
    await house.clock.settle()
    assert (house.gauge("queued", "few"), house.gauge("in_flight", "wide")) == (11, 1)
    assert await house.status() == 200
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_a_failing_handler_gives_its_place_back() -> None:
    """Whatever it raises."""

    async def fails(request: Request) -> Response:
        raise ValueError("no")

    house = harden(site(Route("/", fails)), limits(slots={"concurrency": 1}))
    for _ in range(3):
        with pytest.raises(ValueError, match="no"):
            await house.call()
    assert house.gauge("in_flight", "slots") == 0
    assert house.decisions("slots") == (3, 0, 0)


async def test_observing_serves_all_and_counts_the_excess() -> None:
    """Through the middleware: 200 for everyone, `observed` for those beyond."""
    busy = Busy(slots={"concurrency": 2, "queue": 1, "mode": "observe"})
    tasks = await busy.crowd(8)
    busy.end.set()
    assert await asyncio.gather(*tasks) == [200] * 8
    assert busy.house.decisions("slots") == (3, 0, 5)
    assert busy.house.gauge("in_flight", "slots") == 0


async def test_ranks_through_the_middleware() -> None:
    """By route and method: a critical request takes the spot of a sheddable one, and each is counted by its rank."""
    end = asyncio.Event()

    async def waits(request: Request) -> Response:
        await end.wait()
        return PlainTextResponse("ok")

    app = site(*(Route(path, waits, methods=["GET", "POST"]) for path in ("/checkout", "/", "/search")))
    ranks = {
        "critical": [{"path": "/checkout", "method": "POST"}],
        "sheddable": [{"path": "/search"}],
    }
    house = harden(app, limits(slots={"concurrency": 2, "queue": 2, "wait": "1h", **ranks}))
    tasks: list[asyncio.Task[int]] = []
    for method, path in (
        ("GET", "/checkout"),  # runs; the second place is kept for critical ones
        ("GET", "/search"),  # waits
        ("GET", "/"),  # waits
        ("POST", "/checkout"),  # runs
        ("POST", "/checkout"),  # waits in the place of the search
        ("GET", "/search"),  # finds no place
    ):
        tasks.append(asyncio.create_task(house.status(method, path)))
        await house.clock.settle()
    assert (house.gauge("in_flight", "slots"), house.gauge("queued", "slots")) == (2, 2)
    end.set()
    assert await asyncio.gather(*tasks) == [200, 503, 200, 200, 200, 503]
    shed = {
        rank: house.samples()[f"mahavishnu_limit_shed_total{{limit=slots,rank={rank}}}"]
        for rank in ("critical", "normal", "sheddable")
    }
    assert shed == {"critical": 0, "normal": 0, "sheddable": 2}


async def test_an_adaptive_limit_shows_where_it_is() -> None:
    """The quota's gauge is the limit of the moment."""
    busy = Busy(slots={"concurrency": "adaptive", "max": 7})
    tasks = await busy.crowd(9)
    assert (busy.house.gauge("quota", "slots"), busy.house.gauge("in_flight", "slots")) == (7, 7)
    busy.end.set()
    assert sorted(await asyncio.gather(*tasks)) == [200] * 7 + [503] * 2
    assert busy.house.gauge("in_flight", "slots") == 0
    assert [await busy.house.status() for _ in range(30)] == [200] * 30


class _Slow:
    """An app that takes 200 ms for whatever it does."""

    def __init__(self, work: ASGIApp) -> None:
        self.work = work
        self.clock = VirtualClock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.clock.sleep(SECOND // 5)
        await self.work(scope, receive, send)


async def _limit_after(work: ASGIApp, visit: str, **more: dict[str, Any]) -> float:
    """Where an adaptive limit is after 15 s in which always a few more come than it lets in."""
    app, slots = _Slow(work), {"concurrency": "adaptive"}
    if more:  # an adaptive limit that is narrower than the others comes before them
        house = harden(
            site(Route("/", app)), limits(slots={**slots, "match": {"path": "/"}}, **more), clock=app.clock
        )
    else:
        house = harden(app, limits(slots=slots), clock=app.clock)
    for _ in range(75):
        comes = house.call if visit == "http" else partial(handshake, house.app, "/")
        tasks = [asyncio.ensure_future(comes()) for _ in range(int(house.gauge("quota", "slots")) + 3)]
        for _ in range(2):
            await house.clock.settle()
            house.clock.advance("100ms")
        await asyncio.gather(*tasks, return_exceptions=True)
    return house.gauge("quota", "slots")


async def _fails(scope: Scope, receive: Receive, send: Send) -> None:
    raise ValueError("no")


async def _is_limited(scope: Scope, receive: Receive, send: Send) -> None:
    raise RateLimited("tools", "too many", SECOND)


@pytest.mark.proof
@pytest.mark.parametrize(
    ("work", "visit", "more"),
    [
        (PlainTextResponse("ok"), "http", {}),
        (_fails, "http", {}),
        (_is_limited, "http", {}),
        (WebSocketClose(), "websocket", {}),
        (PlainTextResponse("ok"), "http", {"all": {"concurrency": 5, "queue": 50, "wait": "100ms"}}),
    ],
    ids=["answers", "failures", "refusals", "websockets", "refused elsewhere"],
)
def test_an_adaptive_limit_gives_way_to_what_becomes_slower_alone(
    work: ASGIApp, visit: str, more: dict[str, Any]
) -> None:
    """Not to errors, nor to what lasts or waits for other reasons: nobody has given up."""
    assert run(_limit_after(work, visit, **more)) >= START


async def _streams(scope: Scope, receive: Receive, send: Send) -> None:
    """Of events, that says nothing for as long as its client stays; a websocket likewise."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
    else:
        headers = [(b"Content-Type", b"Text/Event-Stream; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b": here", "more_body": True})
    await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize("slots", [{"concurrency": "adaptive", "max": 4}, {"concurrency": 4}])
async def test_what_only_stays_open_holds_no_place_of_an_adaptive_limit(
    kind: str, slots: dict[str, Any]
) -> None:
    """It is no load; a number says what it says."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await (PlainTextResponse("ok") if scope["path"] == "/" else _streams)(scope, receive, send)

    house = harden(app, limits(slots=slots))
    comes = (
        partial(house.call, path="/events") if kind == "http" else partial(handshake, house.app, "/events")
    )
    opened = [asyncio.ensure_future(comes()) for _ in range(9)]
    await house.clock.settle()
    adaptive = slots["concurrency"] == "adaptive"
    assert sum(not one.done() for one in opened) == (9 if adaptive else 4)
    assert await house.status() == (200 if adaptive else 503)
    assert house.gauge("in_flight", "slots") == (0 if adaptive else 4)
    for one in opened:
        one.cancel()
    await asyncio.gather(*opened, return_exceptions=True)
    assert house.gauge("in_flight", "slots") == 0
    assert await house.status() == 200


async def test_while_the_loop_is_late_requests_of_one_turn_meet() -> None:
    """Handlers that never wait would each find all places free: a turn takes no more of them than there are."""
    house = harden(site(), limits(slots={"concurrency": "adaptive", "max": 5}))

    async def turn() -> int:
        statuses = [await house.status() for _ in range(8)]
        await house.clock.settle(2)
        assert house.gauge("in_flight", "slots") == 0
        return statuses.count(200)

    assert await turn() == 8
    house.app.service.engine.lagging(2 * 10**8)
    assert [await turn(), await turn()] == [5, 5]
    house.clock.advance("10s")
    assert await turn() == 8
