"""A payment service with moods: PUT /mood makes it fail or slow, so that one can watch the shop cope."""

from __future__ import annotations

import asyncio

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


async def mood(request: Request) -> Response:
    """Set how it behaves: `status` to answer with, `delay_ms` before it does."""
    request.app.state.mood = await request.json()
    return JSONResponse(request.app.state.mood)


async def charges(request: Request) -> Response:
    """Charge a card, if in the mood."""
    app = request.app
    app.state.calls = getattr(app.state, "calls", 0) + 1
    wanted = getattr(app.state, "mood", {})
    await asyncio.sleep(wanted.get("delay_ms", 0) / 1000)
    status = wanted.get("status", 200)
    if status == 200:  # once for each key, however often it is asked
        app.state.charged = {*getattr(app.state, "charged", ()), request.headers["idempotency-key"]}
    return JSONResponse({"ok": True}, status)


async def charged(request: Request) -> Response:
    """How many orders were charged, each told by its idempotency key."""
    return JSONResponse(len(getattr(request.app.state, "charged", ())))


async def calls(request: Request) -> Response:
    """How often it was called."""
    return JSONResponse(getattr(request.app.state, "calls", 0))


app = Starlette(
    routes=[
        Route("/mood", mood, methods=["PUT"]),
        Route("/charges", charges, methods=["POST"]),
        Route("/calls", calls),
        Route("/charged", charged),
    ]
)
