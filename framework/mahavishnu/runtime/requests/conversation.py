"""A websocket that cannot go on: what is still to be said to its client, before and after it was accepted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

from mahavishnu.protocols import Decision, Message, Scope, Send
from mahavishnu.runtime.limits.fields import problem

_AGAIN = 1013  # "Try Again Later", of IANA's registry for RFC 6455


class Conversation:
    """The send side of a websocket; `accepted` is told when it begins to last."""

    __slots__ = ("_accepted", "_begun", "_denies", "_send", "over")

    def __init__(self, scope: Scope, send: Send, accepted: Callable[[], None]) -> None:
        self._accepted = accepted
        self._denies = "websocket.http.response" in scope.get("extensions", {})
        self._send = send
        self._begun = self.over = False

    def send(self, message: Message) -> Awaitable[None]:
        """Pass a message on."""
        if message["type"] not in ("websocket.accept", "websocket.send"):
            self.over = True
        if message["type"] == "websocket.accept" and not self._begun:
            self._accepted()
        self._begun = True
        return self._send(message)

    async def refuse(self, refusal: Decision) -> None:
        """End it with a refusal: an answer in HTTP, where the server lets one deny, before it was accepted."""
        if self._begun or not self._denies:
            await self._send({"type": "websocket.close", "code": _AGAIN, "reason": refusal.detail[:120]})
            return
        body, headers = problem(refusal)
        start = {"type": "websocket.http.response.start", "status": refusal.status, "headers": headers}
        await self._send(start)
        await self._send({"type": "websocket.http.response.body", "body": body})

    async def leave(self) -> None:
        """Its client has gone, and nobody was asked: a server may take it for a fault where nothing is said at all."""
        with suppress(OSError):  # by which others say that there is nobody to be told
            await self._send({"type": "websocket.close", "code": _AGAIN})
