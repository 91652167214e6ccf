"""It is seen where Hardening stands in an app, however it was put there, and what is outside of it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.authentication import AuthenticationBackend
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Mount

from mahavishnu import asgi
from mahavishnu.asgi import Hardening
from mahavishnu.inspection import standing
from mahavishnu.inspection.hardened import hardened_in
from mahavishnu.inspection.standing import standing_of

API = FastAPI()
API.add_middleware(CORSMiddleware)


class Mine(Hardening):
    """One with something of its own."""


OTHER = functools.partial(Hardening, spec="other.yaml")


class Users(AuthenticationMiddleware):
    """One that hands every request on, as Starlette's own."""


class Context:
    """One of the MCP SDK's or FastMCP's, which hand every request on."""

    def __init__(self, app: Any) -> None:
        self.app = app


class Told(Context):
    """The other one of them."""


Context.__module__, Context.__qualname__ = "fastmcp.server.http", "RequestContextMiddleware"
Told.__module__, Told.__qualname__ = (
    "mcp.server.auth.middleware.auth_context",
    "AuthContextMiddleware",
)


class Tenants:
    """One of which nobody knows what it answers."""

    def __init__(self, app: Any, **settings: int) -> None:
        self.app = app
        self.settings = settings

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


def hidden(app: Any) -> Any:
    """A middleware that shows nothing of what is in it."""

    async def within(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)

    return within


def hooked(app: Any) -> Hardening:
    """A function that makes one."""
    return Hardening(app, identify=lambda scope: None)


def broken(app: Any) -> Any:
    """A middleware that needs what is not there."""
    raise OSError("no database")


def added(*middlewares: Any, app: Any = None) -> Any:
    """An app to which these were added, in this order."""
    app = Starlette() if app is None else app
    for one in middlewares:
        app.add_middleware(one)
    return app


def mounted(path: str, app: Any) -> Starlette:
    """An app in which another one is mounted."""
    return Starlette(routes=[Mount("/other", Starlette()), Mount(path, app)])


