"""How much of a limit has been left at the least, lately, and how often hardly anything was."""

from __future__ import annotations

from mahavishnu.protocols import Counter, Taken
from mahavishnu.units import SECOND

_PERIOD = 30 * SECOND


class Margin:
    """What requests have left of a limit: of their client's quota, of a size, of a time.

    Whoever knows what a request has left compares it with `mark`, and calls `left` only when it is less: that
    is all it costs. What is remembered spans two periods of at least 30 s, turned when it is read, so that no
    scrape misses what came between it and the one before. Of several workers, which read it every second, none that
    comes within 30 s of the one before does.
    """

    __slots__ = ("_before", "_least", "_near", "_nearly", "_since", "mark", "whole")

    def __init__(self, whole: int, near: Counter) -> None:
        self.whole = whole
        self._near = near
        self._nearly = max(1, -(-whole // 10))
        self._least = self._before = self.mark = whole
        self._since = 0

    def left(self, amount: int) -> None:
        """An admitted request has left less than `mark`."""
        if amount < self._nearly:
            self._near.inc()
        if amount < self._least:
            self.lowered(amount)

    def standing(self, amount: int, taken: Taken, place: int) -> None:
        """As `left`, of a bucket with less than `mark` in it, whether its request was admitted or not."""
        if taken.admitted and place not in taken.denied:
            self.left(amount)
        else:
            self.lowered(amount)

    def exceeded(self) -> None:
        """A request wanted more than there was."""
        self.lowered(0)

    def used(self, now: int) -> float:
        """The highest share of the limit that was used in this period and the one before."""
        least = min(self._least, self._before)
        if now - self._since >= _PERIOD:
            self._before, self._since = self._least, now
            self._least = self.mark = self.whole
        return 1 - least / self.whole

    def lowered(self, amount: int) -> None:
        """So much was left at the least; not to an admitted request."""
        if amount < self._least:
            self._least = max(amount, 0)
            self.mark = max(self._least, self._nearly)
