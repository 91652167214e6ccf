"""What is told of websockets that are over: a handler that fails is an error, and counted."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from uvicorn.protocols.utils import ClientDisconnected

from tests.runtime.asgi_client import House, handshake, harden, limits, site, spec_of

OUTCOMES = ("ended", "refused", "failed")


def _house(ends: BaseException | None, spec: Any = None) -> House:
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        if ends is not None:
            raise ends

    return harden(site(WebSocketRoute("/ws", endpoint)), spec or limits())


def _counted(house: House) -> tuple[float, ...]:
    return tuple(house.samples()[f"mahavishnu_websockets_total{{outcome={one}}}"] for one in OUTCOMES)


@pytest.mark.parametrize(
    "ends", [ValueError(), OSError(), ExceptionGroup("", [ValueError(), WebSocketDisconnect()])]
)
async def test_a_handler_that_fails_is_an_error(ends: Exception) -> None:
    """In the log, at whichever level that is kept, and in a series that can be an alert."""
    spec = spec_of(observability={"logs": {"level": "error"}})
    house = _house(ends, spec)
    with pytest.raises(type(ends)):
        await handshake(house.app, "/ws")
    (line,) = house.lines
    assert (line["event"], line["level"], line["route"]) == ("websocket", "error", "/ws")
    assert line["error"] == type(ends).__name__
    assert _counted(house) == (0, 0, 1)


@pytest.mark.parametrize("ends", [WebSocketDisconnect(), ClientDisconnected(), asyncio.CancelledError()])
async def test_a_client_that_has_gone_is_no_error(ends: BaseException) -> None:
    """Nor is a server that ends what is left; the line says what it was."""
    house = _house(ends)
    with pytest.raises(type(ends)):
        await handshake(house.app, "/ws")
    assert [(one["level"], one["error"]) for one in house.lines] == [("info", type(ends).__name__)]
    assert _counted(house) == (1, 0, 0)


async def test_those_that_end_and_those_that_are_refused_are_counted_too() -> None:
    """So that there is something of which those that failed are a part."""
    house = _house(None, limits(all={"rate": "1/hour"}))
    assert _counted(house) == (0, 0, 0)
    for _ in range(3):
        await handshake(house.app, "/ws")
    assert _counted(house) == (1, 2, 0)
    assert [one["level"] for one in house.lines] == ["info"] * 3
