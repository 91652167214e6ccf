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
    return JSONResponse({"ok": True}, wanted.get("status", 200))


async def calls(request: Request) -> Response:
    """How often it was called."""
    return JSONResponse(getattr(request.app.state, "calls", 0))


app = Starlette(
    routes=[
        Route("/mood", mood, methods=["PUT"]),
        Route("/charges", charges, methods=["POST"]),
        Route("/calls", calls),
    ]
)
