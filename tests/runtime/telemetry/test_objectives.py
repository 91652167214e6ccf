"""What an objective counts: the very requests that it is about, from the first one on, whatever is reloaded."""

from __future__ import annotations

import asyncio
from io import StringIO
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from mahavishnu import limit
from mahavishnu.derived.bound import bound
from mahavishnu.errors import RateLimited
from mahavishnu.runtime.current import forget
from mahavishnu.runtime.service import Service
from mahavishnu.series import HTTP_DURATION, ROUTES_SHOWN
from mahavishnu.signals import Kind
from mahavishnu.spec import Spec
from mahavishnu.testing import VirtualClock
from tests.runtime.asgi_client import House, harden, site, spec_of
from tests.runtime.test_reload import World
from tests.strategies import specs

COUNT = f"{HTTP_DURATION.name}_count"
BOTH = {"all": {"objective": "99%"}, "quick": {"objective": "99%", "under": "1s"}}


def counted(house: House, slo: str) -> tuple[float, float]:
    """What is shown of an objective: good and bad."""
    series = house.samples()
    good, bad = (
        series[f"mahavishnu_slo_requests_total{{outcome={one},slo={slo}}}"] for one in ("good", "bad")
    )
    return good, bad


def shown(house: House) -> float:
    """How many requests the series show."""
    return sum(value for name, value in house.samples().items() if name.startswith(COUNT))


class App:
    """Answers as the path says: `/status/503`, or after so many milliseconds: `/wait/250`."""

    def __init__(self) -> None:
        self.clock = VirtualClock()

    def site(self) -> Starlette:
        """Its routes."""
        return site(
            Route("/status/{code:int}", self.status, methods=["GET", "POST"]),
            Route("/wait/{ms:int}", self.wait, methods=["GET", "POST"]),
            Route("/read", self.read, methods=["POST"]),
        )

    async def status(self, request: Request) -> Response:
        if request.path_params["code"] == 0:
            raise ValueError
        raise HTTPException(request.path_params["code"])

    async def wait(self, request: Request) -> Response:
        self.clock.advance(request.path_params["ms"] * 10**6)
        return PlainTextResponse("ok")

    async def read(self, request: Request) -> Response:
        return Response(await request.body())


def shop(**slos: Any) -> House:
    """A house whose app does what it is told."""
    app = App()
    return harden(app.site(), spec_of(slos=slos), clock=app.clock)


async def test_requests_are_good_and_bad_as_the_objectives_say() -> None:
    """5xx, raised ones too; longer than promised, by a nanosecond; of the routes and methods that are meant."""
    house = shop(
        all={"objective": "99%"},
        posts={"objective": "99%", "match": {"path": "/status/*", "method": "POST"}},
        quick={"objective": "99%", "under": "250ms", "match": {"path": "/wait/*", "method": "GET"}},
    )
    assert [counted(house, one) for one in ("all", "posts", "quick")] == [(0, 0)] * 3
    for code in (200, 404, 408, 429, 499, 500, 503, 599):
        await house.call("POST", f"/status/{code}")
    with pytest.raises(ValueError, match=r"^$"):
        await house.call(path="/status/0")
    for ms in (0, 249, 250, 251, 5000, 60_000):
        await house.call(path=f"/wait/{ms}")
        await house.call("HEAD", f"/wait/{ms}")
    await house.call("POST", "/wait/9000")
    await house.call(path="/nowhere")
    assert counted(house, "all") == (16, 4)
    assert counted(house, "posts") == (3, 3)
    assert counted(house, "quick") == (6, 6)


async def test_who_is_refused_hides_no_failure_of_others() -> None:
    """A rate's 429, and what asks for nothing there is, are neither good nor bad; a full queue's 503 stays bad."""
    rates = {"rate": "2/minute", "per": "ip"}, {"concurrency": 1, "queue": 0, "match": {"path": "/full"}}
    house: House

    async def full(_: Request) -> Response:
        assert await house.status(path="/full", client="198.51.100.9") == 503
        return PlainTextResponse("")

    routes = Route("/{code:int}", App().status), Route("/full", full)
    spec = spec_of(slos=BOTH, limits=dict(zip(("each", "few"), rates, strict=True)))
    house = harden(site(*routes), spec)
    for number in range(10):
        assert await house.status(path="/500", client=f"203.0.113.{number}") == 500
        assert await house.status(path="/200", client="192.0.2.1") == (200 if number < 2 else 429)
        await house.call(path="/nowhere", client=f"198.51.100.{number}")
    assert (counted(house, "all"), counted(house, "quick")) == ((2, 10), (12, 0))
    await house.call(path="/full", client="198.51.100.200")
    assert counted(house, "all") == (3, 11)


