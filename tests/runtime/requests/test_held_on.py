"""Apps that hold on when their time is up: their clients are answered beside them, once, and nothing is told twice."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from mahavishnu.protocols import Scope
from mahavishnu.runtime.context import deadline
from tests.runtime.asgi_client import (
    Answer,
    House,
    Message,
    Receive,
    Send,
    chunks,
    collector,
    harden,
    limits,
    scope_of,
    site,
    spec_of,
)

KINDS: list[dict[str, Any]] = [{}, {"idle": "5s"}, {"inherit": "grpc-timeout"}]


class Stubborn:
    """An endpoint that outlives its cancellation until somebody lets it go; `then` is what it does at last."""

    def __init__(self, then: Callable[[], Response] = lambda: PlainTextResponse("too late")) -> None:
        self.gate = asyncio.Event()
        self.then = then
        self.left: list[int | None] = []

    async def __call__(self, request: Request) -> Response:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await self.gate.wait()
        self.left.append(deadline())
        return self.then()


async def _until_late(house: House, answer: Answer, **more: Any) -> asyncio.Task[None]:
    """The task of a request whose time is up, and whatever an event loop does then."""
    task = asyncio.create_task(house.app(scope_of(**more), chunks([b""]), collector(answer)))
    await house.clock.settle()
    house.clock.advance("2s")
    await house.clock.settle()
    return task


def _served(house: House) -> dict[str, float]:
    return {name: value for name, value in house.samples().items() if "duration_seconds_count" in name}


@pytest.mark.parametrize("more", KINDS)
async def test_the_answer_does_not_wait_for_an_app_that_holds_on(more: dict[str, Any]) -> None:
    """It comes when the time is up, is told of at once and once, and the app keeps its place until it has ended."""
    app = Stubborn()
    spec = limits(request={"timeout": "2s", **more}, all={"concurrency": 9})
    house = harden(site(Route("/", app.__call__)), spec)
    answer = Answer()
    task = await _until_late(house, answer)
    assert (answer.status, answer.starts, answer.complete) == (504, 1, True)
    assert answer.json()["violated-policies"] == ["request"]
    assert "x-request-id" in answer.headers
    lines = house.lines
    assert [(one["status"], one["duration_ms"], one["refused_by"]) for one in lines] == [
        (504, 2000.0, "request")
    ]
    assert lines[0]["bytes"] == len(answer.body)
    assert sum(_served(house).values()) == 1
    assert house.decisions("request") == (0, 1, 0)
    assert (house.gauge("in_flight", "all"), house.app.service.active) == (1, 1)
    house.clock.advance("6s")
    app.gate.set()
    await task
    assert len(answer.messages) == 2
    assert (len(house.lines), sum(_served(house).values())) == (1, 1)
    assert (house.gauge("in_flight", "all"), house.app.service.active) == (0, 0)
    assert house.decisions("request") == (0, 1, 0)
    assert (task.cancelling(), house.clock.timers) == (0, 0)


async def test_what_an_app_that_holds_on_still_calls_is_late() -> None:
    """The deadline has passed, whatever has been answered: nothing that it asks of others is for anybody."""
    app = Stubborn()
    house = harden(site(Route("/", app.__call__)), limits(request={"timeout": "2s"}))
    began = house.clock.now()
    task = await _until_late(house, Answer())
    app.gate.set()
    await task
    assert app.left == [began + 2 * 10**9]


async def test_a_thread_inside_of_a_middleware_does_not_keep_the_answer_back() -> None:
    """Starlette's middlewares wait for an endpoint that is no coroutine, whoever cancels them."""
    gate = threading.Event()

    def endpoint(request: Request) -> Response:
        gate.wait()
        return PlainTextResponse("too late")

    async def any_one(request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)

    inside = [Middleware(BaseHTTPMiddleware, dispatch=any_one)]
    house = harden(site(Route("/", endpoint), middleware=inside), limits(request={"timeout": "2s"}))
    answer = Answer()
    task = await _until_late(house, answer)
    held, before = not task.done(), answer.status
    gate.set()
    await task
    assert (held, before) == (True, 504)
    assert (answer.starts, answer.complete, len(house.lines)) == (1, True, 1)


