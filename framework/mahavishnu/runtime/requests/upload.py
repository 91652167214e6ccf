"""The receive side of a request that may have a body: whether its app waits for what its client has not sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]


class Upload:
    """Who is late then is the client: `waits` while the app asks for more of a body that is not whole."""

    __slots__ = ("_receive", "_whole", "waits")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._whole = self.waits = False

    async def __call__(self) -> Message:
        """The next message."""
        if self._whole:
            return await self._receive()
        self.waits = True
        message = await self._receive()
        self.waits = False
        self._whole = message["type"] != "http.request" or not message.get("more_body", False)
        return message
