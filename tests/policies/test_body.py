"""The size of request bodies, as an app and its client meet it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from tests.runtime.asgi_client import (
    Answer,
    House,
    Message,
    call,
    chunks,
    collector,
    harden,
    limits,
    scope_of,
    site,
)

LIMIT = 1000
SMALL = limits(uploads={"body": "1000B"})
OBSERVED = limits(uploads={"body": "1000B", "mode": "observe"})


async def size(request: Request) -> Response:
    """A handler that reads the whole body."""
    return PlainTextResponse(str(len(await request.body())))


def upload(handler: Any = size, spec: Any = SMALL) -> House:
    """An app with one route that takes bodies."""
    return harden(site(Route("/", handler, methods=["POST"])), spec)


@pytest.mark.parametrize("parts", [[b"x" * LIMIT], [b"x"] * LIMIT, [b"", b"x" * LIMIT, b""], []])
async def test_a_body_of_just_the_limit_is_read_whole(parts: list[bytes]) -> None:
    """In whatever parts it comes."""
    house = upload()
    answer = await house.call("POST", body=parts)
    assert (answer.status, int(answer.body)) == (200, sum(map(len, parts)))
    assert house.decisions("uploads") == (1, 0, 0)


@pytest.mark.parametrize("length", ["1001", "00001001", "9" * 5000])
async def test_a_body_announced_too_large_is_refused_unread(length: str) -> None:
    """Not one byte before the answer, and the handler is not called; a length of 5,000 digits is just a large one."""
    house = upload()
    answer = Answer()

    async def receive() -> Message:
        assert (answer.status, answer.json()["violated-policies"]) == (413, ["uploads"])
        return {"type": "http.disconnect"}

    scope = scope_of("POST", headers={"content-length": length})
    await house.app(scope, receive, collector(answer))
    assert (answer.status, answer.starts) == (413, 1)
    assert house.decisions("uploads") == (0, 1, 0)
    assert (house.lines[-1]["status"], house.lines[-1]["refused_by"]) == (413, "uploads")


@pytest.mark.parametrize(
    "headers", [{}, {"content-length": "10"}, {"content-length": "-5"}, {"content-length": "x"}]
)
async def test_a_body_that_is_larger_than_it_says_is_refused_while_read(headers: dict[str, str]) -> None:
    """Chunked, or lying: at most the limit and the part that went beyond it are read before the answer."""
    read = 0

    async def receive() -> Message:
        nonlocal read
        read += 0 if answer.status else 400
        return {"type": "http.request", "body": b"x" * 400, "more_body": not answer.status}

    house = upload()
    answer = Answer()
    await house.app(scope_of("POST", headers=headers), receive, collector(answer))
    assert (answer.status, answer.starts) == (413, 1)
    assert read == 1200
    assert house.decisions("uploads") == (0, 1, 0)


async def _catches(request: Request) -> Response:
    try:
        await request.body()
    except Exception:  # noqa: BLE001  as careless apps do
        return JSONResponse({"error": "bad request"}, 400)
    return PlainTextResponse("fine")


async def _wraps(request: Request) -> Response:
    try:
        await request.body()
    except Exception as error:
        raise RuntimeError("unreadable") from error
    return PlainTextResponse("fine")


async def test_an_app_that_catches_everything_still_yields_413() -> None:
    """Its own 400 is dropped: the client learns why."""
    house = upload(_catches)
    answer = await house.call("POST", body=[b"x" * 600] * 2)
    assert (answer.status, answer.starts) == (413, 1)
    assert b"bad request" not in answer.body


async def test_an_app_that_wraps_the_exception_still_yields_413() -> None:
    """The refusal goes out, then the app's own fault is raised on."""
    house = upload(_wraps)
    answer = Answer()
    with pytest.raises(RuntimeError, match="unreadable"):
        await house.call("POST", body=[b"x" * 600] * 2, answer=answer)
    assert (answer.status, answer.starts) == (413, 1)


async def test_fastapi_yields_413_where_it_would_say_400() -> None:
    """FastAPI answers 400 to whatever goes wrong while it parses a body."""
    app = FastAPI()

    @app.post("/")
    async def create(order: dict[str, Any]) -> dict[str, Any]:  # pyright: ignore[reportUnusedFunction]
        return order

    house = harden(app, SMALL)
    assert await house.status("POST", headers={"content-type": "application/json"}, body=[b'{"a": 1}']) == 200
    large = [b'{"a": "', b"x" * 2000, b'"}']
    assert await house.status("POST", headers={"content-type": "application/json"}, body=large) == 413


