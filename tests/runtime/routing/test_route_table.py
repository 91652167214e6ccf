"""The route table finds what the app's own router finds, and handing that on changes nothing for the app."""

from __future__ import annotations

import functools
import re
import tracemalloc
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Host, Match, Mount, Route, Router

from mahavishnu.runtime.routing.hand_on import HANDED, Door, Found, Handed
from mahavishnu.runtime.routing.routes import routes_of
from mahavishnu.runtime.routing.table import RouteTable
from mahavishnu.series import UNMATCHED
from tests.figures import FULL, figure
from tests.runtime.asgi_client import Answer, chunks, collector, harden, limits, ok, run, scope_of, site
from tests.runtime.routing.linear import resolve
from tests.runtime.routing.random_sites import Picky, Site

Outcome = tuple[Any, ...]


def scope_for(request: dict[str, Any]) -> dict[str, Any]:
    """The scope of a random request."""
    scope = scope_of(request["method"], request["path"], request["headers"], root_path=request["root_path"])
    scope["type"] = request["type"]
    if request["type"] == "websocket":
        del scope["method"]
        scope["subprotocols"] = []
    return scope


async def outcome(app: Any, scope: dict[str, Any]) -> Outcome:
    """All that comes of a request: what is sent, and the error."""
    answer = Answer()
    waiting: list[Any] = [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1000}]

    async def connect() -> Any:
        return waiting.pop(0)

    try:
        await app(scope, connect if scope["type"] == "websocket" else chunks(()), collector(answer))
    except Exception as error:  # noqa: BLE001  an app that fails must fail in the same way
        return answer.messages, type(error), str(error)
    return answer.messages, None, None


def handler_of(answered: Outcome) -> str | None:
    """The handler that ran; None when the router itself has answered."""
    headers = [pair for message in answered[0] for pair in message.get("headers", ())]
    return next((value.decode() for name, value in headers if name == b"x-handler"), None)


async def faults(bare: Site, ours: Site, table: RouteTable, request: dict[str, Any]) -> list[str]:
    """What is wrong with the table's verdict, and with the answer when it is handed on, or found and left."""
    wrong: list[str] = []
    expected = await outcome(bare.app, scope_for(request) | {HANDED: None})
    found = table.find(scope_for(request))
    template, ran = found[0] if found else None, handler_of(expected)
    if template != resolve(bare.app.routes, scope_for(request)):
        wrong.append(f"found {template}")
    if ran is not None and template != bare.templates[ran]:
        wrong.append(f"found {template}, ran {bare.templates[ran]}")
    if await outcome(ours.app, scope_for(request) | {HANDED: found and found[1]}) != expected:
        wrong.append("handed on, it is answered otherwise")
    if await outcome(ours.app, scope_for(request) | {HANDED: None}) != expected:
        wrong.append("left alone, it is answered otherwise")
    return wrong


async def differences(seed: object, requests: int) -> list[str]:
    """Where an app behind the table differs from its twin without one, over random requests."""
    bare, ours = Site(seed), Site(seed)
    table = RouteTable(ours.app)
    asked = [ours.request() for _ in range(requests)]
    return [
        f"{seed}: {request}: {one}" for request in asked for one in await faults(bare, ours, table, request)
    ]


@pytest.mark.proof
def test_the_table_finds_and_hands_on_what_the_router_would() -> None:
    """Random sites and requests: same handler, parameters, scope, answer and error, with and without it."""
    for seed in range(150):
        assert run(differences(seed, 20)) == []


@pytest.mark.proof
def test_ten_thousand_random_route_tables() -> None:
    """The same over ten thousand sites."""
    sites = 10_000 if FULL else 500
    wrong = [one for seed in range(sites) for one in run(differences(f"site {seed}", 20))]
    figure(
        f"{sites:,} random route tables, {20 * sites:,} requests: other than Starlette's and FastAPI's",
        0,
        len(wrong),
    )
    assert wrong == []


# --- one by one -----------------------------------------------------------------------------------