@pytest.fixture(autouse=True)
def _looking(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a process that looks at an app: no middleware is made before, and none reads its spec."""
    made = WeakSet[Hardening]()
    monkeypatch.setattr(asgi, "MADE", made)
    monkeypatch.setattr(standing, "MADE", made)
    monkeypatch.setenv("MAHAVISHNU_DISABLE", "1")


@pytest.mark.parametrize(
    ("make", "outside"),
    [
        (lambda: added(Tenants, Hardening), []),
        (lambda: added(Tenants, Mine, CORSMiddleware), ["CORSMiddleware"]),
        (lambda: added(Hardening, Users, GZipMiddleware), []),
        (lambda: added(Hardening, Told, Users, Context), []),
        (lambda: added(functools.partial(Hardening, identify=None), hidden), ["hidden"]),
        (lambda: added(broken, hooked, functools.partial(Tenants, a=1)), ["Tenants"]),
        (lambda: added(Hardening, app=FastAPI()), []),
        (lambda: Hardening(API), []),
        (lambda: Tenants(Users(Hardening(API), backend=AuthenticationBackend())), ["Tenants"]),
        (lambda: Tenants(added(Hardening, CORSMiddleware)), ["Tenants", "CORSMiddleware"]),
        (lambda: hidden(Hardening(API)), ["within"]),
        (lambda: Tenants(hidden(Hardening(API))), ["Tenants", "within"]),
    ],
)
def test_around_the_app(make: Callable[[], Any], outside: list[str]) -> None:
    """Added to it or put around it; what is outside comes from the outermost inwards."""
    found = standing_of(make())

    assert (found.where, [*found.outside], [*found.mounts]) == ("around", outside, [])


@pytest.mark.parametrize(
    "make", [lambda: API, lambda: hidden(API), lambda: added(broken), lambda: Tenants(API)]
)
def test_nowhere(make: Callable[[], Any]) -> None:
    """No middleware was made, nor would one be when the server starts."""
    assert standing_of(make())[:3] == ("nowhere", (), ())


@pytest.mark.parametrize(
    ("make", "path"),
    [
        (lambda: mounted("/api", added(Hardening)), "/api"),
        (lambda: mounted("/api", mounted("/inner", Hardening(API))), "/api/inner"),
        (lambda: mounted("/", Tenants(Hardening(API))), "/"),
    ],
)
def test_only_in_what_is_mounted(make: Callable[[], Any], path: str) -> None:
    """Requests for anything else do not come by."""
    assert standing_of(make())[:3] == ("mounted", (), [path])


@pytest.mark.parametrize("app", [API, hidden(API), Tenants(API)])
def test_around_what_is_not_the_app(app: Any) -> None:
    """As in a module that puts it around and is asked for what is inside."""
    made = Tenants(Hardening(app))

    assert standing_of(app)[:3] == ("aside", (), ())
    assert standing_of(made).where == "around"


def test_functions_of_fastapi_are_told_by_their_own_names() -> None:
    """All of those are of one class."""
    app = FastAPI()
    app.add_middleware(Hardening)

    @app.middleware("http")
    async def auth(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    assert standing_of(app).outside == [auth.__name__]


def test_one_that_is_gone_is_nowhere() -> None:
    """What was made and dropped holds nothing up."""
    Hardening(API)

    assert standing_of(hidden(API)).where == "nowhere"


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda: added(Hardening), [("/", "", False)]),
        (lambda: API, []),
        (lambda: Hardening(added(Hardening)), [("/", "", False), ("/", "", True)]),
        (lambda: added(OTHER, Mine), [("/", "", False), ("/", "other.yaml", True)]),
        (lambda: mounted("/api", added(OTHER)), [("/api", "other.yaml", False)]),
        (
            lambda: Hardening(mounted("/api", mounted("/inner", Hardening(API, "other.yaml")))),
            [("/", "", False), ("/api/inner", "other.yaml", True)],
        ),
        (lambda: Hardening(API, "/srv/mahavishnu.yaml"), [("/", "", False)]),
        (
            lambda: Starlette(
                middleware=[Middleware(Hardening, "a.yaml"), Middleware(Hardening, spec="b.yaml")]
            ),
            [("/", "a.yaml", False), ("/", "b.yaml", True)],
        ),
    ],
)
def test_each_is_found_with_its_spec(
    make: Callable[[], Any], found: list[tuple[str, str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made or listed, also of what is mounted; a spec that is the one of this look has no name."""
    monkeypatch.setenv("MAHAVISHNU_SPEC", "/srv/mahavishnu.yaml")
    assert [*hardened_in(make())] == found


class Origins(CORSMiddleware):
    """One with something of its own."""


@pytest.mark.parametrize(
    ("make", "paths"),
    [
        (lambda: added(CORSMiddleware, Hardening), ["/"]),
        (lambda: added(Origins, Tenants, hooked), ["/"]),
        (lambda: added(functools.partial(CORSMiddleware, allow_origins=["*"]), Hardening), ["/"]),
        (lambda: Hardening(API), ["/"]),
        (lambda: Hardening(Tenants(CORSMiddleware(Starlette()))), ["/"]),
        (lambda: hidden(Hardening(API)), ["/"]),
        (lambda: API, ["/"]),
        (lambda: Hardening(mounted("/api", mounted("/inner", API))), ["/api/inner"]),
        (lambda: added(Hardening, app=mounted("/api", CORSMiddleware(Starlette()))), ["/api"]),
        (
            lambda: Hardening(
                Starlette(routes=[Mount("/api", routes=[], middleware=[Middleware(CORSMiddleware)])])
            ),
            ["/api"],
        ),
        (lambda: added(Hardening, CORSMiddleware), []),
        (lambda: CORSMiddleware(Hardening(Starlette())), []),
        (lambda: added(Tenants, Hardening), []),
        (lambda: mounted("/api", added(CORSMiddleware, Hardening)), []),
    ],
)
def test_a_cors_middleware_inside_of_it_is_seen(make: Callable[[], Any], paths: list[str]) -> None:
    """Of the app, or of one that is mounted in it; of an app without Hardening, as if it were put around."""
    assert [*standing_of(make()).cors] == paths