@pytest.mark.parametrize("fault", [ValueError, OSError, asyncio.CancelledError])
async def test_how_it_ends_at_last_changes_nothing_of_the_answer(fault: type[BaseException]) -> None:
    """A fault of the app is the server's to know; it has been answered, and told of."""

    def fails() -> Response:
        raise fault

    app = Stubborn(fails)
    house = harden(site(Route("/", app.__call__)), limits(request={"timeout": "2s"}))
    answer = Answer()
    task = await _until_late(house, answer)
    app.gate.set()
    await asyncio.wait([task])
    assert (answer.status, len(answer.messages), len(house.lines)) == (504, 2, 1)


async def test_a_response_that_has_begun_is_not_begun_again() -> None:
    """Of a stream that holds on only the server can end the connection, once the app has ended."""
    gate = asyncio.Event()

    async def parts() -> AsyncIterator[bytes]:
        yield b"one"
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await gate.wait()
        yield b"two"

    async def handler(request: Request) -> Response:
        return StreamingResponse(parts())

    house = harden(site(Route("/", handler)), limits(request={"timeout": "9s", "idle": "2s"}))
    answer = Answer()
    task = await _until_late(house, answer)
    gate.set()
    await task
    assert (answer.starts, answer.body, answer.complete) == (1, b"one", False)
    assert [(one["status"], one["refused_by"]) for one in house.lines] == [(200, "request")]


async def test_what_the_app_sends_while_the_answer_is_on_its_way_is_dropped() -> None:
    """A client that is slow to take the answer gets nothing else between its parts."""
    slow, app = asyncio.Event(), Stubborn()
    answer = Answer()

    async def send(message: Message) -> None:
        answer.messages.append(message)
        await slow.wait()

    house = harden(site(Route("/", app.__call__)), limits(request={"timeout": "2s"}))
    task = asyncio.create_task(house.app(scope_of(), chunks([b""]), send))
    await house.clock.settle()
    house.clock.advance("2s")
    await house.clock.settle()
    app.gate.set()
    await house.clock.settle()
    assert not task.done()  # a server that hears that the app has ended would end the response
    slow.set()
    await task
    assert [one["type"] for one in answer.messages] == ["http.response.start", "http.response.body"]
    assert (answer.status, answer.complete, len(house.lines)) == (504, True, 1)


async def test_a_client_that_has_gone_is_told_nothing() -> None:
    """What a server says of it is no fault of anybody's, and the line is written all the same."""
    app = Stubborn()

    async def send(message: Message) -> None:
        raise OSError

    house = harden(site(Route("/", app.__call__)), limits(request={"timeout": "2s"}))
    task = asyncio.create_task(house.app(scope_of(), chunks([b""]), send))
    await house.clock.settle()
    house.clock.advance("2s")
    await house.clock.settle()
    assert [one["status"] for one in house.lines] == [504]
    app.gate.set()
    await asyncio.wait([task])
    assert len(house.lines) == 1


async def test_a_server_that_ends_the_task_is_sent_nothing_more() -> None:
    """An answer that is still on its way goes no further."""
    answer, never = Answer(), asyncio.Event()

    async def send(message: Message) -> None:
        answer.messages.append(message)
        await never.wait()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    before = asyncio.all_tasks()
    house = harden(app, limits(request={"timeout": "2s"}))
    task = asyncio.create_task(house.app(scope_of(), chunks([b""]), send))
    await house.clock.settle()
    house.clock.advance("2s")
    await house.clock.settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await house.clock.settle()
    assert (len(answer.messages), len(house.lines)) == (1, 1)
    assert asyncio.all_tasks() == before


async def test_the_answer_beside_the_app_is_for_other_origins_too() -> None:
    """A browser shows its page no answer without the headers of CORS."""
    cors = {"cors": {"origins": ["https://shop.example"]}}
    app = Stubborn()
    house = harden(
        site(Route("/", app.__call__)), spec_of(security=cors, limits={"request": {"timeout": "2s"}})
    )
    answer = Answer()
    task = await _until_late(house, answer, headers={"origin": "https://shop.example"})
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (504, "https://shop.example")
    app.gate.set()
    await task
    assert (answer.starts, len(house.lines)) == (1, 1)
