"""Statuses of clients and of the app's own answers, through the forms that a call has."""

from __future__ import annotations

import asyncio
import threading
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests
import urllib3
from fastapi import Depends, FastAPI, HTTPException, WebSocket, WebSocketDisconnect
from starlette.testclient import TestClient

from tests.outcomes.test_statuses import AioResponse, carrying
from tests.runtime.calls.worlds import World

RETRY: dict[str, Any] = {"retry": {"attempts": 3, "base": "1ms"}, "breaker": {"min_calls": 5}}


class Handler(BaseHTTPRequestHandler):
    """Answers with the status that the path names."""

    def do_GET(self) -> None:
        self.send_response(int(self.path[1:]))
        self.send_header("content-length", "0")
        self.end_headers()

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """It is quiet."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def _of_requests(url: str) -> None:
    requests.get(url, timeout=5).raise_for_status()


CLIENTS: dict[str, Callable[[str], object]] = {
    "requests": _of_requests,
    "urllib": lambda url: urllib.request.urlopen(url, timeout=5).close(),
    "urllib3": lambda url: urllib3.PoolManager().request("GET", url),
}


@pytest.mark.parametrize("client", CLIENTS)
def test_what_a_server_answers_is_seen(url: str, client: str) -> None:
    """A 503 is repeated and fails three times, a 404 is a success, whether it is raised or returned."""
    world = World(**RETRY)
    ask = world.stripe(idempotent=True)(CLIENTS[client])
    for status in (503, 404):
        try:
            ask(f"{url}{status}")
        except OSError:
            continue
    assert (world.calls("failure"), world.calls("success")) == (3, 1)


def test_a_returned_answer_is_seen_on_the_short_way() -> None:
    """As aiohttp returns it; a good one does not hide the bad one after it."""
    world = World(**RETRY)
    answers = iter([200, 503, 502, 200, 404])

    @world.stripe(idempotent=True)
    async def ask() -> Any:
        return carrying(AioResponse, status=next(answers))

    assert [asyncio.run(ask()).status for _ in range(3)] == [200, 200, 404]
    world.guardian.tally()
    assert (world.calls("failure"), world.calls("success")) == (2, 3)


def test_the_apps_own_answer_is_no_failed_call_of_what_yields() -> None:
    """FastAPI throws what an endpoint raises into each dependency of it that yields."""
    world, app = World(**RETRY), FastAPI()

    async def pay() -> AsyncIterator[str]:
        async with world.stripe:
            yield "client"

    @app.get("/items/{status}", dependencies=[Depends(pay)])
    async def _item(status: int) -> None:
        raise HTTPException(status)

    client = TestClient(app)
    asked = [client.get(f"/items/{said}").status_code for said in (404, 409, 429, "no-number", 502)]
    assert asked == [404, 409, 429, 422, 502]
    assert (world.calls("success"), world.calls("failure"), world.breaker.state) == (4, 1, "closed")


def test_a_websocket_whose_client_leaves_is_no_failed_call() -> None:
    """Starlette tells the endpoint by an error, and FastAPI tells what yields."""
    world, app = World(**RETRY), FastAPI()

    async def pay() -> AsyncIterator[str]:
        async with world.stripe:
            yield "client"

    @app.websocket("/chat", dependencies=[Depends(pay)])
    async def _chat(socket: WebSocket) -> None:
        await socket.accept()
        await socket.receive_text()

    with (
        suppress(WebSocketDisconnect),
        TestClient(app).websocket_connect("/chat"),
    ):  # it hands on what is raised
        pass
    assert (world.calls("cancelled"), world.calls("failure")) == (1, 0)


def test_the_apps_own_answer_is_nothing_that_is_repeated() -> None:
    """Its status is the app's word, not the dependency's: neither `retry_on` nor `ignore` means it."""
    world = World(
        retry={"attempts": 3, "retry_on": [404, 503]}, breaker={"failure_on": [404], "min_calls": 1}
    )
    seen: list[int] = []

    @world.stripe(idempotent=True)
    async def ask(status: int) -> None:
        seen.append(status)
        raise HTTPException(status)

    for status in (404, 503):
        with pytest.raises(HTTPException):
            asyncio.run(ask(status))
    assert (seen, world.breaker.state) == ([404, 503], "closed")
