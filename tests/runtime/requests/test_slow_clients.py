"""What a client's slowness, or its end, does to the figures of a service: nothing that would wake somebody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.runtime.asgi_client import (
    Answer,
    House,
    Message,
    Receive,
    collector,
    harden,
    limits,
    scope_of,
    site,
    spec_of,
)

KINDS: list[dict[str, Any]] = [{}, {"idle": "5s"}, {"inherit": "grpc-timeout"}]


async def echo(request: Request) -> Response:
    """As a webhook, which needs the whole body to check its signature."""
    return PlainTextResponse(str(len(await request.body())))


async def busy(request: Request) -> Response:
    """It has the body, and takes its time all the same."""
    await request.body()
    await asyncio.Event().wait()
    raise AssertionError


async def passed_on(request: Request, call_next: RequestResponseEndpoint) -> Response:
    """A middleware as FastAPI's `@app.middleware("http")` makes it."""
    return await call_next(request)


def parts(*messages: Message) -> Receive:
    """A client that sends these, and then nothing."""
    waiting = [*messages]

    async def receive() -> Message:
        if not waiting:
            await asyncio.Event().wait()
        return waiting.pop(0)

    return receive


PART: Message = {"type": "http.request", "body": b"abc", "more_body": True}
LAST: Message = {"type": "http.request", "body": b"abc", "more_body": False}
GONE: Message = {"type": "http.disconnect"}


def counted(house: House) -> dict[str, float]:
    """Requests by their status."""
    found = {name: value for name, value in house.samples().items() if "duration_seconds_count" in name}
    return {name.partition("status_code=")[2][:3]: value for name, value in found.items() if value}


async def late(house: House, receive: Receive, **more: Any) -> Answer:
    """The answer to a request whose time is up."""
    answer = Answer()
    task = asyncio.create_task(house.app(scope_of(**more), receive, collector(answer)))
    await house.clock.settle()
    house.clock.advance("2s")
    await task
    return answer


@pytest.mark.parametrize("more", KINDS)
@pytest.mark.parametrize("size", [{}, {"size": {"body": "1kB", "min_rate": "1B/s"}}])
@pytest.mark.parametrize("middleware", [[], [Middleware(BaseHTTPMiddleware, dispatch=passed_on)]])
async def test_a_body_that_is_not_here_when_the_time_is_up_is_its_clients_fault(
    more: dict[str, Any], size: dict[str, Any], middleware: list[Middleware]
) -> None:
    """408, in no error, and the limit of the service is kept."""
    spec = limits(request={"timeout": "2s", **more}, **size)
    house = harden(site(Route("/", echo, methods=["POST"]), middleware=middleware), spec)
    answer = await late(house, parts(PART), method="POST")
    assert (answer.status, answer.complete) == (408, True)
    assert "body was not here" in answer.json()["detail"]
    (line,) = house.lines
    assert (line["status"], line["level"], line["refused_by"]) == (408, "info", "request")
    assert (house.decisions("request"), counted(house)) == ((1, 0, 0), {"408": 1})


SIZE: dict[str, Any] = {"limits": {"request": {"timeout": "2s"}, "size": {"body": "1kB"}}}


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "DELETE"])
@pytest.mark.parametrize(
    "spec",
    [
        *[limits(request={"timeout": "2s", **more}) for more in KINDS],
        spec_of(**SIZE),
        spec_of(**SIZE, security={"cors": {"origins": ["https://shop.example"]}}),
    ],
    ids=["plain", "idle", "inherit", "size", "below CORS"],
)
async def test_a_body_may_come_with_any_method(method: str, spec: Any) -> None:
    """As with a GET whose app, or a middleware for audits, reads it: whoever does not send it is late by himself."""
    house = harden(site(Route("/", echo, methods=[method])), spec)
    assert (await late(house, parts(PART), method=method)).status == 408
    assert (house.decisions("request"), counted(house)) == ((1, 0, 0), {"408": 1})
    busy_house = harden(site(Route("/", busy, methods=[method])), spec)
    assert (await late(busy_house, parts(PART, LAST), method=method)).status == 504
    assert busy_house.decisions("request") == (0, 1, 0)


@pytest.mark.parametrize("more", [{}, {"request": {"timeout": "2s"}}])
async def test_a_task_that_a_request_has_left_behind_gets_no_body_that_is_too_large(more: Any) -> None:
    """Though it asks for the first time then: the limit of its request is over, and so is the request."""
    over, left = asyncio.Event(), list[asyncio.Task[Message]]()

    async def app(_: Any, receive: Receive, send: Any) -> None:
        async def reads() -> Message:
            await over.wait()
            return await receive()

        left.append(asyncio.create_task(reads()))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    house = harden(app, limits(size={"body": "2B"}, **more))
    await house.app(scope_of(), parts(LAST), collector(Answer()))
    over.set()
    assert await asyncio.wait_for(left[0], 5) == GONE


