"""A stricter number that is only tried stands beside the one that holds: it counts, and takes nothing away."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tests.runtime.asgi_client import Answer, House, Message, collector, harden, limits, scope_of, site

LOGIN = {"path": "/login", "method": "POST"}
SLOW = {"path": "/slow"}


async def size(request: Request) -> Response:
    """A handler that reads the whole body."""
    return PlainTextResponse(str(len(await request.body())))


async def unread(request: Request) -> Response:
    """A handler that reads nothing."""
    return PlainTextResponse("no need")


def login(handler: Any = size, **more: Any) -> House:
    """1000 bytes are let in everywhere, a smaller number is tried at /login."""
    tried = {"body": "100B", "match": LOGIN, "mode": "observe", **more}
    routes = (Route(path, handler, methods=["POST"]) for path in ("/login", "/other"))
    return harden(site(*routes), limits(all={"body": "1000B"}, tried=tried))


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize(
    ("length", "status", "holds", "tried"),
    [
        (50, 200, (1, 0, 0), (1, 0, 0)),
        (500, 200, (1, 0, 0), (0, 0, 1)),
        (5000, 413, (0, 1, 0), (0, 0, 1)),
    ],
)
async def test_the_general_size_holds_where_a_smaller_one_is_tried(
    length: int, status: int, holds: Any, tried: Any, announced: bool
) -> None:
    """Each counts for itself, also what the other one has refused."""
    house = login()
    headers = {"content-length": str(length)} if announced else {}
    assert await house.status("POST", "/login", headers=headers, body=[b"x" * 40] * (length // 40)) == status
    assert (house.decisions("all"), house.decisions("tried")) == (holds, tried)


async def test_a_size_that_is_tried_counts_what_is_announced_and_never_read() -> None:
    """As it does where nothing else holds; elsewhere it says nothing."""
    house = login(unread)
    assert await house.status("POST", "/login", headers={"content-length": "500"}) == 200
    assert await house.status("POST", "/other", headers={"content-length": "500"}) == 200
    assert (house.decisions("all"), house.decisions("tried")) == ((2, 0, 0), (0, 0, 1))


async def test_a_pace_that_is_tried_refuses_nobody() -> None:
    """A byte a second is too slow for it, and small enough for the one that holds."""
    house = login(within="3s")
    parts = 6

    async def receive() -> Message:
        nonlocal parts
        parts -= 1
        await house.clock.sleep(10**9)
        return {"type": "http.request", "body": b"x", "more_body": parts > 0}

    got = Answer()
    task = asyncio.create_task(house.app(scope_of("POST", "/login"), receive, collector(got)))
    for _ in range(8):
        await house.clock.settle()
        house.clock.advance("1s")
    await task
    assert (got.status, got.body) == (200, b"6")
    assert (house.decisions("all"), house.decisions("tried")) == ((1, 0, 0), (0, 0, 1))
    assert house.clock.timers == 0


def slow(seconds: int, **more: Any) -> House:
    """2 s are given everywhere, 1 s is tried at /slow, which takes so long."""

    async def handler(request: Request) -> Response:
        await house.clock.sleep(seconds * 10**9)
        return PlainTextResponse("ok")

    tried = {"timeout": "1s", "match": SLOW, "mode": "observe", **more}
    house = harden(site(Route("/slow", handler)), limits(request={"timeout": "2s"}, tried=tried))
    return house


@pytest.mark.parametrize(
    ("seconds", "status", "holds", "tried"),
    [(0, 200, (1, 0, 0), (1, 0, 0)), (1, 200, (1, 0, 0), (1, 0, 0)), (3, 504, (0, 1, 0), (0, 0, 1))],
)
async def test_the_general_deadline_holds_where_a_shorter_one_is_tried(
    seconds: int, status: int, holds: Any, tried: Any
) -> None:
    """Late for the one that holds is late for the other, too."""
    house = slow(seconds)
    task = asyncio.create_task(house.call(path="/slow"))
    for _ in range(4):
        await house.clock.settle()
        house.clock.advance("1s")
    assert (await task).status == status
    assert (house.decisions("request"), house.decisions("tried")) == (holds, tried)
    assert house.clock.timers == 0


async def test_a_deadline_that_is_tried_counts_what_it_would_have_ended() -> None:
    """In time for the one that holds."""
    house = slow(1, timeout="500ms")
    task = asyncio.create_task(house.call(path="/slow"))
    await house.clock.settle()
    house.clock.advance("1s")
    assert (await task).status == 200
    assert (house.decisions("request"), house.decisions("tried")) == ((1, 0, 0), (0, 0, 1))


async def test_a_longer_deadline_that_is_tried_says_nothing_of_what_was_ended_before() -> None:
    """Nobody knows whether it would have been kept."""
    house = slow(3, timeout="10s")
    task = asyncio.create_task(house.call(path="/slow"))
    await house.clock.settle()
    house.clock.advance("2s")
    assert (await task).status == 504
    assert (house.decisions("request"), house.decisions("tried")) == ((0, 1, 0), (0, 0, 0))


async def test_a_number_may_be_tried_beside_the_one_for_the_very_same_requests() -> None:
    """In whatever order they stand."""
    holds, tried = {"timeout": "2s"}, {"timeout": "1s", "mode": "observe"}
    for spec in (limits(holds=holds, tried=tried), limits(tried=tried, holds=holds)):
        plan = harden(site(), spec).app.service.engine.planner.plan("/", "GET")
        assert plan.timeout is not None
        assert plan.timeout_trial is not None
        assert (plan.timeout.name, plan.timeout_trial.name) == ("holds", "tried")


@pytest.mark.parametrize(
    ("limit", "holds", "tried"),
    [
        ({"all": {"mode": "observe"}}, "one", None),
        ({"one": {"mode": "observe"}}, "all", "one"),
        ({"one": {"mode": "off"}}, "all", None),
        ({"all": {"mode": "observe"}, "one": {"mode": "observe"}}, "one", None),
        ({"all": {"mode": "off"}, "one": {"mode": "observe"}}, "one", None),
    ],
)
async def test_what_is_less_specific_is_not_asked(
    limit: dict[str, Any], holds: str, tried: str | None
) -> None:
    """An observing limit beside none that is enforced stands alone, as ever."""
    spec: dict[str, dict[str, Any]] = {"all": {"timeout": "2s"}, "one": {"timeout": "1s", "match": SLOW}}
    house = harden(site(), limits(**{name: {**one, **limit.get(name, {})} for name, one in spec.items()}))
    plan = house.app.service.engine.planner.plan("/slow", "GET")
    assert plan.timeout is not None
    assert (plan.timeout.name, plan.timeout_trial and plan.timeout_trial.name) == (holds, tried)


def test_who_tries_nothing_pays_nothing() -> None:
    """A route where nothing is tried has the plain deadline, beside one that has not."""
    planner = slow(0).app.service.engine.planner
    assert (planner.plan("/slow", "GET").plain, planner.plan("/", "GET").plain) == (False, True)
