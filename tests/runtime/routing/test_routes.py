"""The route that is limited and counted is the route that is dispatched, however the request is spelled."""

from __future__ import annotations

import random
import string
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Host, Mount, Route, Router
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from mahavishnu.asgi import Hardening
from mahavishnu.runtime.routing.routes import routes_of
from mahavishnu.testing import VirtualClock
from tests.figures import figure
from tests.runtime.asgi_client import House, call, handshake, harden, limits, ok, run, site

FREE = limits()


def named(template: str) -> Callable[[Request], Any]:
    """A handler that says which route it belongs to."""

    async def handler(request: Request) -> Response:
        return PlainTextResponse(template, headers={"x-route": template})

    return handler


def route(path: str, template: str | None = None, **more: Any) -> Route:
    """A route whose handler names it; `template` is the whole template where it is mounted."""
    return Route(path, named(template or path), **more)


async def files(scope: Any, receive: Any, send: Any) -> None:
    """A mounted app without routes of its own."""
    await PlainTextResponse("file", headers={"x-route": "/static/*"})(scope, receive, send)


def town() -> list[BaseRoute]:
    """Routes of every kind."""
    inner = [
        route("/", "/api/"),
        route("/items/{id:int}", "/api/items/{id:int}"),
        route("/{rest:path}", "/api/{rest:path}"),
    ]
    return [
        route("/"),
        route("/login", methods=["POST"]),
        route("/orders/{id}"),
        route("/number/{n:int}"),
        route("/a/b"),
        route("/slash/"),
        Mount("/api", routes=inner),
        Mount("/tenants/{tenant}", routes=[route("/home", "/tenants/{tenant}/home")]),
        Mount("/wrapped", app=Router([route("/x", "/wrapped/x")]), middleware=[Middleware(GZipMiddleware)]),
        Mount("/static", app=files),
        Host("admin.example.org", app=Router([route("/secret")])),
    ]


def house_of(app: ASGIApp) -> House:
    """Any app behind Hardening without limits: the log tells the route."""
    return harden(app, FREE)


async def compared(house: House, method: str, path: str, **more: Any) -> tuple[str, str]:
    """The route of the handler that ran, or what else was answered; and the route that was counted."""
    answer = await house.call(method, path, **more)
    ran = answer.headers.get("x-route", f"none: {answer.status}")
    return ran, house.lines[-1]["route"]


SPELLINGS = (
    "/", "", "//", "/./", "/login", "/login/", "//login", "/./login", "/login/.", "/x/../login", "/LOGIN",
    "/Login",
    "/login;x", "/login;jsessionid=1", "/login?x", "/login#x", "/login\x00", "/login%00", "/%6cogin",
    "/login%2f",
    "/login ", "/login\t", "/login\n", "/login\r\nX: 1", "\\login", "/\\login", "/lo\u200bgin",
    "/login\ufffd", "/\uff4cogin",
    "/orders/1", "/orders/", "/orders//", "/orders/a/b", "/orders/a%2fb", "/orders/%2e%2e", "/orders/..",
    "/orders/\x00",
    "/orders/;x", "/orders/😀", "/number/1", "/number/-1", "/number/1.0", "/number/٣", "/number/" + "9" * 400,
    "/number/x", "/a/b", "/a//b", "/a/./b", "/a%2fb", "/a/b/", "/slash", "/slash/", "/slash//", "/api",
    "/api/",
    "/api//", "/api/items/7", "/api/items/x", "/api//items/7", "/api/items/7/", "/API/items/7",
    "/api/anything/at/all",
    "/api/..", "/apix", "/tenants/t/home", "/tenants/t/home/", "/tenants//home", "/tenants/t/h",
    "/tenants/a%2fb/home",
    "/wrapped/x", "/wrapped/y", "/wrapped", "/static", "/static/", "/static/a/b.js", "/static/../login",
    "/secret",
    "/*", "/{id}", "/orders/{id}", "/unmatched", "*", "http://evil/login", "/metrics/", "/healthz/",
    "/metrics;x",
)  # fmt: skip