@pytest.mark.parametrize("middleware", [[], [Middleware(BaseHTTPMiddleware, dispatch=passed_on)]])
@pytest.mark.parametrize("size", [{"body": "2B"}, {"body": "1kB", "min_rate": "1kB/s"}])
async def test_a_body_that_is_refused_while_it_is_read_is_no_fault_of_the_app(
    size: dict[str, Any], middleware: list[Middleware]
) -> None:
    """Starlette wraps the error that ends the reading in a group, where a middleware of its kind is between."""
    house = harden(site(Route("/", echo, methods=["POST"]), middleware=middleware), limits(size=size))
    answer = Answer()
    receive = parts(PART, LAST if "min_rate" not in size else PART)
    task = asyncio.create_task(house.app(scope_of("POST"), receive, collector(answer)))
    await house.clock.settle()
    house.clock.advance("1m")
    await house.clock.settle()
    await task
    assert (answer.status, answer.complete) == (408 if "min_rate" in size else 413, True)
    (line,) = house.lines
    assert (line["level"], line["refused_by"], "error" in line) == ("info", "size", False)


@pytest.mark.parametrize("endpoint", [busy, echo])
async def test_who_has_sent_all_has_nothing_to_do_with_it(endpoint: Any) -> None:
    """Nor does an app get away with asking for no body at all."""
    house = harden(site(Route("/", endpoint, methods=["POST"])), limits(request={"timeout": "2s"}))
    if endpoint is echo:
        assert await house.status("POST", body=[b"abc", b"def"]) == 200
        assert house.decisions("request") == (1, 0, 0)
        return
    assert (await late(house, parts(PART, LAST), method="POST")).status == 504
    assert house.decisions("request") == (0, 1, 0)


async def test_an_app_that_does_not_read_is_late_by_itself() -> None:
    """Whatever its client sends meanwhile."""

    async def idle(_: Request) -> Response:
        await asyncio.Event().wait()
        raise AssertionError

    house = harden(site(Route("/", idle, methods=["POST"])), limits(request={"timeout": "2s"}))
    assert (await late(house, parts(PART), method="POST")).status == 504


@pytest.mark.parametrize("middleware", [[], [Middleware(BaseHTTPMiddleware, dispatch=passed_on)]])
async def test_a_client_that_hangs_up_in_its_body_is_no_error(middleware: list[Middleware]) -> None:
    """499, as of one who hangs up later: Starlette tells its app of it by an error, and answers that with 500."""
    house = harden(site(Route("/", echo, methods=["POST"]), middleware=middleware), limits())
    with pytest.raises(ClientDisconnect):
        await house.app(scope_of("POST"), parts(PART, GONE), collector(Answer()))
    (line,) = house.lines
    assert (line["status"], line["level"], line["error"]) == (499, "info", "ClientDisconnect")
    assert counted(house) == {"499": 1}


async def test_an_apps_own_error_is_one_also_when_its_client_has_gone() -> None:
    """It would have been one anyway."""

    async def fails(request: Request) -> Response:
        try:
            return await echo(request)
        except ClientDisconnect:
            raise ValueError from None

    house = harden(site(Route("/", fails, methods=["POST"])), limits())
    with pytest.raises(ValueError, match=r"^$"):
        await house.app(scope_of("POST"), parts(PART, GONE), collector(Answer()))
    assert [(one["status"], one["level"]) for one in house.lines] == [(500, "error")]


def streaming(fault: Exception) -> Any:
    """An endpoint whose stream ends so."""

    async def made() -> AsyncIterator[bytes]:
        yield b"half"
        raise fault

    async def endpoint(_: Request) -> Response:
        return StreamingResponse(made())

    return endpoint


async def test_a_stream_that_its_app_breaks_off_is_an_error() -> None:
    """Its client has half an answer: the line says which status was sent, the series count a failure."""
    spec = spec_of(observability={"logs": {"level": "error"}})
    house = harden(site(Route("/", streaming(ValueError()))), spec)
    with pytest.raises(ValueError, match=r"^$"):
        await house.call()
    (line,) = house.lines
    assert (line["status"], line["level"], line["error"]) == (200, "error", "ValueError")
    assert counted(house) == {"500": 1}


async def test_a_stream_whose_client_has_gone_is_none() -> None:
    """Whatever the app is told of it by."""
    house = harden(site(Route("/", streaming(ClientDisconnect()))), limits())
    with pytest.raises(ClientDisconnect):
        await house.call()
    assert [(one["status"], one["level"]) for one in house.lines] == [(200, "info")]
    assert counted(house) == {"200": 1}


async def test_what_fails_behind_a_whole_answer_is_an_error_of_the_log_alone() -> None:
    """Its client has all it came for."""

    def fails() -> None:
        raise ValueError

    async def endpoint(_: Request) -> Response:
        return PlainTextResponse("all", background=BackgroundTask(fails))

    house = harden(site(Route("/", endpoint)), limits())
    with pytest.raises(ValueError, match=r"^$"):
        await house.call()
    assert [(one["status"], one["level"], one["error"]) for one in house.lines] == [
        (200, "error", "ValueError")
    ]
    assert counted(house) == {"200": 1}


