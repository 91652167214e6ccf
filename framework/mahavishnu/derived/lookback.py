"""How far back an alert looks: what is asked about it, at once or the morning after, looks as far."""

from __future__ import annotations

from typing import NamedTuple

from mahavishnu.contract import Contract
from mahavishnu.signals import WINDOW, Alert
from mahavishnu.units import HOUR, MINUTE, Duration

DAY = Duration.parse("1d")
"""So far back is asked of everything: an alert of the night may be over when somebody reads its page."""
_LOG, _LONGEST_LOG = Duration.parse("15m"), DAY
_STEPS = 288


class Lookback(NamedTuple):
    """The shortest and the longest window of an alert's condition."""

    short: Duration
    long: Duration

    @property
    def log(self) -> Duration:
        """How much of a log is read: it fires only where something is wrong in its shortest window, too."""
        return min(max(self.short, _LOG), _LONGEST_LOG)

    @property
    def window(self) -> Duration:
        """Over what the series behind it are asked for."""
        return max(self.long, WINDOW)


def lookback(made: Contract, alert: Alert) -> Lookback:
    """That of an alert; of recorded series, that of what they are made of."""
    windows = [one.window for one in made.bases(alert.expr) if one.window is not None] or [WINDOW]
    return Lookback(min(windows), max(windows))


def step(long: Duration) -> Duration:
    """How far apart the points of such a time are, when it is asked for as a whole."""
    minutes = -(-int(long) // (_STEPS * MINUTE))
    return max(WINDOW, Duration(minutes * MINUTE))


def ago(back: Duration) -> str:
    """A length of time in one unit, as Docker, kubectl and Grafana all read it."""
    return f"{back // MINUTE}m" if back % HOUR else f"{back // HOUR}h"
