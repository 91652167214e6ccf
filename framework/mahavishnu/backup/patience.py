"""Waiting until nobody has a repository locked: who has it may run on another machine, and share no file with us."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import uniform
from typing import TypeVar

from mahavishnu.backup.turns import Busy
from mahavishnu.errors import MahavishnuError
from mahavishnu.units import Duration

_LONGEST = 30.0
"""Seconds between two tries, at the most: each one opens the repository."""
_Answer = TypeVar("_Answer")


class Locked(MahavishnuError):
    """Somebody else has it locked; it says who."""


@dataclass(frozen=True)
class Patience:
    """How long one waits for `what`, and who `hears`, once for each wait, who has it."""

    what: str
    bound: Duration
    hears: Callable[[str], None]

    def tried(self, attempt: Callable[[], _Answer]) -> _Answer:
        """What the first attempt answers that finds it free; raises Busy when none did for as long as one waits."""
        until = time.monotonic() + float(self.bound.seconds)
        pauses = _pauses()
        try:
            return attempt()
        except Locked as fault:
            holder = str(fault)
        self.hears(holder)
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, next(pauses)))
            try:
                return attempt()
            except Locked as fault:
                holder = str(fault)
        raise Busy(self._given_up(holder))

    def _given_up(self, holder: str) -> str:
        return f"{self.what} was locked for {self.bound} by {holder}. End that process; or wait longer, with --wait"


def _pauses() -> Iterator[float]:
    """Each longer than the one before, and no two the same: two who try at one moment keep each other out."""
    pause = 0.5
    while True:
        yield pause * uniform(0.8, 1.2)  # noqa: S311  only apart, not secret
        pause = min(2 * pause, _LONGEST)
