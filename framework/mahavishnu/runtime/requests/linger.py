"""After a refusal, what its client still sends is dropped for a moment: it reads the answer only when it has sent."""

from __future__ import annotations

from contextlib import suppress

from mahavishnu.protocols import Clock, Receive, Scope, Send
from mahavishnu.runtime.calls.cutoff import Cutoff

BYTES = 16 * 2**20
"""So much of one body is dropped at most (give or take what the server hands over at once)."""
TIME = 5_000_000_000
"""Nanoseconds that one connection stays at most: half of what a head may take, so nobody holds one longer this way."""
ROOM = 64
"""So many connections stay at once in a process: a flood of them is closed as it comes."""


class Linger:
    """Puts off the end of a response before its connection is closed (RFC 9112, section 9.6).

    To close with bytes unread is to reset the connection, at which most clients give up with the answer before them.
    In HTTP/2 and later only the stream is closed, and nobody has to wait.
    """

    def __init__(self) -> None:
        self._staying = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send, clock: Clock) -> None:
        """End a response of which everything has been sent, once the client has sent everything or time is up."""
        if self._staying < ROOM and scope.get("http_version", "1.1") < "2":
            self._staying += 1
            try:
                with suppress(TimeoutError):
                    async with Cutoff(clock.deadline, TIME):
                        await _drop(receive)
            finally:
                self._staying -= 1
        with suppress(OSError):  # whom a server tells so that the client has gone
            await send({"type": "http.response.body", "body": b""})


async def _drop(receive: Receive) -> None:
    dropped, more = 0, True
    while more and dropped < BYTES:
        message = await receive()
        dropped += len(message.get("body", b""))
        more = message.get("more_body", False)  # of a client that has gone, there is none