@pytest.mark.parametrize("path", SPELLINGS, ids=repr)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_the_dispatched_route_is_the_counted_one(method: str, path: str) -> None:
    """For each spelling: the handler that ran is that of the route in the log, else no handler ran."""
    ran, counted = await compared(house_of(site(*town())), method, path)
    if not ran.startswith("none"):
        assert counted == ran
    elif ran == "none: 405":
        assert counted in {"/", "/login", "/orders/{id}", "/number/{n:int}", "/a/b", "/slash/", "/api/",
                           "/api/items/{id:int}", "/tenants/{tenant}/home", "/wrapped/x",
                           "/api/{rest:path}"}  # fmt: skip
    else:
        assert counted == "unmatched" or counted.endswith("/*")


@pytest.mark.parametrize("host", ["admin.example.org", "ADMIN.example.org:80", "admin.example.org:443"])
async def test_host_routes_are_routes_too(host: str) -> None:
    """A route that only a Host reaches is counted as the one it is."""
    house = house_of(site(*town()))
    assert await compared(house, "GET", "/secret", headers={"host": host}) == ("/secret", "/secret")


@pytest.mark.parametrize(
    "host", ["localhost/login?x=", "admin.example.org.", "a b", "", "[::1", "x@admin.example.org"]
)
async def test_a_host_header_moves_no_request_to_another_route(host: str) -> None:
    """The path of the scope decides, never a URL built from headers (CVE-2026-48710)."""
    house = house_of(site(*town()))
    for path in ("/secret", "/orders/1", "/nowhere"):
        ran, counted = await compared(house, "GET", path, headers={"host": host})
        assert counted == (ran if not ran.startswith("none") else "unmatched")


@pytest.mark.parametrize("prefix", ["/proxy", "/proxy/deep"])
@pytest.mark.parametrize("path", ["/orders/1", "/api/items/7", "/nowhere", "", "/"])
async def test_a_root_path_is_taken_off(prefix: str, path: str) -> None:
    """Behind a proxy that strips a prefix, or does not, the route is the same."""
    house = house_of(site(*town()))
    for spelled in (prefix + path, path):
        ran, counted = await compared(house, "GET", spelled, root_path=prefix)
        assert counted == (ran if not ran.startswith("none") else "unmatched")


async def test_a_convertor_that_fails_hides_no_request() -> None:
    """Python refuses numbers of 5,000 digits: the router fails, the request is limited and counted."""
    house = harden(site(*town()), limits(calls={"rate": "3/hour"}))
    statuses: list[int] = []
    for _ in range(5):
        try:
            statuses.append(await house.status("GET", "/number/" + "9" * 5000))
        except ValueError:
            statuses.append(500)
    assert statuses == [500, 500, 500, 429, 429]
    assert {line["route"] for line in house.lines} == {"/number/{n:int}"}


async def test_a_method_in_another_case_is_the_same_method() -> None:
    """Mounted WSGI apps do not care whether it is `pOsT`: the limit on POST holds for it too."""

    async def legacy(scope: Any, receive: Any, send: Any) -> None:
        status = 200 if scope["method"].upper() == "POST" else 405
        await PlainTextResponse("in", status)(scope, receive, send)

    spec = limits(login={"rate": "2/hour", "match": {"path": "/old/*", "method": "POST"}})
    house = harden(site(Mount("/old", app=legacy)), spec)
    statuses = [await house.status(method, "/old/login") for method in ("POST", "pOsT", "post", "Post")]
    assert statuses == [200, 200, 429, 429]


async def test_head_counts_as_get_and_override_headers_count_as_nothing() -> None:
    """The method that is dispatched is the method that is limited."""
    spec = limits(
        reads={"rate": "2/hour", "match": {"path": "/", "method": "GET"}},
        writes={"rate": "2/hour", "match": {"path": "/", "method": "DELETE"}},
    )
    house = harden(site(), spec)
    assert [await house.status(one) for one in ("GET", "HEAD", "GET", "HEAD")] == [200, 200, 429, 429]
    tricks = {"x-http-method-override": "POST", "x-method-override": "POST", "x-http-method": "POST"}
    assert [await house.status("DELETE", headers=tricks) for _ in range(3)] == [200, 200, 429]
    assert [await house.status("POST", headers={"x-http-method-override": "DELETE"}) for _ in range(3)] == [
        200
    ] * 3