async def test_a_tool_that_a_rate_refuses_is_no_event_however_its_app_answers() -> None:
    """As an MCP server answers with 200: not counted, and shown all the same; an error of the app stays one."""
    tools = {"search": {"rate": "1/hour", "match": {"tool": "search"}}}
    slos = {"all": {"objective": "99%"}, "quick": {"objective": "99%", "under": "1ms"}}

    async def rpc(request: Request) -> Response:
        try:
            async with limit(tool="search"):
                return PlainTextResponse("")
        except RateLimited:
            return PlainTextResponse("", int(request.query_params["then"]))

    house = harden(site(Route("/rpc", rpc)), spec_of(limits=tools, slos=slos))
    for then in (200, 200, 200, 404, 500):
        await house.call(path="/rpc", query_string=f"then={then}".encode())
    forget()
    assert (counted(house, "all"), counted(house, "quick")) == ((1, 1), (2, 0))
    assert shown(house) == 5


CORS: dict[str, Any] = {"cors": {"origins": ["https://shop.example"]}}
ASKING = {"origin": "https://shop.example", "access-control-request-method": "POST"}


async def test_preflights_hide_no_failure_of_others() -> None:
    """Whatever is answered to them, they meet no limit: no event, and shown all the same."""
    house = harden(App().site(), spec_of(security=CORS, slos=BOTH))
    for path in ("/status/500", "/nowhere"):
        for origin in ("https://shop.example", "https://evil.example"):
            await house.call("OPTIONS", path, headers=ASKING | {"origin": origin})
    assert (counted(house, "all"), counted(house, "quick"), shown(house)) == ((0, 0), (0, 0), 4)
    assert [(one["status"], "refused_by" in one) for one in house.lines] == [(200, False), (400, False)] * 2
    assert await house.status("POST", "/status/500", headers=ASKING) == 500
    assert (counted(house, "all"), counted(house, "quick"), shown(house)) == ((0, 1), (1, 0), 5)


@pytest.mark.parametrize("security", [{}, CORS])
async def test_a_body_that_announces_too_much_hides_no_failure_of_others(security: dict[str, Any]) -> None:
    """Nobody has worked for it, and no rate has seen it; for one that says nothing the app has begun."""
    limits = {"size": {"body": "1kB"}, "each": {"rate": "1/hour", "per": "ip"}}
    house = harden(App().site(), spec_of(limits=limits, security=security, slos=BOTH))
    for _ in range(3):
        assert await house.status("POST", "/status/500", headers={"content-length": "2000"}) == 413
    assert (counted(house, "all"), counted(house, "quick"), shown(house)) == ((0, 0), (0, 0), 3)
    assert [one["refused_by"] for one in house.lines] == ["size"] * 3
    assert await house.status("POST", "/status/500", body=[b"x"]) == 500
    assert await house.status("POST", "/read", client="192.0.2.1", body=[b"x" * 2000]) == 413
    assert (counted(house, "all"), counted(house, "quick")) == ((1, 1), (2, 0))


async def test_a_preflight_that_the_app_answers_is_an_event() -> None:
    """It has met every limit, and the app was asked."""
    house = shop(all={"objective": "99%"})
    assert await house.status("OPTIONS", "/status/200", headers=ASKING) == 405
    assert counted(house, "all") == (1, 0)


async def test_an_app_that_is_late_is_bad_though_it_is_not_the_app_that_answers() -> None:
    """504, below CORS too."""

    async def hangs(_: Request) -> Response:
        house.clock.advance("2s")
        await asyncio.Event().wait()
        raise AssertionError

    spec = spec_of(security=CORS, limits={"request": {"timeout": "1s"}}, slos=BOTH)
    house = harden(site(Route("/", hangs)), spec)
    assert await house.status() == 504
    assert counted(house, "all") == (0, 1)


async def test_what_is_refused_is_known_of_a_route_with_more_statuses_than_are_shown() -> None:
    """429 has a series of its own, whichever come first."""
    house = shop(all={"objective": "99%"})
    for code in (*range(200, 204), *range(409, 424), 429, 429):
        await house.call(path=f"/status/{code}")
    assert sum(counted(house, "all")) == 4 + 15


