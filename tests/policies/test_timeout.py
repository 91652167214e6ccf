"""Time limits of requests, as an app and its client meet them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, cast

import httpx
import pytest
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

import mahavishnu
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

SLOW = limits(request={"timeout": "2s", "idle": "5s"})


async def _for_ever(request: Request) -> Response:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


async def _late(house: House, **more: Any) -> Answer:
    """A request, and the time passing until its limit is over."""
    task = asyncio.create_task(house.call(**more))
    await house.clock.settle()
    house.clock.advance("2s")
    return await task


async def test_a_response_that_does_not_start_in_time_is_504() -> None:
    """The handler is cancelled at the deadline, one answer goes out, and it says why; no timer is left."""
    house = harden(site(Route("/", _for_ever)), SLOW)
    answer = await _late(house)
    assert (answer.status, answer.starts, answer.complete) == (504, 1, True)
    assert answer.json()["violated-policies"] == ["request"]
    assert house.decisions("request") == (0, 1, 0)
    assert house.clock.timers == 0
    assert (house.lines[-1]["status"], house.lines[-1]["refused_by"]) == (504, "request")


async def test_a_nanosecond_before_the_deadline_is_in_time() -> None:
    """The limit is what the spec says, not about that."""
    gate = asyncio.Event()

    async def handler(request: Request) -> Response:
        await gate.wait()
        return PlainTextResponse("ok")

    house = harden(site(Route("/", handler)), SLOW)
    task = asyncio.create_task(house.call())
    await house.clock.settle()
    house.clock.advance(2 * 10**9 - 1)
    gate.set()
    assert (await task).status == 200
    assert house.decisions("request") == (1, 0, 0)


@pytest.mark.parametrize("mode", ["enforce", "observe"])
async def test_a_slow_stream_is_cut_between_its_parts_and_never_answered_twice(mode: str) -> None:
    """Once started there is no 504: the body ends unfinished, so that the server cuts the connection."""

    async def parts() -> AsyncIterator[bytes]:
        yield b"one"
        await house.clock.sleep(4 * 10**9)
        yield b"two"
        await house.clock.sleep(6 * 10**9)
        yield b"three"

    async def handler(request: Request) -> Response:
        return StreamingResponse(parts())

    house = harden(site(Route("/", handler)), limits(request={"timeout": "2s", "idle": "5s", "mode": mode}))
    answer = Answer()
    task = asyncio.create_task(house.app(scope_of(), chunks([b""]), collector(answer)))
    for _ in range(11):
        await house.clock.settle()
        house.clock.advance("1s")
    await task
    assert answer.starts == 1
    assert answer.status == 200
    if mode == "enforce":
        assert (answer.body, answer.complete) == (b"onetwo", False)
        assert house.decisions("request") == (0, 1, 0)
    else:
        assert (answer.body, answer.complete) == (b"onetwothree", True)


async def test_work_after_the_response_has_no_deadline() -> None:
    """A background task runs after the last part; no idle time cuts it."""
    done: list[bool] = []

    async def background() -> None:
        await house.clock.sleep(60 * 10**9)
        done.append(True)

    async def handler(request: Request) -> Response:
        return PlainTextResponse("ok", background=BackgroundTask(background))

    house = harden(site(Route("/", handler)), SLOW)
    task = asyncio.create_task(house.call())
    await house.clock.settle()
    house.clock.advance("60s")
    assert (await task).complete
    assert done == [True]
    assert house.decisions("request") == (1, 0, 0)


async def test_the_apps_own_timeout_error_is_its_own() -> None:
    """It leaves the middleware as it is: a 500, not our 504."""

    async def handler(request: Request) -> Response:
        raise TimeoutError("the database")

    house = harden(site(Route("/", handler)), SLOW)
    answer = Answer()
    with pytest.raises(TimeoutError, match="the database"):
        await house.call(answer=answer)
    assert house.count("request", "refused") == 0
    assert house.lines[-1]["status"] == 500


async def test_an_app_that_holds_on_against_its_cancellation_still_yields_504() -> None:
    """What it sends after the deadline is dropped: the client is told the truth, once."""

    async def stubborn(request: Request) -> Response:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return PlainTextResponse("too late")

    house = harden(site(Route("/", stubborn)), SLOW)
    answer = await _late(house)
    assert (answer.status, answer.starts) == (504, 1)
    assert b"too late" not in answer.body
    assert house.decisions("request") == (0, 1, 0)


@pytest.mark.parametrize("more", [{}, {"idle": "5s"}])
async def test_a_cancellation_that_was_swallowed_is_taken_back(more: dict[str, Any]) -> None:
    """Else a timeout around the middleware would take its own cancellation for somebody else's."""

    async def stubborn(request: Request) -> Response:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return PlainTextResponse("too late")

    house = harden(site(Route("/", stubborn)), limits(request={"timeout": "1s", **more}))
    left: list[int] = []

    async def around() -> None:
        assert await house.status() == 504
        left.append(cast("asyncio.Task[None]", asyncio.current_task()).cancelling())

    task = asyncio.create_task(around())
    await house.clock.settle()
    house.clock.advance("2s")
    await task
    assert left == [0]


