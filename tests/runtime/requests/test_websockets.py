"""What is told of websockets that are over: a handler that fails is an error, and counted."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from uvicorn.protocols.utils import ClientDisconnected

from tests.runtime.asgi_client import (
    Answer,
    House,
    Message,
    collector,
    handshake,
    harden,
    limits,
    scope_of,
    site,
    spec_of,
)

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


# --- the queue ----------------------------------------------------------------------------------------


class Client:
    """Opens a websocket, and sends or hangs up when it is told to; its server hands out a queue, as uvicorn's does.

    `fails`: what the server raises where something is sent to nobody.
    """

    fails: OSError | None = None

    def __init__(self, house: House, name: str) -> None:
        self.said = asyncio.Queue[Message]()
        self.answer = Answer()
        self.say("connect")
        scope = scope_of("GET", f"/ws/{name}", subprotocols=[])
        scope["type"] = "websocket"
        self.task = asyncio.create_task(house.app(scope, self.said.get, self.hear))

    async def hear(self, message: Message) -> None:
        await collector(self.answer)(message)
        if self.fails is not None:
            raise self.fails

    def say(self, kind: str, **more: Any) -> None:
        self.said.put_nowait({"type": f"websocket.{kind}", **more})


async def ends(*clients: Client) -> None:
    """All of these are over, each by itself."""
    await asyncio.wait_for(asyncio.gather(*(one.task for one in clients)), 5)


class Rooms:
    """One room, and who was let into it, with what they have said there."""

    def __init__(self, **more: Any) -> None:
        self.heard: list[str] = []
        rooms = {"concurrency": 1, "queue": 2, "wait": "20s", "match": {"path": "/ws/{name}"}}
        self.house = harden(site(WebSocketRoute("/ws/{name}", self._serve)), limits(rooms=rooms, **more))

    async def _serve(self, websocket: WebSocket) -> None:
        self.heard.append(websocket.path_params["name"])
        await websocket.accept()
        async for text in websocket.iter_text():
            self.heard.append(text)

    async def crowd(self, *names: str) -> list[Client]:
        """They come one after the other."""
        clients = [Client(self.house, name) for name in names]
        await self.house.clock.settle()
        return clients

    def queued(self) -> float:
        return self.house.gauge("queued", "rooms")


@pytest.mark.parametrize("fails", [None, ClientDisconnected()])
async def test_who_hangs_up_in_the_queue_leaves_it(fails: OSError | None) -> None:
    """Nobody works for him, his place in the queue is free at once, and what he was charged is his again."""
    rooms = Rooms(calls={"rate": "4/hour"})
    holder, *ghosts = await rooms.crowd("holder", "ghost", "ghost")
    for one in ghosts:
        one.fails = fails
        one.say("disconnect", code=1006)
    await ends(*ghosts)
    assert [one["type"] for ghost in ghosts for one in ghost.answer.messages] == ["websocket.close"] * 2
    assert (rooms.queued(), _counted(rooms.house)) == (0, (2, 0, 0))
    assert [(one["event"], one["level"]) for one in rooms.house.lines] == [("websocket", "info")] * 2
    patient, second = await rooms.crowd("patient", "second")
    assert rooms.queued() == 2
    for one in (holder, patient, second):
        one.say("disconnect", code=1000)
        await ends(one)
    assert (rooms.heard, rooms.house.gauge("in_flight", "rooms")) == (["holder", "patient", "second"], 0)
    assert rooms.house.count("calls", "refused") == 0


async def test_who_waits_loses_nothing_of_what_he_has_said_meanwhile() -> None:
    """It comes in its order; and no more than shows that he is there is read before anybody wants it."""
    rooms = Rooms()
    holder, eager = await rooms.crowd("holder", "eager")
    for text in ("a", "b", "c"):
        eager.say("receive", text=text)
    await rooms.house.clock.settle()
    assert eager.said.qsize() == 2
    holder.say("disconnect", code=1000)
    eager.say("disconnect", code=1000)
    await ends(holder, eager)
    assert rooms.heard == ["holder", "eager", "a", "b", "c"]


async def test_a_websocket_that_is_let_in_while_it_hangs_up_hears_of_it() -> None:
    """In one turn of the event loop, whichever comes first: it does not wait for ever."""
    for first in (True, False):
        rooms = Rooms()
        holder, waiting = await rooms.crowd("holder", "waiting")
        for one in (holder, waiting) if first else (waiting, holder):
            one.say("disconnect", code=1000)
        await ends(holder, waiting)
        assert rooms.house.gauge("in_flight", "rooms") == rooms.queued() == 0


async def test_a_queue_that_is_full_or_has_waited_long_enough_refuses_as_before() -> None:
    """Also whom it has listened to meanwhile."""
    rooms = Rooms()
    _, *waiting, late = await rooms.crowd("holder", "one", "two", "late")
    await ends(late)
    rooms.house.clock.advance("21s")
    await ends(*waiting)
    assert [one.answer.messages[0]["type"] for one in (*waiting, late)] == ["websocket.close"] * 3
    assert _counted(rooms.house) == (0, 3, 0)
    assert rooms.heard == ["holder"]