async def handed(app: Any, table: RouteTable, path: str, method: str = "GET", **more: Any) -> tuple[str, str]:
    """The route that was found, and the answer once it is handed on."""
    scope = scope_of(method, path, **more)
    found = table.find(scope)
    answer = Answer()
    await app({**scope, HANDED: found and found[1]}, chunks(()), collector(answer))
    return found[0] if found else "unmatched", answer.body.decode()


def handed_on(table: RouteTable, scope: dict[str, Any]) -> Handed | None:
    """What is put into a scope."""
    found = table.find(scope)
    return found and found[1]


def takes(router: Any, found: Found, scope: dict[str, Any]) -> bool:
    """Whether a router's door goes straight to what was found."""
    asked: list[object] = []

    def handle(*call: object) -> Any:
        asked.append(call)
        return says("it")(Request(scope_of("GET", "/")))

    stand_in = SimpleNamespace(handle=handle)
    assert found[1] is not None
    owner, _, *rest = found[1]
    router.middleware_stack({**scope, HANDED: (owner, stand_in, *rest)}, None, None).close()
    return bool(asked)


def says(text: str) -> Any:
    """A handler with an answer of its own."""

    async def handler(request: Request) -> Response:
        return PlainTextResponse(f"{text} {sorted(request.path_params.items())}")

    return handler


