"""A request leaves nothing for the garbage collector: its memory is free when it ends, and no pause comes later."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, Router

from tests.runtime.asgi_client import House, harden, spec_of

EVERYTHING: dict[str, Any] = {
    "calls": {"rate": "30/hour"},
    "slots": {"concurrency": 1},
    "size": {"body": "10B", "within": "5s"},
    "time": {"timeout": "2s", "idle": "5s"},
}
PLAIN: dict[str, Any] = {**EVERYTHING, "size": {"body": "10B"}, "time": {"timeout": "2s"}}


async def reads(request: Request) -> Response:
    """Reads its body, and waits a moment."""
    await request.body()
    await asyncio.sleep(0)
    return PlainTextResponse("ok")


async def visits(house: House, bodies: tuple[bytes, ...], count: int) -> set[int]:
    """Requests one after the other, and two at once, which are one too many; their statuses."""
    found = set[int]()
    for _ in range(count):
        for one in await asyncio.gather(*(house.call("POST", body=bodies) for _ in range(2))):
            found.add(one.status)
    return found


@pytest.mark.parametrize("limits", [PLAIN, EVERYTHING], ids=["plain", "timed"])
@pytest.mark.parametrize(
    ("bodies", "statuses"), [((b"x",), {200, 503, 429}), ((b"x" * 6, b"x" * 6), {413, 503, 429})]
)
async def test_nothing_is_left_of_a_request(
    limits: dict[str, Any], bodies: tuple[bytes, ...], statuses: set[int]
) -> None:
    """Answered, refused for its body, for its place, or for its rate."""
    house = harden(Router([Route("/", reads, methods=["POST"])]), spec_of(limits=limits))
    await visits(house, bodies, 3)
    house.app.service.process_state.ended.settle()
    gc.collect()
    gc.disable()
    try:
        assert await visits(house, bodies, 40) == statuses
        house.app.service.process_state.ended.settle()
        assert gc.collect() == 0
    finally:
        gc.enable()
