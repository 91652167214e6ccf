"""Whether the event loop of a process comes round in time."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from mahavishnu.series import LAG, LAG_LATELY, LATE
from mahavishnu.signals import WINDOW, Alert, Feed, Severity, Signal


def signals(_: object) -> Iterator[Signal]:
    """How late it is, as a histogram and as a gauge."""
    yield LAG
    yield LAG_LATELY


def alerts(_: object) -> Iterator[Alert]:
    """It is late for minutes."""
    yield _lagging()


def _lagging() -> Alert:
    """By a gauge: a late loop is looked at less often than those of workers that rest, and is lost in a sum."""
    late = LAG_LATELY.select()
    return Alert(
        name="EventLoopLagging",
        severity=Severity.P3,
        expr=late.over(WINDOW, "avg_over_time") > LATE.seconds,
        hold=WINDOW,
        summary="The event loop runs everything $value late.",
        unit="seconds",
        meaning=f"What is due is run more than {LATE} late on average, for {WINDOW}: "
        "the processor is busy, or a handler blocks.",
        impact="Every request takes that much longer, and timeouts fire late; adaptive limits let in less.",
        action="Look for blocking calls in async handlers and for heavy work in the process; then add replicas.",
        path=("service",),
        proof=(Feed(late, healthy=Decimal("0.001"), faulty=Decimal("0.3")),),
    )
