"""The usual case of a decision, in one pass, is the decision of all the parts: no request can tell them apart."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from mahavishnu.runtime.keys import Caller
from mahavishnu.runtime.limits.admission import Admission
from mahavishnu.runtime.limits.engine import Engine
from mahavishnu.runtime.limits.memory_store import SHARDS
from mahavishnu.runtime.limits.plan import Plan
from mahavishnu.runtime.limits.planner import Planner
from mahavishnu.runtime.service import Service
from mahavishnu.testing import VirtualClock
from tests.runtime.asgi_client import House, handshake, harden, limits, ok, run, site

# Rates of whole nanoseconds, and one that has none; few clients, so that quotas run out and come back.
RATES = ("4/second", "60/minute", "2/hour", "100/minute", "7/second")
PAUSES = (0, 0, 0, 1, 10**6, 3 * 10**8, 10**9, 7 * 10**9, 61 * 10**9)


def random_limit(chance: random.Random) -> dict[str, Any]:
    """A rate; one in ten is of another kind, and one in four only observes."""
    said: dict[str, Any] = {"rate": chance.choices(RATES, (4, 4, 4, 4, 1))[0]}
    said["mode"] = chance.choice(["enforce", "enforce", "enforce", "observe"])
    said["per"] = chance.choice(["client", "global", "ip", "route", ["client", "route"]])
    if chance.random() < 0.1:
        return {**said, "algorithm": "sliding_window"}
    return {**said, "burst": chance.randint(2, 5), "cost": chance.randint(1, 2)}


def random_moves(chance: random.Random) -> list[tuple[int, int, bool]]:
    """Who comes, how long after the one before (ns), and whether the rates have been taken over by then."""
    return [(chance.randint(0, 4), chance.choice(PAUSES), chance.random() < 0.02) for _ in range(40)]


def told(house: House) -> dict[str, float]:
    """Everything that the series say of limits; what has rested may be kept a little longer one way than the other."""
    said = house.samples().items()
    return {
        name: value
        for name, value in said
        if name.startswith("mahavishnu_limit") and not name.startswith("mahavishnu_limit_store")
    }


async def story(spec: Any, moves: list[tuple[int, int, bool]]) -> list[Any]:
    """What clients are answered, and what is counted; the store knows how many keys it has."""
    house, seen = harden(site(), spec), list[Any]()
    store: Any = house.app.service.store
    for client, pause, taken_over in moves:
        house.clock.advance(pause)
        for table in store._tables.values():
            for _ in range(SHARDS if pause else 0):
                table.turn(house.clock.now())  # each time some of what has rested is let go
        if taken_over:
            tables = store._tables.items()
            store._tables = {name: one.heir(one.algorithm, house.clock.now()) for name, one in tables}
            store._moved()
        answer = await house.call(client=f"203.0.113.{client}")
        seen.append((answer.status, answer.headers | {"x-request-id": ""}, answer.body, told(house)))
    for table in store._tables.values():
        for shard in table.shards:
            shard.inherit()
        assert table.size == sum(len(shard.young) + len(shard.old) for shard in table.shards)
    refusals = house.app.service.refusals
    most = [(name, refusals.top(name, 9)) for name in refusals.limits]
    return [*seen, [(name, total, [one[1:] for one in top]) for name, (total, _, top) in most]]


def long_way(planner: Planner, planned: Callable[[Planner, str, str], Plan], route: str, method: str) -> Plan:
    """A plan whose requests are decided by all the parts."""
    plan = planned(planner, route, method)
    object.__setattr__(plan, "fast", None)
    return plan


def both_ways(scenario: Callable[[], Awaitable[Any]]) -> tuple[Any, Any]:
    """What comes of a scenario the short way, and the long way."""
    planned, short = Planner._planned, run(scenario())  # pyright: ignore[reportPrivateUsage]
    try:
        Planner._planned = lambda one, route, method: long_way(one, planned, route, method)  # type: ignore[method-assign, assignment]  # pyright: ignore[reportPrivateUsage]
        return short, run(scenario())
    finally:
        Planner._planned = planned  # type: ignore[method-assign]  # pyright: ignore[reportPrivateUsage]


@pytest.mark.proof
def test_no_request_can_tell_which_way_it_was_decided() -> None:
    """Status, fields, body and series are the same, whatever the rates and whenever the requests come."""
    seen = Counter[int]()
    for seed in range(30):
        chance = random.Random(seed)
        said = {name: random_limit(chance) for name in "abc"[: chance.randint(1, 3)]}
        moves = random_moves(chance)
        short, long = both_ways(partial(story, limits(**said), moves))
        assert short == long, said
        seen.update(one[0] for one in short[:-1])
    assert min(seen[200], seen[429]) > 200


def test_what_comes_in_between_is_known_to_a_refund() -> None:
    """One that waits for a place and gets none has its quota back, less what has refilled since: by what came after."""

    async def slow(request: Request) -> Response:
        await asyncio.sleep(3600)
        return PlainTextResponse("late")

    async def scenario() -> list[Any]:
        spec = limits(
            calls={"rate": "60/minute", "burst": 10},
            slots={"concurrency": 1, "queue": 1, "wait": "4s", "match": {"path": "/slow"}},
        )
        house = harden(site(Route("/", ok), Route("/slow", slow)), spec)
        await house.call()
        tasks = [asyncio.create_task(house.call(path="/slow")) for _ in range(2)]
        await house.clock.settle()
        house.clock.advance("3500ms")
        between = [await house.status() for _ in range(4)]
        house.clock.advance("1s")
        refused = (await tasks[1]).status
        tasks[0].cancel()
        await asyncio.wait(tasks)
        return [between, refused, [await house.status() for _ in range(12)]]

    short, long = both_ways(scenario)
    assert short == long
    assert short[1] == 503


def test_who_is_refused_takes_no_room() -> None:
    """A new client that one of the rates lets in and another does not has no bucket of his own afterwards."""

    async def scenario() -> list[Any]:
        spec = limits(own={"rate": "10/minute"}, all={"rate": "1/minute", "per": "global"})
        house = harden(site(), spec)
        statuses = [await house.status(client=f"203.0.113.{number}") for number in range(5)]
        return [statuses, house.app.service.store.keys()]

    short, long = both_ways(scenario)
    assert short == long == [[200] + [429] * 4, 2]


def test_who_has_shared_a_bucket_goes_on_from_there() -> None:
    """A client that was one too many has spent what he has spent, also when there is room for him later."""

    async def scenario() -> list[int]:
        house = harden(site(), limits(own={"rate": "1/minute"}))
        store: Any = house.app.service.store
        store.cap = 1
        statuses = [await house.status(client=f"203.0.113.{number}") for number in (1, 2)]
        store.cap = 9
        return [*statuses, await house.status(client="203.0.113.2")]

    short, long = both_ways(scenario)
    assert short == long == [200, 200, 429]


def test_who_shares_a_bucket_is_told_what_is_left_in_that_one() -> None:
    """Also when another rate refuses him, and nothing of his own one is spent."""

    async def scenario() -> list[str]:
        spec = limits(all={"rate": "2/minute", "per": "global"}, own={"rate": "10/minute"})
        house = harden(site(), spec)
        store: Any = house.app.service.store
        store.cap = 1
        answers = [await house.call(client=f"203.0.113.{number}") for number in (1, 2, 2)]
        return [answer.headers["ratelimit"] for answer in answers]

    short, long = both_ways(scenario)
    assert short == long
    assert '"own";r=9;' in short[-1]


@pytest.mark.parametrize(
    "after",
    [
        {"rate": "2/minute"},
        {"rate": "7/second"},
        {"rate": "5/minute", "algorithm": "sliding_window"},
        {"rate": "5/minute", "algorithm": "sliding_log"},
    ],
    ids=str,
)
@pytest.mark.parametrize("used", [0, 1])
def test_a_request_that_began_before_a_reload_leaves_nothing_that_the_rate_at_work_cannot_read(
    after: dict[str, Any], used: int
) -> None:
    """It is decided by that one; then it is as if it had come a moment later."""

    async def scenario() -> list[bool]:
        clock, caller = VirtualClock(10**12), Caller("203.0.113.1")
        first = Service(limits(calls={"rate": "10/minute"}), clock)
        second = Service(limits(calls=after), clock, before=first)
        plan = first.engine.planner.plan("/", "GET")

        async def admits(engine: Engine, plan: Plan) -> bool:
            admission = Admission("", caller, plan, clock.now())
            await engine.admit(admission)
            return admission.refused is None

        assert all([await admits(first.engine, plan) for _ in range(used)])
        second.take_over(first)
        said = list[bool]()
        for _ in range(9):
            said.append(await admits(first.engine, plan))
            said.append(await admits(second.engine, second.engine.planner.plan("/", "GET")))
            clock.advance("10ms")
        return said

    short, long = both_ways(scenario)
    most = int(after["rate"].partition("/")[0])
    assert short == long == [number < most - used for number in range(18)]


def ways_taken(house: House, method: str) -> list[bool]:
    """Of each request from now on that is decided the usual way, whether that was the end of it."""
    plan, ways = house.app.service.engine.planner.plan("/", method), list[bool]()
    fast = plan.fast
    assert fast is not None

    def charge(admission: Any) -> bool:
        ways.append(fast.charge(admission))
        return ways[-1]

    object.__setattr__(plan, "fast", SimpleNamespace(charge=charge))
    return ways


async def test_the_usual_case_is_the_usual_one() -> None:
    """Known clients and new ones take the short way, let in or refused; a new one that finds no room does not."""
    house = harden(site(), limits(calls={"rate": "4/second"}))
    await house.call()
    ways = ways_taken(house, "GET")
    statuses = [await house.status() for _ in range(4)]
    statuses.append(await house.status(client="203.0.113.9"))
    store: Any = house.app.service.store
    store.cap = 2
    statuses.append(await house.status(client="203.0.113.10"))
    assert statuses == [200, 200, 200, 429, 200, 200]
    assert ways == [True] * 5 + [False]


@pytest.mark.parametrize("socket", [False, True])
async def test_what_matters_less_is_given_back_too_where_a_place_is_kept_from_it(socket: bool) -> None:
    """One of two places is free, but not for what is sheddable."""
    end = asyncio.Event()

    async def handler(request: Request) -> Response:
        await end.wait()
        return PlainTextResponse("ok")

    async def talk(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    async def ask(house: House) -> int:
        if socket:
            return (await handshake(house.app, "/less", extension=True)).status
        return await house.status(path="/more")

    slots = {"concurrency": 2, "sheddable": [{"path": "/less"}, {"path": "/more"}]}
    routes = [Route("/", handler), Route("/more", ok), WebSocketRoute("/less", talk)]
    house = harden(site(*routes), limits(calls={"rate": "3/hour"}, slots=slots))
    first = asyncio.create_task(house.call())
    await house.clock.settle()
    assert [await ask(house) for _ in range(9)] == [503] * 9
    end.set()
    await first
    assert [await ask(house) for _ in range(3)] == ([0, 0, 429] if socket else [200, 200, 429])


async def test_who_finds_no_place_is_given_back_what_he_was_charged() -> None:
    """The usual way has none back, so it is taken only where a place is free; no body is refused once it is charged."""
    end = asyncio.Event()

    async def handler(request: Request) -> Response:
        await end.wait()
        return PlainTextResponse("ok")

    spec = limits(calls={"rate": "4/hour"}, slots={"concurrency": 1}, size={"body": "1KiB"})
    house = harden(site(Route("/", handler, methods=["POST"])), spec)
    ways = ways_taken(house, "POST")
    first = asyncio.create_task(house.call("POST"))
    await house.clock.settle()
    full = [await house.call("POST") for _ in range(9)]
    large = await house.call("POST", headers={"content-length": "1025"})
    end.set()
    assert (await first).status == 200
    assert {(one.status, one.headers["ratelimit"]) for one in full} == {(503, '"calls";r=3;t=900')}
    assert (large.status, large.headers.get("ratelimit")) == (413, None)
    assert ways == [True]
    assert [await house.status("POST") for _ in range(4)] == [200, 200, 200, 429]
    assert ways == [True] * 5
