"""Waiting, with an end, until nobody else has something: who has it may run here, or on another machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import uniform
from typing import TypeVar

from mahavishnu.errors import MahavishnuError
from mahavishnu.units import Duration

UNNAMED = "somebody who does not say more"
_LONGEST = 30.0
"""Seconds between two tries, at the most: each one opens the repository."""
_Answer = TypeVar("_Answer")


class Locked(MahavishnuError):
    """Somebody else has it locked; it says who."""


class Busy(MahavishnuError):
    """Others were at it for as long as one waits; it says who."""


@dataclass(frozen=True)
class Patience:
    """How long one waits for `what`, and who `hears`, once for each wait, who has it."""

    what: str
    bound: Duration
    hears: Callable[[str], None]

    def tried(self, attempt: Callable[[], _Answer], pauses: Iterator[float]) -> _Answer:
        """What the first attempt answers that finds it free, after these pauses (s) between two.

        Raises Locked when none did for as long as one waits.
        """
        until = time.monotonic() + float(self.bound.seconds)
        told = False
        while True:
            try:
                return attempt()
            except Locked as fault:
                if not told:
                    self.hears(str(fault))
                    told = True
                if (left := until - time.monotonic()) <= 0:
                    raise
            time.sleep(min(left, next(pauses)))


def growing() -> Iterator[float]:
    """Each pause longer than the one before, and no two the same: two who try at one moment keep each other out."""
    pause = 0.5
    while True:
        yield pause * uniform(0.8, 1.2)  # noqa: S311  only apart, not secret
        pause = min(2 * pause, _LONGEST)
