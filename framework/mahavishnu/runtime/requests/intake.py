"""The time in which a request's body must arrive: whoever sends it drop by drop holds nothing for long."""

from __future__ import annotations

from collections.abc import Callable

from mahavishnu.protocols import Clock, Message, Receive
from mahavishnu.runtime.calls.cutoff import Cutoff
from mahavishnu.units import SECOND

GRACE = 5_000_000_000
"""Nanoseconds that a client may lag behind the rate: a connection takes a moment to get going, and pauses."""


class BodyTooSlow(Exception):
    """The client sends the request's body more slowly than the limit lets it."""


class Intake:
    """The receive side of a request whose body must be here `within` ns, at `rate` bytes/s or more (None: any).

    What counts is the time in which the app waits for the client: an app that is slow to read blames nobody.
    `late` is called once, when the time is over; with `enforced` the app then gets BodyTooSlow in the place of
    a message, however often it asks. A client that hangs up in time was not slow.
    """

    __slots__ = (
        "_clock",
        "_enforced",
        "_late",
        "_open",
        "_rate",
        "_read",
        "_receive",
        "_waited",
        "_within",
        "slow",
    )

    def __init__(
        self,
        receive: Receive,
        clock: Clock,
        late: Callable[[], object],
        *,
        within: int | None,
        rate: int | None,
        enforced: bool = True,
    ) -> None:
        self._receive = receive
        self._clock = clock
        self._late = late
        self._within = within
        self._rate = rate
        self._enforced = enforced
        self._open = True
        self._read = 0
        self._waited = 0
        self.slow = False

    async def __call__(self) -> Message:
        """The next message; raises BodyTooSlow where the limit is enforced and the time is over."""
        if self.slow and self._enforced:
            raise BodyTooSlow
        if self.slow or not self._open:
            return await self._receive()
        began = self._clock.now()
        message = await self._in_time(patience(self._read, self._within, self._rate) - self._waited)
        self._waited += self._clock.now() - began
        self._read += len(message.get("body", b""))
        self._open = message["type"] == "http.request" and message.get("more_body", False)
        return message

    async def _in_time(self, left: int) -> Message:
        # The first wait is the same for every request of a limit, all others are of every length.
        timer = self._clock.call_later if self._waited else self._clock.deadline
        if not self._enforced:
            watch = timer(left, self._expire)
            try:
                return await self._receive()
            finally:
                watch.cancel()
        cutoff = Cutoff(timer, left, self._expire)
        try:
            async with cutoff:
                return await self._receive()
        except TimeoutError:
            if cutoff.expired:
                raise BodyTooSlow from None
            raise

    def _expire(self) -> None:
        self.slow = True
        self._late()


def patience(read: int, within: int | None, rate: int | None) -> int:
    """How many ns in all may be waited for a body of which so many bytes are here (Apache's `MinRate`).

    Raises ValueError where neither is said.
    """
    said = [] if within is None else [within]
    if rate is not None:
        said.append(GRACE + read * SECOND // rate)
    return min(said)