# --- the queue ----------------------------------------------------------------------------------------


class Client:
    """Sends a whole body, or half of one, and hangs up when it is told to; one like hypercorn's hands out a queue."""

    def __init__(self, first: Message = LAST) -> None:
        self.said = asyncio.Queue[Message]()
        self.said.put_nowait(first)
        self.answer = Answer()

    def ask(self, house: House) -> asyncio.Task[None]:
        return asyncio.create_task(house.app(scope_of("POST"), self.said.get, collector(self.answer)))

    def hang_up(self) -> None:
        self.said.put_nowait(GONE)


class Counter:
    """An app that works for as long as it is told to, and counts for whom."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.gate = asyncio.Event()

    async def __call__(self, request: Request) -> Response:
        self.bodies.append(await request.body())
        await self.gate.wait()
        return PlainTextResponse("done")


SLOTS: dict[str, Any] = {"slots": {"concurrency": 1, "queue": 2, "wait": "9s"}}


@pytest.mark.parametrize(
    "spec",
    [
        limits(**SLOTS),
        limits(**SLOTS, request={"timeout": "9s"}, size={"body": "1kB", "within": "9s"}),
        spec_of(limits=SLOTS, security={"cors": {"origins": ["https://shop.example"]}}),
    ],
    ids=["alone", "with all", "below CORS"],
)
async def test_who_hangs_up_in_the_queue_leaves_it(spec: Any) -> None:
    """Nobody works for him, who waits behind him moves up, and what he was charged is his again."""
    app = Counter()
    house = harden(site(Route("/", app.__call__, methods=["POST"])), spec)
    clients = [Client() for _ in range(4)]
    tasks = [one.ask(house) for one in clients[:3]]
    await house.clock.settle()
    for one in clients[1:3]:
        one.hang_up()
    await asyncio.gather(*tasks[1:])
    assert [(one["status"], one["level"]) for one in house.lines] == [(499, "info")] * 2
    last = clients[3].ask(house)
    await house.clock.settle()
    app.gate.set()
    await asyncio.gather(tasks[0], last)
    assert [one.answer.status for one in clients] == [200, 0, 0, 200]
    assert app.bodies == [b"abc"] * 2
    assert house.gauge("in_flight", "slots") == 0


async def test_who_waits_gets_all_that_has_come_meanwhile() -> None:
    """Also a body of many parts, of which one is read ahead."""
    app = Counter()
    app.gate.set()
    house = harden(site(Route("/", app.__call__, methods=["POST"])), limits(**SLOTS))
    holder = Client(PART)
    first = holder.ask(house)
    await house.clock.settle()
    many = Client(PART)
    for part in (PART, PART, LAST):
        many.said.put_nowait(part)
    second = many.ask(house)
    await house.clock.settle()
    assert many.said.qsize() == 3
    holder.said.put_nowait(LAST)
    await asyncio.gather(first, second)
    assert app.bodies == [b"abc" * 2, b"abc" * 4]


async def test_who_is_cancelled_in_the_queue_is_cancelled() -> None:
    """By his server, also when he hangs up in the same turn; his place in the queue is free."""
    app = Counter()
    house = harden(site(Route("/", app.__call__, methods=["POST"])), limits(**SLOTS))
    clients = [Client() for _ in range(2)]
    first, second = [one.ask(house) for one in clients]
    await house.clock.settle()
    clients[1].hang_up()
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    app.gate.set()
    await first
    assert house.gauge("in_flight", "slots") == 0


async def test_a_place_that_is_given_to_who_has_just_gone_goes_on_to_the_next() -> None:
    """In one turn of the event loop."""
    app = Counter()
    house = harden(site(Route("/", app.__call__, methods=["POST"])), limits(**SLOTS))
    clients = [Client() for _ in range(3)]
    tasks = [one.ask(house) for one in clients]
    await house.clock.settle()
    clients[1].hang_up()
    app.gate.set()
    await asyncio.gather(*tasks)
    assert clients[2].answer.status == 200
    assert house.gauge("in_flight", "slots") == 0


async def test_a_body_that_is_too_large_does_not_wait_for_a_place() -> None:
    """It is refused when it is seen."""
    app = Counter()
    spec = limits(**SLOTS, size={"body": "5B"})
    house = harden(site(Route("/", app.__call__, methods=["POST"])), spec)
    holder, large = Client(), Client({"type": "http.request", "body": b"abcdefg", "more_body": False})
    tasks = [one.ask(house) for one in (holder, large)]
    await tasks[1]
    assert large.answer.status == 413
    app.gate.set()
    await tasks[0]
    assert house.gauge("in_flight", "slots") == 0