async def test_an_app_that_asks_again_gets_no_more_of_it() -> None:
    """Catching the exception once does not open the gate."""
    got: list[int] = []

    async def greedy(scope: Any, receive: Any, send: Any) -> None:
        for _ in range(100):
            try:
                got.append(len((await receive()).get("body", b"")))
            except Exception:  # noqa: BLE001
                got.append(0)

    answer = await harden(greedy, SMALL).call("POST", body=[b"x" * 300] * 100)
    assert answer.status == 413
    assert sum(got) <= LIMIT


async def test_a_body_that_nobody_reads_is_no_matter() -> None:
    """The app answers without reading: nothing is counted against it."""

    async def answers(request: Request) -> Response:
        return PlainTextResponse("no need")

    house = upload(answers)
    assert await house.status("POST", body=[b"x" * 5000]) == 200
    assert house.decisions("uploads") == (1, 0, 0)


async def test_an_app_that_reads_on_after_it_has_answered_is_cut() -> None:
    """No second answer: the one that has begun stays unfinished."""

    async def echo(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while (message := await receive())["type"] == "http.request":
            await send({"type": "http.response.body", "body": message["body"], "more_body": True})

    answer = await harden(echo, SMALL).call("POST", body=[b"x" * 400] * 10)
    assert (answer.starts, answer.status, len(answer.body), answer.complete) == (1, 200, 800, False)


@pytest.mark.parametrize("headers", [{}, {"content-length": "5000"}])
async def test_observing_lets_it_through_and_counts_it_once(headers: dict[str, str]) -> None:
    """Counted under `observed` and nothing else, announced or not."""
    house = upload(spec=OBSERVED)
    answer = await house.call("POST", headers=headers, body=[b"x" * 2500] * 2)
    assert (answer.status, answer.body) == (200, b"5000")
    assert house.decisions("uploads") == (0, 0, 1)


async def test_observing_counts_what_enforcing_would_refuse_unread() -> None:
    """Announced too large and never read: refused when enforced, so observed when not."""

    async def answers(request: Request) -> Response:
        return PlainTextResponse("no need")

    house = upload(answers, OBSERVED)
    assert await house.status("POST", headers={"content-length": "5000"}) == 200
    assert house.decisions("uploads") == (0, 0, 1)


async def test_a_client_that_hangs_up_is_not_too_large() -> None:
    """A disconnect in the middle is the app's to see."""
    messages: list[Message] = [
        {"type": "http.request", "body": b"x" * 900, "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        return messages.pop(0)

    house = upload()
    with pytest.raises(ClientDisconnect):
        await house.app(scope_of("POST"), receive, collector(Answer()))
    assert house.count("uploads", "refused") == 0


@pytest.mark.parametrize(
    ("headers", "expected"),
    [({"content-length": "5000"}, [413, 413, 413, 200, 200, 429]), ({}, [413, 413, 429, 429, 429, 429])],
)
async def test_too_large_costs_quota_once_the_handler_has_run(
    headers: dict[str, str], expected: list[int]
) -> None:
    """Announced, it is refused unread and costs nothing; found while reading, the handler has run for it."""
    spec = limits(uploads={"body": "1000B"}, calls={"rate": "2/hour"})
    house = upload(spec=spec)
    large = [await house.status("POST", headers=headers, body=[b"x" * 5000]) for _ in range(3)]
    assert large + [await house.status("POST") for _ in range(3)] == expected


@pytest.mark.parametrize("length", ["10", "1001"])
async def test_a_refusal_that_reaches_nobody_is_counted_once(length: str) -> None:
    """Announced or found while it is read: the client has gone, and the server says so."""

    async def gone(_: Message) -> None:
        raise OSError("gone")

    house = upload()
    with contextlib.suppress(OSError):
        scope = scope_of("POST", headers={"content-length": length})
        await house.app(scope, chunks([b"x" * 1001]), gone)
    refusals = house.app.service.refusals
    assert house.decisions("uploads") == (0, 1, 0)
    assert refusals.top("uploads", 9)[0] == 1


async def test_the_first_refusal_is_the_answer() -> None:
    """Past its time an app reads on, and finds too much: it was the time that has ended it; no body counts as kept."""

    async def stubborn(request: Request) -> Response:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return await size(request)

    spec = limits(uploads={"body": "1000B"}, request={"timeout": "2s"})
    for body, decisions in ((b"x" * 1001, (0, 1, 0)), (b"x", (0, 0, 0))):
        house = upload(stubborn, spec)
        task = asyncio.create_task(house.call("POST", body=[body]))
        await house.clock.settle()
        house.clock.advance("2s")
        answer = await task
        assert (answer.status, answer.json()["violated-policies"]) == (504, ["request"])
        assert house.decisions("uploads") == decisions


async def test_of_several_body_limits_the_most_specific_holds() -> None:
    """A route for files may take more than the rest of the app."""
    spec = limits(all={"body": "1000B"}, files={"body": "9000B", "match": {"path": "/files"}})
    app = site(Route("/", size, methods=["POST"]), Route("/files", size, methods=["POST"]))
    house = harden(app, spec)
    body = [b"x" * 5000]
    assert (await call(house.app, "POST", "/", body=body)).status == 413
    assert (await call(house.app, "POST", "/files", body=body)).status == 200


# --- bodies that drip -------------------------------------------------------------------------------

PACED = limits(uploads={"body": "1000B", "within": "3s"}, calls={"rate": "2/hour"})


async def dripping(house: House, parts: int) -> Answer:
    """A request whose body comes in so many parts, a byte each second."""

    async def receive() -> Message:
        nonlocal parts
        parts -= 1
        if parts < 0:
            await asyncio.Event().wait()
        await house.clock.sleep(10**9)
        return {"type": "http.request", "body": b"x", "more_body": parts > 0}

    got = Answer()
    task = asyncio.create_task(house.app(scope_of("POST"), receive, collector(got)))
    for _ in range(12):
        await house.clock.settle()
        house.clock.advance("1s")
    await task
    return got


@pytest.mark.parametrize("handler", [size, None])
async def test_a_body_that_drips_is_408(handler: Any) -> None:
    """One answer that says why, and that the connection ends: what is left of the body is not read."""
    house = upload(spec=PACED) if handler else harden(_forms(), PACED)
    answer = await dripping(house, 8)
    assert (answer.status, answer.starts, answer.complete) == (408, 1, True)
    assert answer.headers["connection"] == "close"
    assert answer.json()["violated-policies"] == ["uploads"]
    assert "longer than 3s" in answer.json()["detail"]
    assert house.decisions("uploads") == (0, 1, 0)
    assert (house.lines[-1]["status"], house.lines[-1]["refused_by"]) == (408, "uploads")
    assert house.clock.timers == 0


def _forms() -> FastAPI:
    """An app whose framework turns faults while reading into answers of its own."""
    app = FastAPI()

    @app.post("/")
    def take(item: dict[str, str]) -> dict[str, str]:  # pyright: ignore[reportUnusedFunction]
        return item

    return app


async def test_a_body_in_time_is_counted_once_as_allowed() -> None:
    """Just within its time."""
    house = upload(spec=limits(uploads={"body": "1000B", "within": "4s", "min_rate": "1B/s"}))
    answer = await dripping(house, 3)
    assert (answer.status, answer.body) == (200, b"3")
    assert house.decisions("uploads") == (1, 0, 0)


async def test_a_body_below_its_rate_is_408() -> None:
    """Beyond the grace of five seconds."""
    house = upload(spec=limits(uploads={"body": "1000B", "min_rate": "2B/s"}))
    assert (await dripping(house, 11)).status == 408


async def test_observing_reads_a_dripping_body_to_its_end() -> None:
    """Counted once, under `observed` alone."""
    house = upload(spec=limits(uploads={"body": "4B", "within": "3s", "mode": "observe"}))
    answer = await dripping(house, 8)
    assert (answer.status, answer.body) == (200, b"8")
    assert house.decisions("uploads") == (0, 0, 1)


async def test_dripping_costs_quota() -> None:
    """It holds a connection for its whole time; a client that could drip for nothing would do nothing else."""
    house = upload(spec=PACED)
    assert [(await dripping(house, 8)).status for _ in range(2)] == [408, 408]
    assert await house.status("POST") == 429


async def test_the_longer_of_two_deadlines_never_speaks() -> None:
    """The request's own time goes on while its body is read; it is the client who is late then, too."""
    spec = limits(uploads={"body": "1000B", "within": "5s"}, request={"timeout": "2s"})
    house = upload(spec=spec)
    assert (await dripping(house, 8)).json()["violated-policies"] == ["request"]
    assert (house.decisions("uploads")[1], house.decisions("request")) == (0, (1, 0, 0))


async def test_a_client_that_hangs_up_while_dripping_is_not_too_slow() -> None:
    """The app sees it, and nothing is refused."""
    messages: list[Message] = [
        {"type": "http.request", "body": b"x", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        return messages.pop(0)

    house = upload(spec=PACED)
    with pytest.raises(ClientDisconnect):
        await house.app(scope_of("POST"), receive, collector(Answer()))
    assert house.count("uploads", "refused") == 0
    assert house.clock.timers == 0