@pytest.mark.parametrize("more", [{}, {"idle": "5s"}])
async def test_a_cancellation_that_its_task_has_outlived_is_not_taken_for_one_from_outside(
    more: dict[str, Any],
) -> None:
    """A server's worker that was cancelled before this request, and went on, still gets 504 when it is late."""
    house = harden(site(Route("/", _for_ever)), limits(request={"timeout": "2s", **more}))

    async def outlives() -> Answer:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return await house.call()

    task = asyncio.create_task(outlives())
    await house.clock.settle()
    task.cancel()
    await house.clock.settle()
    house.clock.advance("2s")
    assert ((await task).status, task.cancelling()) == (504, 1)


async def test_an_app_that_turns_its_cancellation_into_a_fault_still_yields_504() -> None:
    """The client gets the refusal; the fault is raised on, for the server's log."""

    async def clumsy(request: Request) -> Response:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            raise RuntimeError("clean-up failed") from error
        raise AssertionError("unreachable")

    house = harden(site(Route("/", clumsy)), SLOW)
    answer = Answer()
    with pytest.raises(RuntimeError, match="clean-up failed"):
        await _late(house, answer=answer)
    assert (answer.status, answer.starts) == (504, 1)


async def test_a_cancellation_from_outside_stays_one() -> None:
    """The server gives the request up: it is cancelled, not refused, and holds nothing."""
    house = harden(site(Route("/", _for_ever)), SLOW)
    task = asyncio.create_task(house.call())
    await house.clock.settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert house.clock.timers == 0
    assert house.app.service.active == 0
    assert house.lines[-1]["status"] == 499
    assert house.count("request", "refused") == 0


@pytest.mark.parametrize("first", ["cancelled", "too late"])
async def test_a_cancellation_from_outside_wins_over_the_deadline(first: str) -> None:
    """Both in the same moment: asyncio's rule is that the outer one is passed on."""
    house = harden(site(Route("/", _for_ever)), SLOW)
    task = asyncio.create_task(house.call())
    await house.clock.settle()
    if first == "too late":
        house.clock.advance("2s")
    task.cancel()
    house.clock.advance("2s")
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_observing_never_ends_a_request_and_counts_it_once() -> None:
    """Late, but served; counted under `observed` and nothing else."""
    gate = asyncio.Event()

    async def handler(request: Request) -> Response:
        await gate.wait()
        return PlainTextResponse("ok")

    house = harden(site(Route("/", handler)), limits(request={"timeout": "2s", "mode": "observe"}))
    task = asyncio.create_task(house.call())
    await house.clock.settle()
    house.clock.advance("3s")
    gate.set()
    assert (await task).status == 200
    assert house.decisions("request") == (0, 0, 1)


async def test_the_handler_knows_its_deadline() -> None:
    """What it calls can give up in time; elsewhere there is none."""

    async def handler(request: Request) -> Response:
        return PlainTextResponse(str(deadline()))

    house = harden(site(Route("/", handler)), SLOW)
    house.clock.advance("7s")
    assert (await house.call()).body == b"9000000000"
    assert deadline() is None


async def test_of_several_time_limits_the_most_specific_holds() -> None:
    """The route's own limit replaces the general one, in both directions."""
    spec = limits(
        request={"timeout": "2s"},
        report={"timeout": "20s", "match": {"path": "/report"}},
        posts={"timeout": "10s", "match": {"path": "/report", "method": "POST"}},
        under={"timeout": "5s", "match": {"path": "/re*"}},
    )
    house = harden(site(Route("/report", _for_ever, methods=["GET", "POST"])), spec)
    engine = house.app.service.engine
    names = [
        plan.timeout.name if plan.timeout else None
        for plan in (
            engine.planner.plan("/report", "GET"),
            engine.planner.plan("/report", "POST"),
            engine.planner.plan("/reports", "GET"),
            engine.planner.plan("/", "GET"),
        )
    ]
    assert names == ["report", "posts", "under", "request"]


