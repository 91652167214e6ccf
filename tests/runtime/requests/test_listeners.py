"""Clients that only listen: a GET whose response is a stream of events lasts as long as they like, and is not slow."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from mahavishnu import limit
from mahavishnu.errors import RateLimited
from mahavishnu.protocols import Receive, Scope, Send
from mahavishnu.series import HTTP_DURATION
from tests.runtime.asgi_client import Answer, House, chunks, collector, harden, scope_of, spec_of
from tests.runtime.telemetry.test_objectives import counted

QUICK = {"quick": {"objective": "99%", "under": "1s"}}
CORS = {"cors": {"origins": ["https://shop.example"]}}
EVENTS = b"text/event-stream; charset=utf-8"
End = Callable[[Receive, Send], Awaitable[None]]


async def last(receive: Receive, send: Send) -> None:
    """Some events, and their end."""
    await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def none(receive: Receive, send: Send) -> None:
    """An end without any event."""
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def hung_up(receive: Receive, send: Send) -> None:
    """The client goes, and the app sees it."""
    while (await receive())["type"] != "http.disconnect":
        pass


class Events:
    """An app whose response begins after `first` ns, and ends an hour later."""

    def __init__(self, end: End = last, first: int = 0, media: bytes = EVENTS, **sections: Any) -> None:
        self.end, self.first, self.media = end, first, media
        self.house: House = harden(self, spec_of(slos=QUICK, **sections))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.house.clock.advance(self.first)
        headers = [(b"Content-Type", self.media)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        self.house.clock.advance("1h")
        await self.end(receive, send)

    async def call(self, method: str = "GET") -> tuple[float, float]:
        """What the objective says of one request that hangs up in the end: good and bad."""
        await self.house.app(scope_of(method), chunks([b""]), collector(Answer()))
        return counted(self.house, "quick")


@pytest.mark.parametrize("security", [{}, CORS])
@pytest.mark.parametrize("end", [last, none, hung_up])
async def test_who_only_listens_has_waited_until_the_events_began(end: End, security: Any) -> None:
    """However they end. The line of the log still says how long they lasted."""
    app = Events(end, security=security)
    assert await app.call() == (1, 0)
    (line,) = app.house.lines
    assert (line["status"], line["duration_ms"], line["level"]) == (200, 3600_000, "info")
    shown = {name.partition("{")[0]: value for name, value in app.house.samples().items()}
    assert (shown[f"{HTTP_DURATION.name}_sum"], shown[f"{HTTP_DURATION.name}_count"]) == (0, 1)


async def test_events_that_begin_late_are_slow() -> None:
    """Until then the client has waited."""
    assert await Events(first=2 * 10**9).call() == (0, 1)


@pytest.mark.parametrize(("method", "media"), [("POST", EVENTS), ("GET", b"text/plain")])
async def test_who_waits_for_an_answer_waits_until_its_end(method: str, media: bytes) -> None:
    """As a tool's call does, whose stream begins before its work; and a page that is sent in parts."""
    assert await Events(media=media).call(method) == (0, 1)


async def test_events_that_fail_or_are_cut_are_no_slower() -> None:
    """By the app's own error, with the status that the series show of it, or by the limit of their pauses."""

    async def fails(receive: Receive, send: Send) -> None:
        raise ValueError

    async def pauses(receive: Receive, send: Send) -> None:
        await asyncio.Event().wait()

    app = Events(fails)
    with pytest.raises(ValueError, match=r"^$"):
        await app.call()
    assert counted(app.house, "quick") == (1, 0)
    app = Events(pauses, limits={"request": {"timeout": "2s", "idle": "2h"}})
    task = asyncio.create_task(app.call())
    await app.house.clock.settle()
    app.house.clock.advance("2h")
    assert await task == (1, 0)
    assert [one["refused_by"] for one in app.house.lines] == ["request"]


async def test_a_tool_that_a_rate_refuses_while_events_last_is_no_event_of_an_objective() -> None:
    """It is set aside where it is counted."""

    async def refused(receive: Receive, send: Send) -> None:
        for _ in range(2):
            try:
                async with limit(tool="search"):
                    pass
            except RateLimited:
                await last(receive, send)

    app = Events(refused, limits={"search": {"rate": "1/hour", "match": {"tool": "search"}}})
    assert await app.call() == (0, 0)
