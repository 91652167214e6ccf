"""Responses on their way out: one start, nothing held back, whatever the shape of the app."""

from __future__ import annotations

from collections.abc import AsyncIterator
from enum import Enum
from http import HTTPStatus
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Mount, Route, Router

from tests.figures import figure
from tests.runtime.asgi_client import Answer, Message, chunks, collector, harden, run, scope_of, site, spec_of

LIMITS = {
    "rate": {"rate": "1000/second", "per": "client"},
    "slots": {"concurrency": 10, "queue": 5},
    "body": {"body": "1MiB"},
    "time": {"timeout": "5s", "idle": "5s"},
}
PLAIN = spec_of(limits=LIMITS)
FULL = spec_of(
    limits=LIMITS,
    security={"headers": "strict", "cors": {"origins": ["https://shop.example.com"]}},
)
EVENTS = 1000


async def _events(made: list[int]) -> AsyncIterator[bytes]:
    for number in range(EVENTS):
        made.append(number)
        yield b"data: %d\n\n" % number


@pytest.mark.parametrize("mounted", [False, True])
@pytest.mark.parametrize("origin", [{}, {"origin": "https://shop.example.com"}])
async def test_a_stream_starts_once_and_every_part_leaves_before_the_next_is_made(
    mounted: bool, origin: dict[str, str]
) -> None:
    """1,000 events through every limit and CORS: one start, and part n is out before n + 1 exists."""
    made: list[int] = []
    sent: list[int] = []
    messages: list[Message] = []

    async def stream(request: Request) -> Response:
        return StreamingResponse(_events(made), media_type="text/event-stream")

    async def send(message: Message) -> None:
        messages.append(message)
        if message.get("body"):
            sent.append(len(sent))
            assert len(made) == len(sent)
        elif message["type"] == "http.response.start":
            assert not made

    route = Route("/events", stream)
    house = harden(site(Mount("/m", app=Router([route])) if mounted else route), FULL)
    path = "/m/events" if mounted else "/events"
    await house.app(scope_of(path=path, headers=origin), chunks([b""]), send)
    assert house.clock.timers == 0
    assert house.lines[-1]["bytes"] == sum(len(one.get("body", b"")) for one in messages)
    starts = [one for one in messages if one["type"] == "http.response.start"]
    assert (len(starts), len(sent)) == (1, EVENTS)
    assert not messages[-1].get("more_body", False)
    names = [name for name, _ in starts[0]["headers"]]
    assert len(names) == len(set(names))
    assert (b"ratelimit" in names, b"access-control-allow-origin" in names) == (True, bool(origin))


async def test_messages_pass_unchanged() -> None:
    """Whatever an app may send is handed on: trailers, path-sends, hints; only the start gains headers."""
    said: list[Message] = [
        {"type": "http.response.early_hint", "links": [b"</x>"]},
        {"type": "http.response.start", "status": 200, "headers": [(b"a", b"1")], "trailers": True},
        {"type": "http.response.body", "body": b"x", "more_body": True},
        {"type": "http.response.body"},
        {"type": "http.response.trailers", "headers": [(b"t", b"1")]},
        {"type": "http.response.pathsend", "path": "/x"},
    ]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for one in said:
            await send(one)

    answer = await harden(app, PLAIN).call()
    assert [one for one in answer.messages if one["type"] != "http.response.start"] == [
        one for one in said if one["type"] != "http.response.start"
    ]
    start = answer.messages[1]
    assert (start["status"], start["trailers"], start["headers"][0]) == (200, True, (b"a", b"1"))
    assert said[1]["headers"] == [(b"a", b"1")]  # the app's own message is left alone


async def test_an_answer_without_headers_is_completed() -> None:
    """ASGI lets a start come without `headers`."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    answer = await harden(app, FULL).call()
    assert answer.status == 204
    assert "x-request-id" in answer.headers


async def test_headers_may_be_gone_after_one_look() -> None:
    """ASGI lets them be any iterable, as a generator is: none is lost, and the app's own word wins."""
    said = [(b"content-type", b"text/plain"), (b"X-Request-ID", b"mine")]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": (one for one in said)})
        await send({"type": "http.response.body", "body": b"x"})

    raw = (await harden(app, FULL).call()).raw
    assert raw[:2] == said
    assert b"x-request-id" not in dict(raw)


class Code(int, Enum):
    """As many apps write it: a number that does not look like one."""

    TEAPOT = 418


@pytest.mark.parametrize(
    ("status", "number"), [(Code.TEAPOT, 418), (418.0, 418), (HTTPStatus.IM_A_TEAPOT, 418)]
)
async def test_a_status_is_the_number_that_a_server_makes_of_it(status: Any, number: int) -> None:
    """It is counted and logged as one, and so are the requests of the same moment."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body"})

    house = harden(app, FULL)
    await house.call()
    assert house.lines[-1]["status"] == number
    shown = [
        name for name in house.samples() if name.startswith("http_server_request_duration_seconds_count")
    ]
    assert [f"http_response_status_code={number}" in name for name in shown] == [True]


async def test_a_stream_that_fails_is_logged_with_what_was_sent() -> None:
    """The error goes on to the server; the log has the status that went out, and the error's name."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ConnectionError("gone")

    house = harden(app, FULL)
    answer = Answer()
    with pytest.raises(ConnectionError):
        await house.app(scope_of(), chunks([b""]), collector(answer))
    line = house.lines[-1]
    assert (line["status"], line["error"], line["bytes"], answer.starts) == (200, "ConnectionError", 4, 1)
    assert house.gauge("in_flight", "slots") == 0


@pytest.mark.proof
def test_starts_over_many_streams() -> None:
    """A thousand streams of random length."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(int(scope["path"][1:])):
            await send({"type": "http.response.body", "body": b"%d" % number, "more_body": True})
        await send({"type": "http.response.body"})

    async def scenario() -> list[int]:
        house = harden(app, FULL)
        starts: list[int] = []
        for turn in range(1000):
            starts.append((await house.call(path=f"/{turn}")).starts)
            house.clock.advance("1s")
        return starts

    starts = run(scenario())
    figure(
        "http.response.start over 1,000 streams of up to 1,000 parts",
        "1 each",
        f"{min(starts)}-{max(starts)} each",
    )
    assert set(starts) == {1}