async def test_a_limit_on_head_is_one() -> None:
    """What is said of HEAD holds for it, as it does in an SLO; GET is not meant."""
    house = harden(site(), limits(heads={"rate": "1/hour", "match": {"method": "HEAD"}}))
    assert [await house.status(one) for one in ("HEAD", "GET", "HEAD", "GET")] == [200, 200, 429, 200]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere/{}", 404),
        ("PUT", "/a/b", 405),
        ("GET", "/slash", 307),
        ("OPTIONS", "/a/b", 405),
        ("BREW", "/a/b", 405),
    ],
)
async def test_scans_probes_and_redirects_are_limited(method: str, path: str, status: int) -> None:
    """404s of a thousand names share one bucket, as do 405s and redirects of a route: five, then 429."""
    house = harden(site(*town()), limits(all={"rate": "5/hour", "per": ["client", "route"]}))
    statuses = [await house.status(method, path.format(number)) for number in range(50)]
    assert statuses == [status] * 5 + [429] * 45


async def test_of_two_routes_that_lack_the_method_the_first_counts() -> None:
    """As the router chooses the one that answers 405."""
    house = house_of(site(route("/a/b"), route("/a/{x}", methods=["POST"])))
    answer = await house.call("PUT", "/a/b")
    assert (answer.status, answer.headers["allow"].split(", ")[-1] in {"GET", "HEAD"}) == (405, True)
    assert house.lines[-1]["route"] == "/a/b"


async def test_a_limit_on_a_mounted_route_holds() -> None:
    """By its whole template, and by a pattern over the mount."""
    spec = limits(
        items={"rate": "2/hour", "match": {"path": "/api/items/{id:int}"}},
        api={"rate": "4/hour", "match": {"path": "/api*"}},
    )
    house = harden(site(*town()), spec)
    assert [await house.status(path=f"/api/items/{n}") for n in range(3)] == [200, 200, 429]
    assert [await house.status(path=f"/api/other/{n}") for n in range(3)] == [200, 200, 429]


def fast() -> FastAPI:
    """A FastAPI app with included routers, nested ones, a mount and a websocket."""
    app, outer, inner = FastAPI(), APIRouter(), APIRouter(prefix="/inner")
    inner.add_api_route("/{id}", named("/v1/inner/{id}"))
    outer.add_api_route("/items/{id}", named("/v1/items/{id}"), methods=["GET", "PUT"])
    outer.include_router(inner)
    app.add_api_route("/plain", named("/plain"))
    app.include_router(outer, prefix="/v1")
    sub = FastAPI()
    sub.add_api_route("/deep/{x}", named("/sub/deep/{x}"))
    app.mount("/sub", sub)

    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()

    app.add_api_websocket_route("/ws/{room}", socket)
    return app


@pytest.mark.parametrize(
    "path",
    [
        "/plain",
        "/v1/items/7",
        "/v1/inner/7",
        "/v1/items/7/",
        "/v1/items/a%2fb",
        "/sub/deep/1",
        "/v1",
        "/docs",
    ],
)
async def test_fastapi_with_included_routers(path: str) -> None:
    """Routes of `include_router` count under their whole template (instrumentator #371)."""
    ran, counted = await compared(house_of(fast()), "GET", path)
    if path == "/docs":
        assert counted == path
    else:
        assert counted == (ran if not ran.startswith("none") else "unmatched")


def test_every_route_is_listed_under_the_name_it_is_limited_by() -> None:
    """What the checks are told about an app is what its requests are counted as."""
    listed = {path for path, _ in routes_of(fast())}
    assert {"/plain", "/v1/items/{id}", "/v1/inner/{id}", "/sub/deep/{x}", "/ws/{room}"} <= listed
    listed = {path for path, _ in routes_of(site(*town()))}
    assert {"/api/items/{id:int}", "/tenants/{tenant}/home", "/static/*", "/secret", "/wrapped/x"} <= listed


@pytest.mark.parametrize("add", ["starlette", "fastapi"])
async def test_a_route_that_is_added_later_is_known(add: str) -> None:
    """Also after the first request has been served."""
    app: Any = Starlette() if add == "starlette" else FastAPI()
    house = house_of(app)
    assert await house.status(path="/new") == 404
    app.router.routes.append(route("/new"))
    assert await compared(house, "GET", "/new") == ("/new", "/new")


async def test_in_the_middle_of_a_stack_the_routes_are_found() -> None:
    """As `add_middleware` puts it, with other middleware on both sides."""
    app = site(*town(), middleware=[Middleware(GZipMiddleware)])
    spec = limits(one={"rate": "1/hour", "match": {"path": "/a/b"}})
    app.add_middleware(Hardening, spec=spec, clock=VirtualClock(), log_to=StringIO())
    app.add_middleware(GZipMiddleware)
    assert [(await call(app, path=path)).status for path in ("/a/b", "/a/b", "/slash/")] == [
        200,
        429,
        200,
    ]


