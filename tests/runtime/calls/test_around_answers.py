"""Blocks that stand around an answer, as dependencies of FastAPI do: a slow client is nobody's failure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, WebSocket
from fastapi.responses import StreamingResponse
from starlette.middleware.base import BaseHTTPMiddleware

from mahavishnu import dependency
from mahavishnu.errors import BulkheadFull, CallTimeout
from mahavishnu.runtime.context import current_request
from tests.runtime.asgi_client import House, handshake, harden, spec_of

CALLS = "mahavishnu_dependency_calls_total{{dependency=db,outcome={}}}"
SPENT = "mahavishnu_dependency_duration_seconds_sum{dependency=db}"
PARTS = [b"first,", b"second,", b"third"]


async def _in_a_task() -> AsyncIterator[str]:
    async with dependency("db"):
        yield "session"


def _in_a_thread() -> Iterator[str]:
    with dependency("db"):
        yield "session"


class World:
    """An app whose routes have a session, and a client that waits for a second after each part."""

    def __init__(self, session: Any, **policies: Any) -> None:
        self.sent = list[str]()
        self.house: House = harden(
            self._app(session), spec_of(dependencies={"db": {"timeout": "1s", **policies}})
        )

    def _app(self, session: Any) -> FastAPI:
        app = FastAPI()
        given: Any = Depends(session)

        async def parts() -> AsyncIterator[bytes]:
            for part in PARTS:
                yield part
                await self.house.clock.sleep(10**9)

        async def mail() -> None:
            await self.house.clock.sleep(3 * 10**9)
            self.sent.append("mail")

        async def export(session: str = given) -> StreamingResponse:
            return StreamingResponse(parts())

        async def notify(tasks: BackgroundTasks, session: str = given) -> str:
            tasks.add_task(mail)
            return session

        async def late(session: str = given) -> None:
            await self.house.clock.sleep(3 * 10**9)

        async def talk(websocket: WebSocket, session: str = given) -> None:
            await websocket.accept()
            await self.house.clock.sleep(3 * 10**9)
            await websocket.close()
            self.sent.append("talk")

        for endpoint in (export, notify, late):
            app.get(f"/{endpoint.__name__}", response_model=None)(endpoint)
        app.websocket("/talk")(talk)
        return app

    async def gets(self, path: str) -> tuple[int, bytes]:
        """What comes of a request, a second later and later."""
        asked = asyncio.create_task(self.house.call(path=path))
        await self.passes(asked)
        return asked.result().status, asked.result().body

    async def passes(self, task: asyncio.Task[Any]) -> None:
        """Seconds pass, until it has ended."""
        for _ in range(40):
            await asyncio.sleep(0.01)  # what runs in a thread
            await self.house.clock.settle()
            if task.done():
                return
            self.house.clock.advance("250ms")
        raise AssertionError("it does not end")

    def calls(self) -> dict[str, float]:
        """How its calls have ended."""
        shown = self.house.samples()
        outcomes = ("success", "failure", "timeout", "cancelled")
        return {one: shown[CALLS.format(one)] for one in outcomes if shown[CALLS.format(one)]}

    def spent(self) -> float:
        """Seconds that its calls took."""
        return self.house.samples()[SPENT]


@pytest.fixture(params=[_in_a_task, _in_a_thread], ids=["task", "thread"])
def world(request: pytest.FixtureRequest) -> World:
    return World(request.param)


async def test_a_slow_reader_gets_all_parts_and_is_not_the_dependencys_time(world: World) -> None:
    assert await world.gets("/export") == (200, b"".join(PARTS))
    assert world.calls() == {"success": 1}
    assert world.spent() < 1
    assert not any("outlasted" in line["event"] for line in world.house.lines)


async def test_background_tasks_are_not_ended(world: World) -> None:
    assert await world.gets("/notify") == (200, b'"session"')
    assert (world.sent, world.calls()) == (["mail"], {"success": 1})
    assert world.spent() < 1


async def test_a_websocket_lasts_as_long_as_it_is_open(world: World) -> None:
    talks = asyncio.create_task(handshake(world.house.app, "/talk"))
    await world.passes(talks)
    assert (world.sent, world.calls()) == (["talk"], {"success": 1})
    assert world.spent() < 1


async def test_before_the_answer_the_timeout_holds() -> None:
    """In a task; a thread cannot be ended."""
    world = World(_in_a_task)
    with pytest.raises(CallTimeout):
        await world.gets("/late")
    assert world.calls() == {"timeout": 1}
    world = World(_in_a_thread)
    assert (await world.gets("/late"))[0] == 200
    assert world.calls() == {"success": 1}


async def test_its_place_is_kept_until_it_ends() -> None:
    """What is held behind the place, like a connection, is in use."""
    world = World(_in_a_task, bulkhead={"concurrency": 1})
    first = asyncio.create_task(world.house.call(path="/export"))
    await asyncio.sleep(0.05)
    with pytest.raises(BulkheadFull):
        await world.house.call(path="/notify")
    await world.passes(first)
    assert (await world.gets("/notify"))[0] == 200


async def test_a_middleware_that_serves_in_a_task_of_its_own_changes_nothing() -> None:
    """The answer begins in another task than the block."""
    world = World(_in_a_task)

    async def passes_on(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    app: Any = world.house.app.app
    app.add_middleware(BaseHTTPMiddleware, dispatch=passes_on)
    assert await world.gets("/export") == (200, b"".join(PARTS))
    assert world.calls() == {"success": 1}


async def test_a_block_that_is_over_leaves_nothing_at_its_request() -> None:
    """Nothing is left for the garbage collector."""
    seen = list[Any]()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        generator: Any = _in_a_task()
        await anext(generator)
        seen.append(getattr(current_request(), "around", None))
        await generator.aclose()
        seen.append(getattr(current_request(), "around", None))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    house = harden(app, spec_of(dependencies={"db": {"timeout": "1s"}}))
    assert await house.status() == 204
    assert [len(one) for one in seen] == [1, 0]
