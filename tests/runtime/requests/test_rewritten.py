"""A middleware inside of Hardening that changes requests goes around their limits, and the log says so, once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route, Router

from tests.runtime.asgi_client import House, harden, limits, site

SPEC = limits(login={"rate": "2/minute", "burst": 1, "match": {"path": "/login"}})
Change = Callable[[dict[str, Any]], dict[str, Any] | None]


async def login(_: Request) -> Response:
    """What is worth guessing."""
    return PlainTextResponse("in")


async def item() -> dict[str, str]:
    """An endpoint of FastAPI."""
    return {}


class Changing:
    """A middleware of the app's own, which changes a scope in place, or by another one."""

    def __init__(self, app: Any, change: Change) -> None:
        self.app = app
        self.change = change

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(self.change(scope) or scope, receive, send)


def without_version(scope: dict[str, Any]) -> None:
    """`/v1/login` as `/login`, for old clients."""
    scope["path"] = scope["path"].removeprefix("/v1")


def in_lower_case(scope: dict[str, Any]) -> dict[str, Any]:
    """As a known recipe has it."""
    return {**scope, "path": scope["path"].lower()}


def overridden(scope: dict[str, Any]) -> None:
    """The method that a header names."""
    scope["method"] = dict(scope["headers"]).get(b"x-http-method-override", b"GET").decode()


def told(house: House) -> list[dict[str, Any]]:
    """What the log says of it."""
    return [line for line in house.lines if line["event"] == "rewritten inside"]


def changed(change: Change, *routes: Any) -> House:
    """An app that changes its requests so."""
    inside = [Middleware(GZipMiddleware), Middleware(Changing, change=change)]
    routes = routes or (Route("/login", login, methods=["GET", "DELETE"]),)
    return harden(site(*routes, middleware=inside), SPEC)


@pytest.mark.parametrize(
    ("change", "asked"),
    [
        (without_version, {"path": "/v1/login"}),
        (in_lower_case, {"path": "/LOGIN"}),
        (overridden, {"path": "/login", "headers": {"x-http-method-override": "DELETE"}}),
    ],
)
async def test_it_is_said_once(change: Change, asked: dict[str, Any]) -> None:
    """With what to do, and without anything that a client has sent."""
    house = changed(change)
    assert await house.status(path="/login") == 200
    assert told(house) == []
    house.clock.advance("1h")
    for _ in range(2):
        assert await house.status(**asked) in {200, 429}
    (line,) = told(house)
    assert line["level"] == "warning"
    assert line["route"] == ("/login" if change is overridden else "unmatched")
    assert "service.outside" in line["help"]


@pytest.mark.parametrize("path", ["/login", "/nowhere", "/below/x", "/api/y", "/LOGIN"])
async def test_a_request_that_is_as_it_was_sent_is_none(path: str) -> None:
    """Whether a route has it, or a mounted app, or none."""
    api = FastAPI()
    api.add_api_route("/y", item)
    routes = (
        Route("/login", login),
        Mount("/below", Router([Route("/x", login)])),
        Mount("/api", api),
    )
    house = changed(lambda scope: {**scope, "user_agent": "ours"}, *routes)
    await house.status(path=path)
    assert told(house) == []
