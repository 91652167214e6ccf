"""The receive side of a websocket, read ahead while it waits for a place: that tells whether its client is there."""

from __future__ import annotations

from asyncio import Event
from collections import deque

from mahavishnu.protocols import Message, Receive

_ENOUGH = 2  # the handshake itself, and one more: who sends that is there, and the rest is his server's to hold back


class Handshake:
    """What is read ahead is kept for the app, in its order."""

    __slots__ = ("_ahead", "_receive")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._ahead = deque[Message]()

    def rest(self) -> Receive:
        """What the app reads from: its server itself, where nothing was read ahead."""
        return self if self._ahead else self._receive

    async def __call__(self) -> Message:
        """The next message."""
        return self._ahead.popleft() if self._ahead else await self._receive()

    async def gone(self) -> None:
        """End when the client has gone; an app that is asked all the same, in the same turn, will hear of it."""
        while len(self._ahead) < _ENOUGH:
            message = await self._receive()
            self._ahead.append(message)
            if message["type"] == "websocket.disconnect":
                return
        await Event().wait()
