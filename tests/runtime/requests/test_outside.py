"""The log says at the start which middlewares requests meet before Hardening."""

from __future__ import annotations

import json
from contextlib import nullcontext
from functools import partial
from io import StringIO
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.authentication import AuthenticationBackend
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from mahavishnu.asgi import Hardening
from mahavishnu.testing import VirtualClock
from tests.runtime.asgi_client import spec_of


async def page(request: Request) -> Response:
    """What the app answers."""
    return JSONResponse({})


class Closed:
    """A middleware that lets nobody in."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        closed = scope["type"] == "http"
        await (JSONResponse({}, 401) if closed else self.app)(scope, receive, send)


def told(*middlewares: Any, outside: tuple[str, ...] = (), starts: bool = True) -> list[list[str]]:
    """What the log of an app to which these were added says of them, from its start to the second request."""
    log = StringIO()
    app = Starlette(routes=[Route("/", page)])
    spec = spec_of(service={"outside": outside})
    hardening = partial(Hardening, spec=spec, clock=VirtualClock(), log_to=log)
    for one in middlewares:
        app.add_middleware(hardening if one is Hardening else one)
    client = TestClient(app, raise_server_exceptions=False)
    with client if starts else nullcontext():
        client.get("/")
        client.get("/")
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    return [line["names"] for line in lines if line["event"] == "middlewares outside"]


def test_what_is_added_after_it_is_told_once() -> None:
    """From the outermost inwards; what they answer is in no log."""
    assert told(CORSMiddleware, Hardening, CORSMiddleware, Closed) == [["Closed", "CORSMiddleware"]]


def test_also_by_a_server_that_does_not_tell_of_its_start() -> None:
    """With the first request that comes so far."""
    assert told(Hardening, CORSMiddleware, starts=False) == [["CORSMiddleware"]]


@pytest.mark.parametrize(
    "middlewares",
    [
        (Hardening,),
        (CORSMiddleware, Hardening),
        (Hardening, partial(AuthenticationMiddleware, backend=AuthenticationBackend())),
    ],
)
def test_what_is_inside_or_answers_nothing_is_not_told(middlewares: tuple[Any, ...]) -> None:
    """Starlette's authentication is meant to be outside."""
    assert told(*middlewares, starts=False) == []


def test_what_the_spec_says_is_outside_is_not_told() -> None:
    """Whoever put it there knows."""
    assert told(Hardening, CORSMiddleware, Closed, outside=("CORSMiddleware",)) == [["Closed"]]
