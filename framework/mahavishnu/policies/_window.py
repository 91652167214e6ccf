"""Counts over a time window: a ring of twenty buckets with running totals, so that reading and adding are O(1)."""

from __future__ import annotations

BUCKETS = 20


class Window:
    """So many counts side by side; the caller numbers the buckets, as its clock does."""

    __slots__ = ("_ring", "_slot", "index", "totals")

    def __init__(self, columns: int) -> None:
        self._ring = [[0] * columns for _ in range(BUCKETS)]
        self._slot = self._ring[0]
        self.totals = [0] * columns
        self.index = 0

    def advance(self, index: int) -> None:
        """The newest bucket is this one from now on; those that left the window are forgotten."""
        for step in range(max(1, index - self.index - BUCKETS + 1), index - self.index + 1):
            slot = self._slot = self._ring[(self.index + step) % BUCKETS]
            for column, count in enumerate(slot):
                self.totals[column] -= count
                slot[column] = 0
        self.index = max(index, self.index)

    def gather(self, index: int) -> None:
        """Put all that is in the window into its newest bucket, whose number is now this one."""
        for slot in self._ring:
            slot[:] = [0] * len(self.totals)
        self._slot = self._ring[index % BUCKETS]
        self._slot[:] = self.totals
        self.index = index

    def add(self, column: int, count: int = 1) -> None:
        """Count in the newest bucket."""
        self._slot[column] += count
        self.totals[column] += count

    def take_back(self, column: int, index: int) -> None:
        """Uncount one that was counted in this bucket, unless that has left the window."""
        if index > self.index - BUCKETS:
            self._ring[index % BUCKETS][column] -= 1
            self.totals[column] -= 1
