"""What a shared store shows of itself: calls by outcome, their duration, and whether it is asked at all."""

from __future__ import annotations

from collections.abc import Callable

from mahavishnu.alerts.shared_store import STORE_CALLS, STORE_DURATION, STORE_UP
from mahavishnu.protocols import Meter


class Outcomes:
    """The cells of one store."""

    __slots__ = ("duration", "error", "ok", "skipped", "timeout")

    def __init__(self, meter: Meter, up: Callable[[], bool]) -> None:
        self.ok, self.error, self.timeout, self.skipped = (
            meter.counter(STORE_CALLS, outcome=one) for one in ("ok", "error", "timeout", "skipped")
        )
        self.duration = meter.histogram(STORE_DURATION)
        meter.gauge(STORE_UP, lambda: float(up()))