def counting(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every route that is asked from now on, by its path."""
    asked: list[str] = []
    own = Route.matches

    @functools.wraps(own)
    def matches(route: Route, scope: Any) -> Any:
        asked.append(route.path)
        return own(route, scope)

    monkeypatch.setattr(Route, "matches", matches)
    return asked


def compiled(app: Any) -> RouteTable:
    """A table that has seen the app's routes already."""
    table = RouteTable(app)
    table.find(scope_of("GET", "/"))
    return table


@pytest.mark.parametrize("kind", [Starlette, Router])
def test_of_a_hundred_routes_one_is_asked_once(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table asks its pattern, and the router behind it nobody; for a miss nobody is asked."""
    app = kind(routes=[Route(f"/v1/r{n}/{{id}}", says(f"r{n}")) for n in range(100)])
    table, asked = compiled(app), counting(monkeypatch)
    assert run(handed(app, table, "/v1/r70/x")) == ("/v1/r70/{id}", "r70 [('id', 'x')]")
    assert table.find(scope_of("GET", "/v1/r70/x/y")) is None
    assert asked == []


@pytest.mark.parametrize("kind", [Starlette, Router])
def test_a_route_of_unknown_ways_is_asked_itself(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version whose `matches` says more than the pattern does is asked, and only the one route of them."""
    own = Route.matches

    @functools.wraps(own)
    def matches(route: Route, scope: Any) -> Any:
        match, child = own(route, scope)
        return match, {**child, "newer": True}

    monkeypatch.setattr(Route, "matches", matches)
    app = kind(routes=[Route(f"/v1/r{n}/{{id}}", says(f"r{n}")) for n in range(100)])
    table, asked = compiled(app), counting(monkeypatch)
    assert run(handed(app, table, "/v1/r70/x")) == ("/v1/r70/{id}", "r70 [('id', 'x')]")
    assert asked == ["/v1/r70/{id}"]


def test_of_a_hundred_mounted_routes_one_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is found in a mounted router is handed on to it as well."""
    inner = Starlette(routes=[Route(f"/r{n}/{{id}}", says(f"r{n}")) for n in range(100)])
    app = Starlette(routes=[Mount("/{tenant}", inner)])
    run(handed(app, table := RouteTable(app), "/t/r70/x"))
    asked = counting(monkeypatch)
    assert run(handed(app, table, "/t/r70/x")) == ("/{tenant}/r70/{id}", "r70 [('id', 'x'), ('tenant', 't')]")
    assert asked == ["/r70/{id}"]


def test_of_a_hundred_included_routes_few_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """FastAPI asks an included router twice, each time all its routes: handed on, only the one that is meant."""
    api, inner = APIRouter(), APIRouter()
    for n in range(100):
        inner.add_api_route(f"/r{n}/{{id}}", says(f"r{n}"))
    api.include_router(inner, prefix="/v1")
    app = FastAPI()
    app.include_router(api, prefix="/api")
    table, asked = RouteTable(app), 0
    run(handed(app, table, "/api/v1/r0/x"))
    own = APIRoute.matches

    @functools.wraps(own)
    def matches(route: APIRoute, scope: Any) -> Any:
        nonlocal asked
        asked += 1
        return own(route, scope)

    monkeypatch.setattr(APIRoute, "matches", matches)
    assert run(handed(app, table, "/api/v1/r70/x")) == ("/api/v1/r70/{id}", "r70 [('id', 'x')]")
    assert asked == 3  # twice by the outer, once by the inner


def test_who_lacks_the_method_is_asked_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five routes of one path, by method: the one that has it is asked; for a method of none, the first answers."""
    methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
    app = Starlette(routes=[Route("/a/{id}", says(one), methods=[one]) for one in methods])
    table, asked = compiled(app), counting(monkeypatch)
    assert run(handed(app, table, "/a/1", "DELETE")) == ("/a/{id}", "DELETE [('id', '1')]")
    assert asked == []  # its pattern was
    answer = Answer()
    scope = scope_of("BREW", "/a/1")
    run(app({**scope, HANDED: handed_on(table, scope)}, chunks(()), collector(answer)))
    assert (answer.status, answer.headers["allow"] in {"GET, HEAD", "HEAD, GET"}) == (405, True)


@pytest.mark.parametrize("first", ["/{n:int}", "/{s}"])
def test_of_those_that_lack_the_method_the_first_answers(first: str) -> None:
    """Whether its convertors can fail, so that it is asked at once, or not."""
    paths = [first, *({"/{n:int}", "/{s}"} - {first})]
    app = Starlette(
        routes=[
            Route(path, says(path), methods=[method])
            for path, method in zip(paths, ("PUT", "GET"), strict=True)
        ]
    )
    answer, scope = Answer(), scope_of("POST", "/1")
    found = RouteTable(app).find(scope)
    run(app({**scope, HANDED: found and found[1]}, chunks(()), collector(answer)))
    assert found is not None
    assert (found[0], answer.status, answer.headers["allow"]) == (first, 405, "PUT")


def test_a_method_that_fails_to_convert_is_not_passed_over() -> None:
    """The router fails at the first route whose convertor does, whatever its method; so it counts as that one."""
    app = Starlette(routes=[Route("/{n:int}", says("int")), Route("/{s}", says("str"), methods=["POST"])])
    table = RouteTable(app)
    found = table.find(scope_of("POST", "/" + "9" * 5000))
    assert found is not None
    assert found == ("/{n:int}", None)


def changed(change: str, app: Any) -> None:
    """Change the routes of a running app."""
    routes: list[Any] = app.router.routes
    new = Route("/a", says("new"))
    if change == "appended":
        routes[:] = [one for one in routes if one.path != "/a"]
        routes.append(new)
    elif change == "put before":
        routes.insert(0, new)
    elif change == "replaced":
        routes[1] = new
    elif change == "another before replaced":
        routes[0] = new
    elif change == "another list":
        app.router.routes = [new]
    elif change == "turned round":
        routes.append(new)
        routes.reverse()
    elif change == "an equal one":
        old = routes[1]
        routes[1] = Route("/a", old.endpoint, middleware=[Middleware(Saying, text="new []")])


class Saying:
    """Middleware that answers itself."""

    def __init__(self, app: Any, text: str) -> None:
        self._text = text

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse(self._text)(scope, receive, send)


@pytest.mark.parametrize(
    "change",
    [
        "appended",
        "put before",
        "replaced",
        "another before replaced",
        "another list",
        "turned round",
        "an equal one",
    ],
)
@pytest.mark.parametrize("kind", [Starlette, FastAPI])
def test_routes_that_change_later_are_seen(change: str, kind: Any) -> None:
    """However the list of a running app is changed."""
    app = kind(routes=[Route("/b/{x}", says("b")), Route("/a", says("old")), Route("/c", says("c"))])
    table = RouteTable(app)
    assert run(handed(app, table, "/a")) == ("/a", "old []")
    changed(change, app)
    assert run(handed(app, table, "/a")) == ("/a", "new []")


def test_routes_that_are_added_to_an_included_or_mounted_router_are_seen() -> None:
    """As soon as the app's own router sees them."""
    app, api, sub = FastAPI(), APIRouter(), Router([Route("/x", says("x"))])
    api.add_api_route("/x", says("x"))
    app.include_router(api, prefix="/api")
    app.mount("/sub", sub)
    table = RouteTable(app)
    for prefix in ("/api", "/sub"):
        assert run(handed(app, table, f"{prefix}/x")) == (f"{prefix}/x", "x []")
    api.add_api_route("/{y}", says("y"))
    sub.routes.append(Route("/{y}", says("y")))
    for prefix in ("/api", "/sub"):
        assert run(handed(app, table, f"{prefix}/y")) == (f"{prefix}/{{y}}", "y [('y', 'y')]")


class Rewriting:
    """Middleware between the table and the router that changes a request."""

    def __init__(self, app: Any, changes: dict[str, Any] | None = None) -> None:
        self.app = app
        self._changes = changes or {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        scope.update(self._changes)
        await self.app(scope, receive, send)


@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        ({"path": "/b"}, "b []"),
        ({"method": "POST"}, "posted []"),
        ({"root_path": "/a"}, "Not Found"),
        ({"path_params": {"given": 1}}, "a [('given', 1)]"),
        ({"root_path": ""}, "a []"),
        ({}, "a []"),
    ],
)
def test_a_request_that_is_rewritten_on_the_way_goes_where_it_then_belongs(changes: Any, answer: str) -> None:
    """What was found for another path, method or root path is not handed on."""
    routes = [
        Route("/a", says("a")), Route("/a", says("posted"), methods=["POST"]), Route("/b", says("b")),
    ]  # fmt: skip
    app = Starlette(routes=routes, middleware=[Middleware(Rewriting, changes)])
    bare = Answer()
    run(app(scope_of("GET", "/a"), chunks(()), collector(bare)))
    found, answered = run(handed(app, RouteTable(app), "/a"))
    assert (found, answered) == ("/a", bare.body.decode())
    assert answered == answer


@pytest.mark.parametrize(
    "picky", [Picky("/a", says("picky")), Host("a.example", Router([Route("/a", says("picky"))]))]
)
def test_what_hangs_on_headers_is_left_to_the_router(picky: Any) -> None:
    """Middleware on the way may take a header away: for routes that look at headers the router itself decides."""
    routes = [picky, Route("/a", says("plain"))]
    headers = {"x-picky": "1", "host": "a.example"}
    app = Starlette(routes=routes)
    assert run(handed(app, RouteTable(app), "/a", headers=headers)) == ("/a", "picky []")
    app = Starlette(routes=routes, middleware=[Middleware(Rewriting, {"headers": []})])
    assert run(handed(app, RouteTable(app), "/a", headers=headers)) == ("/a", "plain []")


@pytest.mark.parametrize(
    "change",
    [
        {"path": "/b"}, {"type": "websocket"}, {"method": "POST"}, {"root_path": "/x"}, {"path_params": {"a": "b"}},
        {"app_root_path": "/x"},
    ],
)  # fmt: skip
def test_what_was_found_holds_for_that_request_only(change: dict[str, Any]) -> None:
    """Everything that Starlette's routes look at has to be as it was."""
    app = Starlette(routes=[Route("/a", says("a"))])
    found = RouteTable(app).find(scope_of("GET", "/a"))
    assert found is not None
    assert takes(app.router, found, scope_of("GET", "/a", headers={"other": "headers"}))
    assert not takes(app.router, found, scope_of("GET", "/a") | change)


@pytest.mark.parametrize("more", [{}, {"root_path": "/api", "path": "/api/a"}, {"path_params": {"b": "c"}}])
def test_what_was_found_is_taken_wherever_the_app_hangs(more: dict[str, Any]) -> None:
    """Below a prefix, or mounted by somebody, no router looks for the route again."""
    app = Starlette(routes=[Route("/a", says("a"))])
    scope = scope_of("GET", "/a") | more
    found = RouteTable(app).find(scope)
    assert found is not None
    assert takes(app.router, found, scope)


def test_a_scope_that_is_used_twice_is_routed_twice() -> None:
    """Middleware that calls the app again with the same scope gets the same answer."""
    app = Starlette(routes=[Route("/a/{x}", says("a"))])
    table = RouteTable(app)
    scope = scope_of("GET", "/a/1")
    scope[HANDED] = handed_on(table, scope)
    answers = [Answer(), Answer()]
    for answer in answers:
        run(app(scope, chunks(()), collector(answer)))
        assert scope[HANDED] is None
    assert [answer.body for answer in answers] == [b"a [('x', '1')]"] * 2


def test_a_router_is_planted_once() -> None:
    """By however many tables; and apps do not get in each other's way."""
    one, two = (Starlette(routes=[Route("/{x}", says(name))]) for name in ("one", "two"))
    table = RouteTable(one)
    run(handed(one, table, "/x"))
    door: Any = one.router.middleware_stack
    assert isinstance(door.__self__, Door)
    for again, app in ((RouteTable(one), one), (RouteTable(two), two)):
        run(handed(app, again, "/x"))
        found = again.find(scope_of("GET", "/x"))
        assert found is not None
        assert takes(app.router, found, scope_of("GET", "/x"))
    assert one.router.middleware_stack == door
    scope = scope_of("GET", "/x")
    answer = Answer()
    run(two({**scope, HANDED: handed_on(table, scope)}, chunks(()), collector(answer)))
    assert answer.body == b"two [('x', 'x')]"  # what was found for another app is not handed on


def test_one_router_in_two_places_has_two_names() -> None:
    """Mounted twice, its routes are found under both prefixes, and handed on to."""
    shared = Router([Route("/x", says("x"))])
    app = Starlette(routes=[Mount("/a", shared), Mount("/{b}", shared)])
    table = RouteTable(app)
    assert run(handed(app, table, "/a/x")) == ("/a/x", "x []")
    assert run(handed(app, table, "/c/x")) == ("/{b}/x", "x [('b', 'c')]")
    found = table.find(scope_of("GET", "/a/x"))
    assert found is not None
    assert found[1] is not None
    assert found[1][-1] is not None


def test_a_router_that_is_mounted_in_itself_ends_somewhere() -> None:
    """The table does not follow it round; the app does what it did before."""
    router = Router([Route("/x", says("x"))])
    router.routes.append(Mount("/a", router))
    table = RouteTable(router)
    assert run(handed(router, table, "/a/a/a/x"))[1] == "x []"
    found = table.find(scope_of("GET", "/a/a/a/x"))
    assert found is not None
    assert found[0] == "/a/*"


class Own(Router):
    """A router with an idea of its own: the last route wins."""

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        """Backwards."""
        self.routes.reverse()
        await super().app(scope, receive, send)
        self.routes.reverse()


@pytest.mark.parametrize("app", [lambda: Own([Route("/{x}", says("first")), Route("/a", says("last"))])])
def test_a_router_of_unknown_ways_goes_them(app: Any) -> None:
    """Nothing is planted in a router whose code is not the known one, nor behind middleware of its own."""
    own = app()
    assert run(handed(own, RouteTable(own), "/a"))[1] == "last []"
    behind = Router([Route("/a", says("a"))], middleware=[Middleware(Rewriting)])
    assert run(handed(behind, RouteTable(behind), "/a")) == ("/a", "a []")
    assert isinstance(behind.middleware_stack, Rewriting)


def test_a_router_that_notes_something_else_does_so_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions of Starlette differ in what they leave in a scope; the router's own code is then what runs."""
    own = Router.app

    @functools.wraps(own)
    async def newer(self: Any, scope: Any, receive: Any, send: Any) -> None:
        scope["starlette.newer"] = True
        await own(self, scope, receive, send)

    async def tells(request: Request) -> Response:
        router: Router = request.scope["router"]
        return PlainTextResponse(f"{request.scope.get('starlette.newer')} {len(router.routes)}")

    monkeypatch.setattr(Router, "app", newer)
    app = Router([Route("/a", tells), Route("/b", says("b"))])
    asked = counting(monkeypatch)
    assert run(handed(app, RouteTable(app), "/a")) == ("/a", "True 2")
    assert asked == ["/a", "/b", "/a"]  # two probes, and the router itself


def test_a_router_that_is_watched_is_seen_to_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who only puts himself around its code, to measure it, is not gone around."""
    own, seen = Router.app, list[str]()

    @functools.wraps(own)
    async def watched(self: Any, scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["path"])
        await own(self, scope, receive, send)

    monkeypatch.setattr(Router, "app", watched)
    app = Router([Route("/a", says("a"))])
    assert run(handed(app, RouteTable(app), "/a")) == ("/a", "a []")
    assert seen == ["/a"]


@pytest.mark.parametrize("where", ["everywhere", "in one", "in a kind"])
def test_a_route_that_handles_requests_in_a_way_of_its_own_does_so(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of tracers, which put themselves around each route."""
    own, seen = Route.handle, list[str]()

    @functools.wraps(own)
    async def traced(self: Any, scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["path"])
        await own(self, scope, receive, send)

    class Traced(Route):
        handle = cast("Any", traced)

    route = Route("/{x}", says("it")) if where != "in a kind" else Traced("/{x}", says("it"))
    app = Router([route])
    table = compiled(app)
    if where == "everywhere":
        monkeypatch.setattr(Route, "handle", traced)
    elif where == "in one":
        monkeypatch.setattr(route, "handle", functools.partial(traced, route))
    assert run(handed(app, table, "/a")) == ("/{x}", "it [('x', 'a')]")
    assert seen == ["/a"]


def test_a_fastapi_app_with_a_root_path_of_its_own() -> None:
    """FastAPI sets the root path inside; a request that names it is found under its route all the same."""
    app = FastAPI()
    app.root_path = "/proxy"
    app.add_api_route("/orders/{id}", says("orders"))
    table = RouteTable(app)
    for path in ("/proxy/orders/1", "/orders/1"):
        assert run(handed(app, table, path)) == ("/orders/{id}", "orders [('id', '1')]")


def test_patterns_that_were_replaced_are_asked_for_everything() -> None:
    """A known recipe makes routes ignore case by another pattern; the table goes by what the route says."""
    app = Starlette(routes=[Route("/login", says("login")), Route("/{x}", says("x"))])
    for one in app.router.routes[:1]:
        assert isinstance(one, Route)
        one.path_regex = re.compile(one.path_regex.pattern, re.IGNORECASE)
    table = RouteTable(app)
    assert run(handed(app, table, "/LOGIN")) == ("/login", "login []")
    assert run(handed(app, table, "/logout")) == ("/{x}", "x [('x', 'logout')]")


class Everywhere(APIRoute):
    """A route that is meant wherever one goes."""

    def matches(self, scope: Any) -> Any:
        """Always."""
        return Match.FULL, {"endpoint": self.endpoint, "path_params": {}, "route": self}


class Shy(APIRouter):
    """A router that shows itself to nobody."""

    def matches(self, scope: Any) -> Any:
        """Never."""
        return Match.NONE, {}


def test_routes_with_ideas_of_their_own_are_asked() -> None:
    """Of a class of their own, included or not, or with a `matches` that was put upon one."""
    api, own = APIRouter(route_class=Everywhere), Route("/odd", says("odd"))
    api.add_api_route("/everywhere", says("everywhere"))
    app, included = FastAPI(), FastAPI()
    app.router.routes.extend([own, Everywhere("/elsewhere", says("elsewhere"))])
    included.include_router(api, prefix="/api")
    assert run(handed(included, RouteTable(included), "/a"))[0] == "/api/everywhere"
    assert run(handed(app, RouteTable(app), "/a"))[0] == "/elsewhere"
    own.matches = lambda scope: (Match.FULL, {"endpoint": own.endpoint, "path_params": {}})  # type: ignore[method-assign]
    assert run(handed(app, RouteTable(app), "/a")) == ("/odd", "odd []")


def test_a_router_that_shows_itself_to_nobody_is_not_found() -> None:
    """FastAPI asks the included router, so the table does."""
    shy, app = Shy(), FastAPI()
    shy.add_api_route("/a", says("shy"))
    app.include_router(shy)
    app.add_api_route("/a", says("a"))
    assert run(handed(app, RouteTable(app), "/a")) == ("/a", "a []")
    app.router.routes.pop()
    assert RouteTable(app).find(scope_of("GET", "/a")) is None


class Listed:
    """An app with something like routes."""

    def __init__(self, *routes: Any) -> None:
        self.routes = routes

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse("listed")(scope, receive, send)


LITESTARS = SimpleNamespace(path="/a", methods={"GET"})
"""A route that has a path, and cannot be asked what it matches: some other framework's."""


class Fronted:
    """An app that shows other routes than its router has."""

    def __init__(self) -> None:
        self.routes = [Route("/a", says("shown"))]
        self.router = Router([Route("/a", says("routed"))])

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.router(scope, receive, send)


async def bare(scope: Any, receive: Any, send: Any) -> None:
    """No routes at all."""
    await PlainTextResponse("bare")(scope, receive, send)


@pytest.mark.parametrize(
    ("app", "expected"),
    [
        (bare, ("unmatched", "bare")),
        (Listed(), ("unmatched", "listed")),
        (Listed(Route("/b", says("b")), Route("/a", says("a"))), ("/a", "listed")),
        (Listed(object()), ("unmatched", "listed")),
        (Listed(LITESTARS), ("unmatched", "listed")),
        (Listed(LITESTARS, Route("/a", says("a"))), ("/a", "listed")),
        (Starlette(routes=[Mount("", Listed(LITESTARS))]), ("/*", "listed")),
        (Fronted(), ("/a", "routed []")),
        (Rewriting(Rewriting(bare)), ("unmatched", "bare")),
    ],
)
def test_apps_of_other_kinds(app: Any, expected: tuple[str, str]) -> None:
    """An app without routes has none; of one that only shows some, the names are used."""
    table = RouteTable(app)
    for _ in range(2):
        assert run(handed(app, table, "/a")) == expected


def test_check_is_told_of_no_route_that_requests_would_not_be_found_to_have() -> None:
    """Else it would be content with a limit that no request meets."""
    assert routes_of(Listed(LITESTARS)) == []
    assert routes_of(Starlette(routes=[Mount("", Listed(LITESTARS))])) == [("/*", None)]


def test_what_clients_ask_for_is_not_kept() -> None:
    """Twenty thousand paths that nobody has asked for before leave nothing behind."""
    app = Starlette(routes=[Route("/a/{x}", says("a")), Mount("/m", routes=[Route("/{x}", says("m"))])])
    table = RouteTable(app)
    paths = [f"/{prefix}/{n}" for n in range(10_000) for prefix in ("a", "m", "n")]
    scopes = [scope_of("GET", path) for path in paths]
    for one in scopes[:100]:
        table.find(one)
    tracemalloc.start()
    for one in scopes:
        table.find(one)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 20_000


@pytest.mark.parametrize("path", ["*", "item", "item/1"])
def test_a_target_without_a_slash_is_no_route(path: str) -> None:
    """As `OPTIONS *` asks: the router says 404, and so it stays."""
    house = harden(site(Route("/{item}", ok), Route("/item/{number}", ok)), limits())
    answer = run(house.call(path=path))
    assert (answer.status, house.lines[-1]["route"]) == (404, UNMATCHED)
