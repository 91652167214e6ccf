"""The receive side of a request whose body is limited: in size, and perhaps in time."""

from __future__ import annotations

from collections.abc import Iterable

from mahavishnu.protocols import Clock, Message, Receive
from mahavishnu.runtime.limits.admission import Admission
from mahavishnu.runtime.limits.size_limit import SizeLimit
from mahavishnu.runtime.requests.intake import Intake

_DIGITS = 18  # of a length: longer ones exceed every limit


class BodyTooLarge(Exception):
    """The app has read more of the request's body than the limit lets in."""


class Bounded:
    """Where the limit is enforced, an app gets no more of a body that is too large, however often it asks.

    `unread`: the refusal has been sent, all but its end, which waits for what the client still sends; `whole`: the body
    ended with what was too much of it.
    """

    __slots__ = (
        "_intake", "_most", "_of", "_over", "_receive", "_refused", "_request", "read", "unread", "whole",
    )  # fmt: skip

    def __init__(self, clock: Clock, of: SizeLimit, request: Admission, receive: Receive) -> None:
        self._of = of
        self._most = of.margin.whole
        self._request = request
        self._intake = _timed(clock, of, request, receive) if of.timed else None
        self._receive = self._intake or receive
        self.read = 0
        self._refused = self._over = self.unread = self.whole = False

    def announced(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Refuse the request unread, if it announces too much."""
        for name, value in headers:
            if name == b"content-length":
                length = value.lstrip(b"0")
                if length.isdigit() and (len(length) > _DIGITS or int(length) > self._most):
                    self._exceeded()
                return

    async def __call__(self) -> Message:
        """The next message; raises BodyTooLarge when the limit is enforced and exceeded."""
        if self._refused:
            raise BodyTooLarge
        message = await self._receive()
        if "body" in message:
            self.read += len(message["body"])
            if self.read > self._most and self._exceeded():
                self.whole = not message.get("more_body", False)
                raise BodyTooLarge
        return message

    def ended(self) -> None:
        """The request has ended: if it has kept to the limit, that is counted."""
        if self._request.refused is None and not self._broken():
            of = self._of
            of.cells.allowed.value += 1
            left = self._most - self.read
            if left < of.margin.mark:
                of.margin.left(left)

    def _exceeded(self) -> bool:
        """Count it, if it is the first time that the limit is not kept; whether it is enforced."""
        if not self._broken():
            self._over = True
            refusal = self._of.too_large()
            self._request.refused = self._request.refused or refusal
            self._refused = refusal is not None
        return self._refused

    def _broken(self) -> bool:
        return self._over or (self._intake is not None and self._intake.slow)


def _timed(clock: Clock, of: SizeLimit, request: Admission, receive: Receive) -> Intake:
    limit = of.limit

    def late() -> None:
        request.refused = request.refused or of.dripping()

    enforced = limit.mode == "enforce"
    return Intake(receive, clock, late, within=limit.within, rate=limit.min_rate, enforced=enforced)