async def test_a_message_before_the_response_does_not_lift_the_deadline() -> None:
    """An early hint is no answer."""

    async def hinting(scope: Any, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.early_hint", "links": []})
        await asyncio.Event().wait()

    assert (await _late(harden(hinting, SLOW))).status == 504


async def test_timing_out_in_the_handler_costs_quota() -> None:
    """Who makes the service work until it gives up has used it; otherwise slow requests would be free."""
    spec = limits(request={"timeout": "2s"}, calls={"rate": "2/hour"})
    house = harden(site(Route("/", _for_ever)), spec)
    assert [(await _late(house)).status for _ in range(2)] == [504, 504]
    assert await house.status() == 429


async def test_idle_time_restarts_with_every_part() -> None:
    """A stream that keeps talking lives for hours."""

    async def talking(scope: Any, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(1000):
            await house.clock.sleep(4_999_999_999)
            await send({"type": "http.response.body", "body": b".", "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    house = harden(talking, SLOW)
    task = asyncio.create_task(house.call())
    for _ in range(1000):
        await house.clock.settle(4)
        house.clock.advance(4_999_999_999)
    answer = await task
    assert (len(answer.body), answer.complete) == (1000, True)


async def test_who_does_not_take_the_end_of_a_stream_is_cut_as_well() -> None:
    """The last send waits until what was sent before is taken: a client that never reads would keep his place."""

    async def large(scope: Any, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"much", "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def never_read(message: Message) -> None:
        if message["type"] == "http.response.body" and not message.get("more_body"):
            await asyncio.Event().wait()

    house = harden(large, limits(request={"timeout": "2s", "idle": "5s"}, slots={"concurrency": 1}))
    task = asyncio.create_task(house.app(scope_of(), chunks([]), never_read))
    await house.clock.settle()
    house.clock.advance("4999ms")
    await house.clock.settle()
    assert house.gauge("in_flight", "slots") == 1
    house.clock.advance("1ms")
    await task
    assert house.gauge("in_flight", "slots") == 0
    assert house.decisions("request") == (1, 0, 0)


# --- clients that do not read -------------------------------------------------------------------------

START: Message = {"type": "http.response.start", "status": 200, "headers": []}
PART: Message = {"type": "http.response.body", "body": b"much", "more_body": True}
LAST: Message = {"type": "http.response.body", "body": b"much"}


class Reader:
    """A client that takes the first so many messages, and each further one only when it is told to."""

    def __init__(self, takes: int = 0) -> None:
        self.takes = takes
        self.messages: list[Message] = []
        self.more = asyncio.Event()

    async def __call__(self, message: Message) -> None:
        self.messages.append(message)
        if len(self.messages) > self.takes:
            await self.more.wait()


async def download(house: House, reader: Reader) -> asyncio.Task[None]:
    """A request on its way, as far as it comes by itself."""
    task = asyncio.create_task(house.app(scope_of(), chunks([]), reader))
    await house.clock.settle()
    return task


def sends(*messages: Message) -> Any:
    """An app that sends these one after the other."""

    async def app(_: Any, __: Receive, send: Send) -> None:
        for one in messages:
            await send(one)

    return app


CORS: dict[str, Any] = {"security": {"cors": {"origins": ["https://shop.example"]}}}


@pytest.mark.parametrize("takes", [0, 1, 2, 3])
@pytest.mark.parametrize("more", [{}, CORS])
async def test_a_client_that_does_not_take_a_response_is_cut_and_nobody_is_blamed(
    takes: int, more: dict[str, Any]
) -> None:
    """At whichever message, and an alert that sends people to look for a slow app stays silent; the log says why."""
    timed = {"timeout": "2s", "idle": "5s", "inherit": "grpc-timeout"}
    house = harden(sends(START, PART, PART, LAST), spec_of(limits={"request": timed}, **more))
    reader = Reader(takes)
    task = await download(house, reader)
    house.clock.advance(5 * 10**9 - 1)
    await house.clock.settle()
    assert not task.done()
    house.clock.advance(1)
    await task
    assert (len(reader.messages), house.clock.timers) == (takes + 1, 0)
    (line,) = house.lines
    assert (line["status"], line["level"]) == (200, "info")
    assert (line["refused_by"], line["error"]) == ("request", "untaken")
    assert house.decisions("request") == (1, 0, 0)
    shown = [name for name in house.samples() if "duration_seconds_count" in name]
    assert len(shown) == 1
    assert "http_response_status_code=200" in shown[0]


@pytest.mark.parametrize("pause", [4, 5])
async def test_the_time_that_a_client_takes_is_none_of_its_app(pause: int) -> None:
    """Each has the idle time for itself: only an app that pauses for so long is to blame."""

    async def app(_: Any, __: Receive, send: Send) -> None:
        await send(START)
        await send(PART)
        await house.clock.sleep(pause * 10**9)
        await send(LAST)

    house, reader = harden(app, SLOW), Reader(1)
    task = await download(house, reader)
    house.clock.advance("4s")
    reader.more.set()
    await house.clock.settle()
    for _ in range(pause):
        house.clock.advance("1s")
        await house.clock.settle()
    await task
    assert house.decisions("request") == ((1, 0, 0) if pause == 4 else (0, 1, 0))
    assert "error" not in house.lines[-1]


async def test_an_app_that_is_cut_while_it_sends_has_all_the_time_to_clean_up() -> None:
    """It is cancelled once."""
    cleaned: list[bool] = []

    async def app(_: Any, __: Receive, send: Send) -> None:
        try:
            await sends(START, PART)(_, __, send)
        finally:
            await house.clock.sleep(9 * 10**9)
            cleaned.append(True)

    house = harden(app, SLOW)
    task = await download(house, Reader(1))
    for _ in range(14):
        house.clock.advance("1s")
        await house.clock.settle()
    await task
    assert (cleaned, house.decisions("request")) == ([True], (1, 0, 0))


async def test_an_app_that_fails_when_it_is_cut_has_failed() -> None:
    """As one that is cut for its own slowness: the log has its error."""

    async def app(_: Any, __: Receive, send: Send) -> None:
        try:
            await sends(START, PART)(_, __, send)
        except asyncio.CancelledError:
            raise ValueError from None

    house = harden(app, SLOW)
    task = await download(house, Reader(1))
    house.clock.advance("5s")
    with pytest.raises(ValueError, match=r"^$"):
        await task
    (line,) = house.lines
    assert (line["level"], line["error"], line["refused_by"]) == ("error", "ValueError", "request")


async def test_a_websocket_has_no_deadline_and_releases_its_place() -> None:
    """Its place in a concurrency limit is held as long as it lives, and free afterwards."""
    opened = asyncio.Event()

    async def socket(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        opened.set()
        await asyncio.Event().wait()

    spec = limits(request={"timeout": "2s"}, sockets={"concurrency": 1})
    house = harden(socket, spec)
    messages: list[Message] = [{"type": "websocket.connect"}]

    async def receive() -> Message:
        return messages.pop(0)

    scope = {**scope_of(), "type": "websocket"}
    del scope["method"]
    task = asyncio.create_task(house.app(scope, receive, collector(Answer())))
    await opened.wait()
    house.clock.advance("60s")
    await house.clock.settle()
    assert house.gauge("in_flight", "sockets") == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert house.gauge("in_flight", "sockets") == 0


# --- time that callers give ---------------------------------------------------------------------------

GIVEN = limits(request={"timeout": "5s", "idle": "3s", "inherit": ["grpc-timeout", "x-request-timeout-ms"]})


async def _tells_deadline(request: Request) -> Response:
    return PlainTextResponse(str(deadline()))


@pytest.mark.parametrize(
    ("headers", "left"),
    [
        ({}, 5000),
        ({"grpc-timeout": "2S"}, 2000),
        ({"x-request-timeout-ms": "2500"}, 2500),
        ({"grpc-timeout": "4S", "x-request-timeout-ms": "300"}, 300),
        ({"grpc-timeout": "5S"}, 5000),
        ({"grpc-timeout": "1H"}, 5000),
        ({"grpc-timeout": "99999999H"}, 5000),
        ({"grpc-timeout": "0S"}, 5000),
        ({"grpc-timeout": "-1S"}, 5000),
        ({"grpc-timeout": "soon"}, 5000),
        ({"request-timeout": "1"}, 5000),
    ],
)
async def test_a_caller_can_only_shorten_the_time(headers: dict[str, str], left: int) -> None:
    """By a header that the spec names and that can be understood."""
    house = harden(site(Route("/", _tells_deadline)), GIVEN)
    house.clock.advance("7s")
    answer = await house.call(headers=headers)
    assert int(answer.body) == 7 * 10**9 + left * 10**6
    assert house.decisions("request") == (1, 0, 0)
    assert house.clock.timers == 0


async def test_past_its_callers_time_a_request_is_ended_and_nobody_is_blamed() -> None:
    """504 in case he still listens; but what clients ask for themselves burns no error budget and pages nobody."""
    spec = limits(
        request={"timeout": "5s", "inherit": "grpc-timeout"},
        calls={"rate": "2/hour"},
        all={"concurrency": 9},
    )
    house = harden(site(Route("/", _for_ever)), spec)
    answer = await _late(house, headers={"grpc-timeout": "1999m"})
    assert (answer.status, answer.starts, answer.complete) == (504, 1, True)
    assert "came with the request" in answer.json()["detail"]
    assert house.decisions("request") == (1, 0, 0)
    assert (house.lines[-1]["status"], house.lines[-1]["refused_by"]) == (499, "request")
    shown = [name for name in house.samples() if "duration_seconds_count" in name]
    assert len(shown) == 1
    assert "http_response_status_code=499" in shown[0]
    assert (house.clock.timers, house.gauge("in_flight", "all")) == (0, 0)


async def test_ones_own_time_is_not_excused_by_the_callers() -> None:
    """Where the limit itself comes first, it has been exceeded."""
    house = harden(site(Route("/", _for_ever)), limits(request={"timeout": "2s", "inherit": "grpc-timeout"}))
    assert (await _late(house, headers={"grpc-timeout": "3S"})).status == 504
    assert house.decisions("request") == (0, 1, 0)
    assert house.lines[-1]["status"] == 504


async def test_a_response_that_has_begun_is_not_ended_by_its_callers_time() -> None:
    """A stream then has its idle time, and that is the limit's own."""

    async def parts() -> AsyncIterator[bytes]:
        yield b"one"
        await house.clock.sleep(2 * 10**9)
        yield b"two"
        await house.clock.sleep(9 * 10**9)

    async def handler(request: Request) -> Response:
        return StreamingResponse(parts())

    house = harden(site(Route("/", handler)), GIVEN)
    answer = Answer()
    scope = scope_of(headers={"grpc-timeout": "1S"})
    task = asyncio.create_task(house.app(scope, chunks([b""]), collector(answer)))
    for _ in range(12):
        await house.clock.settle()
        house.clock.advance("1s")
    await task
    assert (answer.status, answer.body, answer.complete) == (200, b"onetwo", False)
    assert house.decisions("request") == (0, 1, 0)


async def test_observing_ends_nothing_for_a_caller_either() -> None:
    """Such a limit only counts what it would refuse."""
    spec = limits(request={"timeout": "5s", "inherit": "grpc-timeout", "mode": "observe"})
    house = harden(site(Route("/", _tells_deadline)), spec)
    answer = await house.call(headers={"grpc-timeout": "1n"})
    assert (answer.status, answer.body) == (200, b"None")


async def test_time_goes_from_the_caller_through_to_the_dependency() -> None:
    """In by one header, out by another, less what has passed and a margin."""
    told: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        told.append(request.headers.get("x-request-timeout-ms"))
        return httpx.Response(200)

    async def handler(request: Request) -> Response:
        await house.clock.sleep(10**9)
        client = mahavishnu.dependency("stock").httpx_async_client(transport=httpx.MockTransport(answer))
        async with client:
            await client.get("http://stock/")
        return PlainTextResponse("ok")

    spec = spec_of(
        limits={"request": {"timeout": "5s", "inherit": "grpc-timeout"}},
        dependencies={"stock": {"timeout": "4s", "propagate": "x-request-timeout-ms"}},
    )
    house = harden(site(Route("/", handler)), spec)
    task = asyncio.create_task(house.call(headers={"grpc-timeout": "3S"}))
    await house.clock.settle()
    house.clock.advance("1s")
    assert (await task).status == 200
    assert told == ["1990"]
