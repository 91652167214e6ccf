"""Whether the event loop of a process comes round in time."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from mahavishnu.signals import WINDOW, Across, Alert, Feed, Kind, Severity, Signal, Unit
from mahavishnu.units import Duration

LATE = Duration.parse("100ms")
"""By how much an event loop may be late: more is overload, whatever else is measured."""
LAG = Signal(
    "mahavishnu_event_loop_lag_seconds",
    Kind.HISTOGRAM,
    "How late the event loop runs what is due, looked at ten times a second.",
    buckets=tuple(
        map(Decimal, ("0.001", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5"))
    ),
    waived="Added up over workers: how late each was is looked at; the one that is the latest is an alert.",
    unit=Unit.LOOKS,
)
LAG_LATELY = Signal(
    "mahavishnu_event_loop_late_seconds",
    Kind.GAUGE,
    "How late the event loop ran what was due, on the average of the last whole half minute; of workers, the latest.",
    across=Across.MAX,
    unit=Unit.SECONDS,
)


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
