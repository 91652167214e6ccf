"""The start and the end of an app, also of one that knows no lifespan, like Django's."""

from __future__ import annotations

import re
import traceback
from collections.abc import Awaitable, Callable
from typing import cast

from mahavishnu.protocols import Message, Receive, Scope, Send

App = Callable[[Scope, Receive, Send], Awaitable[None]]
_OF_REQUESTS = frozenset(
    {"client", "headers", "http_version", "method", "path", "query_string", "raw_path", "root_path", "scheme"}
)
"""What the scope of a lifespan lacks."""
_ABOUT_SCOPES = re.compile("lifespan|scope|http", re.IGNORECASE)


async def lived(
    app: App, scope: Scope, receive: Receive, send: Send, unknown: Callable[[Exception], object]
) -> None:
    """Start and end an app; `unknown` hears of one that says that it knows no lifespan.

    What is around such an app has an end to keep, and a server that was told `--lifespan=on` would not start.
    """
    heard = False

    async def hears() -> Message:
        nonlocal heard
        message, heard = await receive(), True
        return message

    try:
        await app(scope, hears, send)
    except Exception as fault:
        if heard or not _refused(fault):
            raise
        unknown(fault)
    if not heard:
        for answer in ("lifespan.startup.complete", "lifespan.shutdown.complete"):
            await receive()
            await send({"type": answer})


def _refused(fault: Exception) -> bool:
    """Whether an app has said by this that it takes no such scope; all else is a start that fails.

    ASGI has no word for it. But who refuses a scope does so in the very function that was handed it, and because of it:
    what a constructor raises, or a setting that is missing, comes from further in or is about something else.
    """
    frames = [frame for frame, _ in traceback.walk_tb(fault.__traceback__)]
    if not any(_is_lifespan(one) for one in frames[-1].f_locals.values()):
        return False
    if isinstance(fault, KeyError):
        return not _OF_REQUESTS.isdisjoint(map(str, fault.args))
    words = str(fault)
    return _ABOUT_SCOPES.search(words) is not None or (isinstance(fault, AssertionError) and not words)


def _is_lifespan(value: object) -> bool:
    return isinstance(value, dict) and ("type", "lifespan") in cast("Scope", value).items()