@pytest.mark.parametrize("path", ["/last", "/las*"])
async def test_a_route_that_an_objective_names_is_counted_however_many_there_are(path: str) -> None:
    """It is shown beside those that fill the series, within what is said of them."""

    async def answer(request: Request) -> Response:
        return PlainTextResponse("", 500 if request.url.path == "/last" else 200)

    names = [*map(str, range(ROUTES_SHOWN + 1)), "last"]
    slos = {"named": {"objective": "99%", "match": {"path": path}}, "all": {"objective": "99%"}}
    house = harden(site(*(Route(f"/{name}", answer) for name in names)), spec_of(slos=slos))
    for name in names:
        await house.call(path=f"/{name}")
    assert (counted(house, "named"), counted(house, "all")) == ((0, 1), (ROUTES_SHOWN + 1, 1))
    series = [one for one in house.samples() if one.startswith(COUNT)]
    assert len(series) == ROUTES_SHOWN + 2  # and what is unmatched
    most = bound(house.app.service.contract)
    assert most.of(ROUTES_SHOWN + 1) - most.of(ROUTES_SHOWN) == most.per_route


async def test_a_reload_counts_nothing_twice_and_nothing_back(tmp_path: Path) -> None:
    """What an objective has counted stays, whatever it is about from now on; and nothing from before it."""
    wide: dict[str, Any] = {"objective": "99%"}
    narrow: dict[str, Any] = {"objective": "95%", "under": "300ms", "match": {"path": "/wait/*"}}
    app = App()
    world = World(tmp_path, {"slos": {"a": wide}}, app.site())
    app.clock = world.clock

    async def ask(slo: str = "a") -> tuple[float, float]:
        for path in ("/status/500", "/status/503", "/status/200", "/wait/200", "/wait/400"):
            await world.house.call(path=path)
        return counted(world.house, slo)

    assert await ask() == (3, 2)
    await world.reload(slos={"a": wide | {"objective": "99.9%"}, "new": wide})
    assert (counted(world.house, "a"), counted(world.house, "new")) == ((3, 2), (0, 0))
    assert await ask() == (6, 4)
    assert counted(world.house, "new") == (3, 2)
    await world.reload(slos={"a": narrow, "other": narrow | {"under": "200ms"}})
    assert (counted(world.house, "a"), counted(world.house, "other")) == ((6, 4), (0, 0))
    assert await ask() == (7, 5)
    assert counted(world.house, "other") == (1, 1)
    await world.reload(slos={"new": wide})
    assert counted(world.house, "new") == (3, 2)
    assert await ask("new") == (6, 4)
    await world.reload(slos={"a": wide})
    assert counted(world.house, "a") == (7, 5)
    assert await ask() == (10, 7)


def test_objectives_count_from_when_they_come_into_force() -> None:
    """Those of a spec that is refused never do; and what nobody has read by then, those before have counted."""
    strict, loose = (spec_of(slos={"a": {"objective": "99%", **more}}) for more in ({}, {"under": "1s"}))
    service = Service(strict, VirtualClock(), log_to=StringIO())
    after = Service(loose, VirtualClock(), log_to=StringIO(), before=service)
    labels = {"http_request_method": "GET", "http_route": "/", "http_response_status_code": "500"}
    cell = service.metrics.histogram(HTTP_DURATION, **labels)

    def bad() -> float:
        return service.metrics.total("mahavishnu_slo_requests_total", {"slo": "a", "outcome": "bad"})

    cell.observe(0.1, 3)
    assert bad() == 3
    cell.observe(0.1, 4)
    after.take_over(service)
    assert bad() == 7
    cell.observe(0.1, 5)
    assert bad() == 7
    cell.observe(2)
    assert bad() == 8


@settings(max_examples=40)
@given(specs())
def test_all_that_can_be_counted_is_there_before_it_happens(spec: dict[str, Any]) -> None:
    """Every value of every label of each counter; only routes and statuses of requests come later."""
    service = Service(Spec.model_validate({**spec, "store": "memory://"}), VirtualClock(), log_to=StringIO())
    there = {
        (one.name, frozenset(one.labels.items()))
        for family in service.metrics.collect()
        for one in family.samples
    }
    for signal in service.contract.signals.values():
        if signal.kind is Kind.COUNTER:
            values = [[(one.name, each) for each in one.values or ()] for one in signal.labels]
            missing = {(signal.name, frozenset(one)) for one in product(*values)} - there
            assert missing == set()
