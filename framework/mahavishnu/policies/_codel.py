"""When a queue does harm: it has stood for a while, and everyone in it waits, however short it is served."""

from __future__ import annotations

TARGET = 5_000_000
"""A queue in which even the luckiest waits longer than this, ns …"""
INTERVAL = 100_000_000
"""… over as long as this stands: it absorbs no burst, it only delays."""


class Codel:
    """Whether a queue stands; every time is given, in nanoseconds.

    CoDel (RFC 8289) in the form that servers use (Maurer, "Fail at Scale", ACM Queue 2015; folly's Codel): the
    least wait over an interval is the part of the queue that never goes away.
    """

    __slots__ = ("_least", "_until", "standing")

    def __init__(self) -> None:
        self.standing = False
        self._least = 0
        self._until = 0

    def waited(self, wait: int, now: int) -> None:
        """Someone got a place after this long."""
        if self._until == 0:
            self._until, self._least = now + INTERVAL, wait
            return
        self._least = min(self._least, wait)
        if now >= self._until:
            # Once the queue stands the newest goes first, and how long that one waits says nothing any more:
            # only an empty queue ends it.
            self.standing = self.standing or self._least > TARGET
            self._until, self._least = now + INTERVAL, wait

    def empty(self) -> None:
        """Nobody waits, and a place is free."""
        self.standing = False
        self._until = 0
