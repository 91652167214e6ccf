"""Responses that an app has begun and never ended: their lines say so, unless it is the client that has gone."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mahavishnu.protocols import Scope
from mahavishnu.series import HTTP_DURATION
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
    spec_of,
)

CORS = {"cors": {"origins": ["https://shop.example"]}}


async def half(scope: Scope, receive: Receive, send: Send) -> None:
    """An app that leaves its response as it is."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"half", "more_body": True})


def _queue(*messages: Message) -> Receive:
    """The receive side of a server that says these, and then waits."""
    waiting = [*messages]

    async def receive() -> Message:
        if not waiting:
            await asyncio.Event().wait()
        return waiting.pop(0)

    return receive


async def _line(house: House, receive: Receive) -> dict[str, Any]:
    before = asyncio.all_tasks()
    await house.app(scope_of(), receive, collector(Answer()))
    await house.clock.settle()
    assert asyncio.all_tasks() == before
    (line,) = house.lines
    return line


@pytest.mark.parametrize(
    "spec", [limits(), spec_of(security=CORS), limits(all={"concurrency": 9}, size={"body": "9B"})]
)
async def test_a_response_that_its_app_has_not_ended_is_told(spec: Any) -> None:
    """A clean 200 would hide that the server cuts the connection; what has come of the body is in nobody's way."""
    part = {"type": "http.request", "body": b"", "more_body": True}
    line = await _line(harden(half, spec), _queue(part, part))
    assert (line["status"], line["bytes"], line["error"]) == (200, 4, "incomplete")


async def test_a_client_that_has_gone_explains_it() -> None:
    """Then an app may well end without a word, as Starlette does."""
    assert "error" not in await _line(harden(half, limits()), chunks([b"the body"]))


async def _silent(scope: Scope, receive: Receive, send: Send) -> None:
    """An app that reads what there is, and ends without a word."""
    while (message := await receive())["type"] == "http.request" and message.get("more_body", False):
        pass


@pytest.mark.parametrize("security", [{}, CORS])
async def test_an_app_that_sees_its_client_go_may_end_without_any_response(security: Any) -> None:
    """As the SDK of MCP does when a tool's call is cancelled: that is nobody's fault, and no objective's."""
    sends = {"type": "http.request", "body": b"", "more_body": True}
    house = harden(_silent, spec_of(security=security))
    line = await _line(house, _queue(sends, *[{"type": "http.disconnect"}] * 2))
    assert (line["status"], line["level"], line.get("error")) == (499, "info", None)


async def test_an_app_that_answers_nobody_who_waits_is_at_fault() -> None:
    """The server says 500 for it."""
    line = await _line(harden(_silent, limits()), _queue({"type": "http.request", "body": b""}))
    assert (line["status"], line["level"], line["error"]) == (500, "error", "incomplete")


async def test_a_server_that_tells_of_that_once_may_have_told_the_app() -> None:
    """Hypercorn hands out a queue: what nobody can know is not said."""
    assert "error" not in await _line(harden(half, limits()), asyncio.Queue[Message]().get)


async def test_what_a_server_raises_of_a_client_explains_it_too() -> None:
    """Some have an exception for it."""

    async def receive() -> Message:
        raise ConnectionResetError

    assert "error" not in await _line(harden(half, limits()), receive)


@pytest.mark.parametrize("kind", ["http.response.pathsend", "http.response.zerocopysend"])
async def test_a_file_that_the_server_sends_is_an_end(kind: str) -> None:
    """Nothing follows it."""

    async def file(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": kind, "path": "/file", "file": 3})

    assert "error" not in await _line(harden(file, limits()), _queue())


async def test_an_error_has_its_own_name() -> None:
    """Which says more."""

    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        await half(scope, receive, send)
        raise ValueError("the app's own")

    house = harden(fails, limits())
    with pytest.raises(ValueError, match="own"):
        await house.app(scope_of(), _queue(), collector(Answer()))
    assert [one["error"] for one in house.lines] == ["ValueError"]


async def test_a_stream_that_is_cut_for_its_pauses_says_which_limit_it_was() -> None:
    """That is why it has no end."""

    async def pauses(scope: Scope, receive: Receive, send: Send) -> None:
        await half(scope, receive, send)
        await asyncio.Event().wait()

    house = harden(pauses, limits(request={"timeout": "2s", "idle": "2s"}))
    task = asyncio.create_task(house.app(scope_of(), _queue(), collector(Answer())))
    await house.clock.settle()
    house.clock.advance("2s")
    await task
    assert [(one["refused_by"], one.get("error")) for one in house.lines] == [("request", None)]


def _events(media: str = "text/event-stream") -> Any:
    """An app that lets go of who listens, as sse-starlette does when it hears SIGTERM."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", media.encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

    return app


async def _let_go(app: Any, method: str = "GET", security: Any = None) -> tuple[dict[str, Any], list[str]]:
    """What the line says of a stream that has no end while the process drains, and the statuses that are counted."""
    house = harden(app, spec_of(security=security or {}))
    house.app.drain()
    await house.app(scope_of(method), _queue(), collector(Answer()))
    (line,) = house.lines
    counts = [one for one in house.samples() if one.startswith(f"{HTTP_DURATION.name}_count")]
    return line, [one.partition("status_code=")[2][:3] for one in counts]


@pytest.mark.parametrize("security", [{}, CORS])
async def test_a_process_that_ends_lets_go_of_who_listens(security: Any) -> None:
    """Each deployment would count every open stream as a failure, and its client asks another process."""
    line, counted = await _let_go(_events(), security=security)
    assert (line["status"], line["level"], line.get("error"), counted) == (200, "info", None, ["200"])


@pytest.mark.parametrize(
    ("app", "method"), [(_events(), "POST"), (_events("text/plain"), "GET"), (half, "GET")]
)
async def test_it_owes_every_other_response_its_end(app: Any, method: str) -> None:
    """A call of a tool whose stream is cut, a page that is half there."""
    line, counted = await _let_go(app, method)
    assert (line["level"], line["error"], counted) == ("error", "incomplete", ["500"])


async def test_an_error_of_the_app_is_told_while_the_process_ends() -> None:
    """It is not the process that lets go."""

    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        await _events()(scope, receive, send)
        raise ValueError

    house = harden(fails, limits())
    house.app.drain()
    with pytest.raises(ValueError, match=r"^$"):
        await house.app(scope_of(), _queue(), collector(Answer()))
    assert [(one["level"], one["error"]) for one in house.lines] == [("error", "ValueError")]


async def test_who_listens_is_owed_an_end_by_a_process_that_goes_on() -> None:
    """There his stream has broken off."""
    assert (await _line(harden(_events(), limits()), _queue()))["error"] == "incomplete"
