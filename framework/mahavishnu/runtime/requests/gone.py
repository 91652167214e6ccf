"""Whether a client has gone before its response was whole, told at once."""

from __future__ import annotations

import asyncio
from typing import Any

from mahavishnu.protocols import Message, Receive

_PARTS = 16
"""So much that has come of a body is dropped before what follows is believed to be more of it."""
_TURNS = 3
"""A server that has something to say needs one of the event loop; what stands around may need another one."""


async def gone(receive: Receive) -> bool:
    """Whether the server says so, or may have said so already; nobody is waited for."""
    if isinstance(getattr(receive, "__self__", None), asyncio.Queue):
        return True  # Hypercorn says it once only, so perhaps to the app
    for _ in range(_PARTS):
        message = await _at_once(receive)
        if message is None or message["type"] == "http.disconnect":
            return message is not None
    return False


async def _at_once(receive: Receive) -> Message | None:
    """The next message, if there is one already."""
    asked: asyncio.Future[Any] = asyncio.ensure_future(receive())
    try:
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        return asked.result() if asked.done() else None
    except OSError:  # whom a server tells so that the client has gone
        return {"type": "http.disconnect"}
    finally:
        asked.cancel()
