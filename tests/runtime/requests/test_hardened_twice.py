"""Two middlewares of one spec in a process: one inside of another steps back, two side by side are told of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from io import StringIO
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

from mahavishnu.asgi import Hardening
from mahavishnu.dependencies import dependency
from mahavishnu.errors import SpecError
from mahavishnu.testing import VirtualClock
from tests.metering import value
from tests.runtime.asgi_client import call, run, site, spec_of

SPEC = spec_of(limits={"per_client": {"rate": "4/minute"}}, dependencies={"pay": {"timeout": "1s"}})
OTHER = spec_of(limits={"per_client": {"rate": "1/minute"}})
Make = Callable[[Any], Any]


@pytest.fixture
def log() -> StringIO:
    """What all middlewares of a test write."""
    return StringIO()


@pytest.fixture
def made(log: StringIO) -> Make:
    """Puts a middleware around an app."""
    clock = VirtualClock()
    return lambda app: Hardening(app, SPEC, clock=clock, log_to=log)


async def buy(request: Request) -> Response:
    """What calls a dependency."""
    return PlainTextResponse(await _pay())


async def talk(websocket: WebSocket) -> None:
    """A websocket that says one word."""
    await websocket.accept()
    await websocket.send_text("hello")
    await websocket.close()


async def _pay() -> str:
    return await dependency("pay")(_paid)()


async def _paid() -> str:
    return "paid"


def app_of(made: Make) -> Starlette:
    """An app with a middleware of its own, as `add_middleware` adds it."""
    app = Starlette(routes=[Route("/buy", buy), WebSocketRoute("/ws", talk)])
    app.add_middleware(made)
    return app


def below(app: Any) -> Starlette:
    """An app that has another one mounted, which a lifespan never reaches."""
    return Starlette(routes=[Mount("/api", app)])


@contextmanager
def client_of(app: Any, *, starts: bool) -> Generator[TestClient]:
    """A client of a server that says that it starts, or does not."""
    client = TestClient(app)
    if not starts:
        yield client
        return
    with client:
        yield client


@pytest.mark.parametrize("starts", [True, False])
@pytest.mark.parametrize("mounted", [True, False])
def test_one_inside_of_another_steps_back(made: Make, log: StringIO, mounted: bool, starts: bool) -> None:
    """Each request is charged once and logged once, and what it calls is counted where all is counted."""
    inner = app_of(made)
    path = "/api" if mounted else ""
    outer = made(below(inner) if mounted else inner)
    with client_of(outer, starts=starts) as client:
        assert [client.get(f"{path}/buy").status_code for _ in range(5)] == [200] * 4 + [429]
    asyncio.run(_pay())
    shown = outer.service.metrics
    assert value(shown, "mahavishnu_dependency_calls_total", dependency="pay", outcome="success") == 5
    assert log.getvalue().count('"event": "request"') == 5
    assert log.getvalue().count("hardened twice") == 1


def elsewhere(app: Any) -> Hardening:
    """A middleware whose spec is of another team, and not here."""
    return Hardening(app, "no/such/spec.yaml")


def other(app: Any) -> Hardening:
    """As `elsewhere`, with a spec that is at hand."""
    return Hardening(app, OTHER)


@pytest.mark.parametrize("starts", [True, False])
@pytest.mark.parametrize("mounted", [True, False])
@pytest.mark.parametrize("inner", [elsewhere, other])
def test_one_inside_of_another_needs_no_spec(
    made: Make, log: StringIO, inner: Make, mounted: bool, starts: bool
) -> None:
    """Made when the app is first called, it reads none, be it another one or none at all: nothing of it would hold."""
    path = "/api" if mounted else ""
    outer = made(below(app_of(inner)) if mounted else app_of(inner))
    with client_of(outer, starts=starts) as client:
        assert [client.get(f"{path}/buy").status_code for _ in range(5)] == [200] * 4 + [429]
    shown = outer.service.metrics
    assert value(shown, "mahavishnu_dependency_calls_total", dependency="pay", outcome="success") == 4
    assert log.getvalue().count("hardened twice") == 1


async def test_one_that_is_made_inside_and_asked_outside_reads_its_spec_then(made: Make) -> None:
    """As a server for operators that an app starts when it starts: nothing stands around that."""
    kept = list[Hardening]()

    async def starts(scope: Any, receive: Any, send: Any) -> None:
        kept.append(made(site()))
        kept.append(elsewhere(site()))

    await call(made(starts))
    kept[0].drain()
    await kept[0].reload()
    assert [(await call(kept[0])).status for _ in range(5)] == [200] * 4 + [429]
    for _ in range(2):
        with pytest.raises(SpecError, match="MV001"):
            await call(kept[1])


def test_a_websocket_is_charged_once(made: Make, log: StringIO) -> None:
    """As any request."""
    client = TestClient(made(app_of(made)))
    for _ in range(4):
        with client.websocket_connect("/ws") as talking:
            assert talking.receive_text() == "hello"
    assert log.getvalue().count('"event": "websocket"') == 4


def test_two_side_by_side_are_told_of(made: Make, log: StringIO) -> None:
    """Each counts for itself, so that clients have twice the limit: the first one says so when it is asked again."""
    both = Starlette(routes=[Mount("/a", app_of(made)), Mount("/b", app_of(made))])

    async def scenario() -> list[int]:
        return [(await call(both, path=path)).status for path in ("/a/buy", "/b/buy") * 5]

    assert run(scenario()).count(429) == 2
    assert log.getvalue().count("hardened twice") == 1


async def test_one_after_another_is_no_fault(made: Make, log: StringIO) -> None:
    """Each test may make an app of its own, in a process and on an event loop that they share."""
    for _ in range(3):
        app = made(site())
        assert [(await call(app)).status for _ in range(5)] == [200] * 4 + [429]
    for _ in range(2):
        with TestClient(made(site())) as client:
            assert client.get("/").status_code == 200
    assert "hardened twice" not in log.getvalue()
