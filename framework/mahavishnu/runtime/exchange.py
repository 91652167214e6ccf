"""One request and its response on their way through the middleware: what was sent, and what is added to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from typing import Any

from mahavishnu.policy import Decision
from mahavishnu.runtime.fields import Header, missing, problem, rate_limit

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


_PARTS = frozenset(("http.response.start", "http.response.body", "http.response.pathsend"))
_DIGITS = 18  # of a length: longer ones exceed every limit


class BodyTooLarge(Exception):
    """The app has read more of the request's body than the limit lets in."""


class Exchange:
    """The send side of one HTTP request: exactly one start, nothing held back, headers added on the way.

    Once `pending` is set, the app's own answer is dropped: the refusal takes its place. `headers` is asked when
    the response starts; `on_part` is called for each of its parts, with whether it is the last.
    """

    def __init__(self, send: Send, headers: Callable[[], Sequence[Header]]) -> None:
        self._send = send
        self._headers = headers
        self._refusing = False
        self.decisions: Sequence[Decision] = ()
        self.pending: Decision | None = None
        self.on_part: Callable[[bool], None] | None = None
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
        if self.on_part is not None and message["type"] in _PARTS:
            last = message["type"] != "http.response.start" and not message.get("more_body", False)
            self.on_part(last)
            if last:
                self.on_part = None  # no cycle is left for the garbage collector
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
        return [*headers, *missing([*self._headers(), *rate_limit(self.decisions)], headers)]


class Bounded:
    """The receive side of a request whose body may have `limit` bytes.

    `excess` is called once when it has more, and says whether the limit is enforced: then the app gets no
    more of it, however often it asks.
    """

    def __init__(self, receive: Receive, limit: int, excess: Callable[[], bool]) -> None:
        self._receive = receive
        self._limit = limit
        self._excess = excess
        self._read = 0
        self._refused = False
        self.over = False

    def announced(self, headers: Iterable[Header]) -> bool:
        """Whether the request is refused unread, for the length that it announces."""
        length = next((value for name, value in headers if name == b"content-length"), b"").lstrip(b"0")
        return length.isdigit() and (len(length) > _DIGITS or int(length) > self._limit) and self._exceeded()

    async def __call__(self) -> Message:
        """The next message; raises BodyTooLarge when the limit is enforced and exceeded."""
        if self._refused:
            raise BodyTooLarge
        message = await self._receive()
        self._read += len(message.get("body", b""))
        if self._read > self._limit and self._exceeded():
            raise BodyTooLarge
        return message

    def _exceeded(self) -> bool:
        if not self.over:
            self.over = True
            self._refused = self._excess()
        return self._refused