async def test_an_app_without_routes_is_one_unmatched_route() -> None:
    """A bare ASGI callable has no table: everything shares one bucket and one label."""
    house = harden(files, limits(all={"rate": "3/hour", "per": "route"}))
    assert [await house.status(path=f"/{n}") for n in range(5)] == [200, 200, 200, 429, 429]
    assert {line["route"] for line in house.lines} == {"unmatched"}


@pytest.mark.parametrize("extension", [False, True])
async def test_websockets_are_limited_per_route(extension: bool) -> None:
    """Five handshakes of fifty are let in; the rest is denied before it is accepted, with a reason."""
    spec = limits(sockets={"rate": "5/hour", "match": {"path": "/ws/{room}"}})
    house = harden(fast(), spec)
    answers = [await handshake(house.app, f"/ws/{n}", extension=extension) for n in range(50)]
    kinds = [answer.messages[0]["type"] for answer in answers]
    assert kinds[:5] == ["websocket.accept"] * 5
    if extension:
        assert set(kinds[5:]) == {"websocket.http.response.start"}
        assert {(one.status, one.headers["retry-after"]) for one in answers[5:]} == {(429, "720")}
        assert answers[5].json()["violated-policies"] == ["sockets"]
    else:
        assert set(kinds[5:]) == {"websocket.close"}
        assert {one.messages[0]["code"] for one in answers[5:]} == {1013}
    assert (house.lines[-1]["route"], house.lines[-1]["refused_by"]) == ("/ws/{room}", "sockets")
    assert house.decisions("sockets") == (5, 45, 0)


async def test_a_websocket_to_nowhere_is_limited_and_closed_by_the_app() -> None:
    """Unknown paths share one bucket, for sockets as for requests."""
    house = harden(fast(), limits(all={"rate": "2/hour", "per": "route"}))
    codes = [(await handshake(house.app, f"/x{n}")).messages[0]["code"] for n in range(4)]
    assert codes == [1000, 1000, 1013, 1013]


async def test_a_websocket_that_fails_is_logged() -> None:
    """The error's name is in the line, and the place is free."""

    async def fails(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError("no such room")

    house = harden(fails, limits(sockets={"concurrency": 1}))
    for _ in range(2):
        with pytest.raises(LookupError):
            await handshake(house.app, "/")
    assert house.lines[-1]["error"] == "LookupError"
    assert house.gauge("in_flight", "sockets") == 0


def _spelling(chance: random.Random) -> str:
    known = [
        "login",
        "orders",
        "1",
        "api",
        "items",
        "7",
        "a",
        "b",
        "static",
        "slash",
        "number",
        "tenants",
        "t",
        "home",
    ]
    odd = [".", "..", "", "%2e", "%2f", ";x", "\x00", "LOGIN", "٣", "{id}", "*", " ", "%", "\\", "é"]
    parts = [chance.choice(known if chance.random() < 0.8 else odd) for _ in range(chance.randint(0, 4))]
    return chance.choice(["/", "/", "/", "//", ""]) + "/".join(parts) + chance.choice(["", "", "/", "\n"])


async def _wander(seed: str, turns: int) -> int:
    chance = random.Random(seed)
    house = house_of(site(*town()))
    wrong = 0
    for _ in range(turns):
        method = chance.choice(
            ["GET", "HEAD", "POST", "PUT", "OPTIONS", "get", "".join(chance.sample(string.ascii_letters, 4))]
        )
        ran, counted = await compared(house, method, _spelling(chance))
        house.stream.truncate(0)
        house.stream.seek(0)
        wrong += not ran.startswith("none") and ran != counted
    return wrong


def test_random_spellings_differ_nowhere() -> None:
    """500 random paths and methods: the handler that ran is always the route that was counted."""
    assert run(_wander("spelling", 500)) == 0


@pytest.mark.proof
def test_twenty_thousand_random_spellings_differ_nowhere() -> None:
    """The long walk, in tens of short ones."""
    wrong = sum(run(_wander(f"spelling {turn}", 1000)) for turn in range(20))
    figure("20,000 random spellings: dispatched route other than the limited one", 0, wrong)
    assert wrong == 0


async def test_the_default_route_is_served() -> None:
    """The site of the other tests answers."""
    assert await house_of(site(Route("/", ok))).status() == 200
