"""The log says, when the app has started, which of its routes are never reached."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from io import StringIO
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from mahavishnu.asgi import Hardening
from mahavishnu.testing import VirtualClock
from tests.runtime.asgi_client import spec_of


async def page(request: Request) -> Response:
    """What the app answers."""
    return JSONResponse({"db": "down"}, 503)


async def files(scope: Any, receive: Any, send: Any) -> None:
    """A mounted app without routes that anybody sees."""
    await Response("file")(scope, receive, send)


async def bare(scope: Any, receive: Any, send: Any) -> None:
    """An app that has no lifespan, and no routes of its own."""
    assert scope["type"] == "http"
    await Response("bare")(scope, receive, send)


bare.routes = [Route("/healthz", page)]  # type: ignore[attr-defined]  # as some small framework's


Wrap = Callable[[Any, Any], Any]


def around(app: Any, harden: Any) -> Any:
    """As `app = Hardening(app)`."""
    return harden(app)


def added(app: Any, harden: Any) -> Any:
    """As `app.add_middleware(Hardening)`."""
    app.add_middleware(harden)
    return app


def told(app: Any, wrap: Wrap = around, *, starts: bool = True, **spec: Any) -> list[dict[str, Any]]:
    """What the log of an app says of paths, from its start to the second request."""
    log = StringIO()

    def harden(app: Any) -> Hardening:
        return Hardening(app, spec=spec_of(**spec), clock=VirtualClock(), log_to=log)

    client = TestClient(wrap(app, harden), raise_server_exceptions=False)
    with client if starts else nullcontext():
        client.get("/")
        client.get("/")
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    return [line for line in lines if line["event"] == "paths taken"]


def app_of(*routes: Any, later: Sequence[Any] = ()) -> Starlette:
    """An app with these routes, and some that it adds when it starts."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        app.router.routes.extend(later)
        yield

    return Starlette(routes=routes, lifespan=lifespan)


@pytest.mark.parametrize("wrap", [around, added])
def test_routes_that_are_added_at_the_start_are_told_of_once(wrap: Wrap) -> None:
    """As the old instrumentation's, of which `check` knows nothing, with what to do."""
    app = app_of(Route("/", page), later=[Route("/metrics", page), Route("/healthz", page)])

    (line,) = told(app, wrap)

    assert (line["level"], line["names"]) == ("warning", ["/healthz", "/metrics"])
    assert "let the app answer at another path" in line["help"]
    assert "`observability.metrics.path`" in line["help"]


def test_also_by_a_server_that_does_not_tell_of_its_start() -> None:
    """With the first request, of the routes that are there by then."""
    (line,) = told(app_of(Route("/readyz", page)), starts=False)

    assert line["names"] == ["/readyz"]


def test_also_of_an_app_that_has_no_lifespan() -> None:
    """Its start is ours alone."""
    (line,) = told(bare)

    assert line["names"] == ["/healthz"]


def test_paths_of_the_spec_and_mounts_are_told_of() -> None:
    """The series wherever they are, and an app that is mounted at the very path."""
    series = {"metrics": {"path": "/series"}}

    (line,) = told(app_of(Mount("/series", files)), observability=series)

    assert line["names"] == ["/series"]


@pytest.mark.parametrize(
    "route",
    [
        Mount("/", files),
        Route("/{page:path}", page),
        Route("/metrics/old", page),
        Route("/metrics", page, methods=["POST"]),
    ],
)
def test_what_takes_whatever_comes_or_is_still_reached_is_not_told_of(route: Any) -> None:
    """Nobody has written such a route for that path."""
    assert told(app_of(route)) == []


def test_an_app_of_which_nobody_can_list_the_routes_starts() -> None:
    """As one that is mounted within itself."""
    app = app_of(Route("/metrics", page))
    app.mount("/again", app)

    assert told(app) == []
