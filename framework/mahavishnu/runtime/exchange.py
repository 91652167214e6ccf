"""One request and its response on their way through the middleware: what was sent, and what is added to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from mahavishnu.policy import Decision
from mahavishnu.runtime.fields import Header, missing, problem, rate_limit

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class BodyTooLarge(Exception):
    """The app has read more of the request's body than the limit lets in."""


class Exchange:
    """The send side of one HTTP request: exactly one start, nothing held back, headers added on the way.

    Once `pending` is set, the app's own answer is dropped: the refusal takes its place.
    """

    def __init__(self, send: Send, headers: Sequence[Header]) -> None:
        self._send = send
        self._headers = headers
        self._refusing = False
        self.decisions: Sequence[Decision] = ()
        self.pending: Decision | None = None
        self.on_part: Callable[[], None] | None = None
        self.status = 0
        self.sent = 0

    @property
    def started(self) -> bool:
        """Whether the response has begun."""
        return self.status > 0

    async def send(self, message: Message) -> None:
        """Pass a message on, with the headers added to the start of the response."""
        if self.pending is not None and not self._refusing:
            return
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": self._completed(message.get("headers", ()))}
        elif message["type"] == "http.response.body":
            self.sent += len(message.get("body", b""))
        if self.on_part is not None:
            self.on_part()
        await self._send(message)

    async def refuse(self, decision: Decision, send: Send) -> None:
        """Answer with the refusal through `send`, unless the response has begun already."""
        self.pending = decision
        self._refusing = not self.started
        if self._refusing:
            body, headers = problem(decision)
            await send({"type": "http.response.start", "status": decision.status, "headers": headers})
            await send({"type": "http.response.body", "body": body})
            self._refusing = False

    def _completed(self, headers: Sequence[Header]) -> list[Header]:
        return [*headers, *missing([*self._headers, *rate_limit(self.decisions)], headers)]


class Bounded:
    """The receive side of a request whose body may have `limit` bytes; `excess` is called once when it has more."""

    def __init__(self, receive: Receive, limit: int, excess: Callable[[], bool]) -> None:
        self._receive = receive
        self._limit = limit
        self._excess = excess
        self._read = 0
        self._over = False

    async def __call__(self) -> Message:
        """The next message; raises BodyTooLarge when `excess` says that the limit is enforced."""
        message = await self._receive()
        self._read += len(message.get("body", b""))
        if self._read > self._limit and not self._over:
            self._over = True
            if self._excess():
                raise BodyTooLarge
        return message
