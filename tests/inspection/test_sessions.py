"""MCP servers with sessions are seen, as FastMCP and the SDK make them; those without are not."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount, Route

from mahavishnu.errors import Problem
from mahavishnu.inspection.sessions import sessions_of
from tests.inspection.test_appinfo import looked
from tests.runtime.asgi_client import ok, site


class Server:
    """What stands at the route of such a server."""

    def __init__(self, manager: Any) -> None:
        self.session_manager = manager

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Never asked."""


class Authenticated:
    """What FastMCP and the SDK put around it where a token is asked for."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Never asked."""


STATEFUL, STATELESS = SimpleNamespace(stateless=False), SimpleNamespace(stateless=True)


@pytest.fixture(
    autouse=True,
    params=["fastmcp.server.http", "mcp.server.fastmcp.server", "mcp.server.streamable_http_manager"],
)
def _named(request: pytest.FixtureRequest) -> None:  # pyright: ignore[reportUnusedFunction]
    """As in FastMCP, in the SDK before its version 2, and since."""
    Server.__module__, Server.__qualname__ = request.param, "StreamableHTTPASGIApp"


def test_one_with_sessions_is_seen_where_it_is() -> None:
    """At its route, below its authentication, and in what is mounted."""
    routes = Route("/mcp", Server(STATEFUL)), Route("/safe", Authenticated(Server(STATEFUL)))
    app = Starlette(
        routes=[*routes, Mount("/v1", site(*routes)), Mount("/bare", Server(STATEFUL)), Route("/", ok)]
    )
    assert [*sessions_of(app)] == ["/mcp", "/safe", "/v1/mcp", "/v1/safe", "/bare/*"]


def test_one_without_sessions_is_none() -> None:
    """Any process answers it."""
    assert [*sessions_of(site(Route("/mcp", Server(STATELESS)), Mount("/bare", Server(STATELESS))))] == []


def test_one_that_is_made_when_it_starts_takes_gets_where_it_has_sessions() -> None:
    """FastMCP's, with authentication and without."""
    routes = (
        Route("/mcp", Server(None)),
        Route("/safe", Authenticated(Server(None)), methods=["GET", "POST", "DELETE"]),
        Route("/free", Server(None), methods=["POST", "DELETE"]),
    )
    assert [*sessions_of(site(*routes))] == ["/mcp", "/safe"]


def test_whatever_else_has_a_manager_of_sessions_is_not_meant() -> None:
    """Nobody knows what that is."""

    class Other(Authenticated):
        session_manager = STATEFUL

    assert [*sessions_of(site(Route("/other", Other(None))))] == []


APP = """
from starlette.applications import Starlette
from starlette.routing import Route

class Server:
    session_manager = None
    async def __call__(self, scope, receive, send): ...

Server.__module__, Server.__qualname__ = "fastmcp.server.http", "StreamableHTTPASGIApp"
app = Starlette(routes=[Route("/mcp", Server())])
"""


def test_they_are_told_of_the_app(tmp_path: Path) -> None:
    """To whoever checks its spec."""
    said = looked(tmp_path, APP)
    assert not isinstance(said, Problem), said.what
    assert said.sessions == ("/mcp",)
