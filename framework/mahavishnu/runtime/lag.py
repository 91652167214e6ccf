"""How late the event loop is: the first thing to suffer when there is more to do than can be done."""

from __future__ import annotations

from collections.abc import Callable

from mahavishnu.alerts.event_loop import LAG, LATE
from mahavishnu.protocols import Clock, Meter
from mahavishnu.runtime.timer import Timer
from mahavishnu.units import SECOND

PERIOD = 100_000_000
"""How often the loop is looked at, ns."""
LATELY = 30_000_000_000
"""Over how long a mean is taken, ns."""


class Lag:
    """A timer of the event loop that measures how much too late it is called.

    `late` is called with it, in ns, whenever it is more than 100 ms: it tells the limits that learn from
    durations, which the lag is a part of. One for each process; it belongs to the loop that starts it.
    """

    def __init__(self, clock: Clock, meter: Meter, late: Callable[[int], None]) -> None:
        self._clock = clock
        self.late = late
        self._cell = meter.histogram(LAG)
        self._timer = Timer(clock, self._look)
        self._expected = 0
        self.mean = 0.0
        """How late it was in the last period of `LATELY`, in seconds."""
        self._since = clock.now()
        self._looks = self._sum = 0

    def start(self) -> None:
        """Measure from now on, on the running loop; again: on this one instead of the one before."""
        self._arm()

    def stop(self) -> None:
        """Measure no more."""
        self._timer.stop()

    def _arm(self) -> None:
        self._expected = self._clock.now() + PERIOD
        self._timer.start(PERIOD)

    def _look(self) -> None:
        now = self._clock.now()
        lag = max(0, now - self._expected)
        self._cell.observe(lag / SECOND)
        self._average(lag, now)
        if lag > LATE:
            self.late(lag)
        self._arm()

    def _average(self, lag: int, now: int) -> None:
        self._looks += 1
        self._sum += lag
        if now - self._since >= LATELY:
            self.mean = self._sum / self._looks / SECOND
            self._looks = self._sum = 0
            self._since = now
