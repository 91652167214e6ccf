"""What a process that traces shows of the spans it sends, and the alert that some are lost."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.events import SPANS_NOT_EXPORTED
from mahavishnu.promql import total
from mahavishnu.signals import WINDOW, Alert, Feed, Kind, Label, Severity, Signal, Unit
from mahavishnu.spec import Spec
from mahavishnu.units import Duration

SPANS = Signal(
    "mahavishnu_spans_total",
    Kind.COUNTER,
    "Spans of sampled traces: exported, dropped (too many waited), or failed (the collector did not take them).",
    (Label("outcome", ("exported", "dropped", "failed")),),
    unit=Unit.SPANS,
)


def signals(spec: Spec) -> Iterator[Signal]:
    """What became of the spans, where there are any."""
    if spec.observability.traces is not None:
        yield SPANS


def alerts(spec: Spec) -> Iterator[Alert]:
    """Spans that a collector does not take, or not fast enough; one that is replaced takes seconds, not minutes."""
    if spec.observability.traces is not None:
        yield _lost()


def _lost() -> Alert:
    return Alert(
        name="SpansLost",
        severity=Severity.P4,
        expr=total(SPANS.rate(WINDOW, outcome_not="exported")) > 0,
        hold=Duration.parse("10m"),
        summary="$value spans a second are lost: traces have gaps, or are missing.",
        meaning="The collector at `observability.traces.otlp` does not take spans (failed), or slower than they "
        "come (dropped).",
        impact="No request is touched; whoever looks for one will not find it, or not all of it.",
        action=f"Read `{SPANS_NOT_EXPORTED}` in the service's log, which says why. Where spans are dropped, keep a "
        "smaller share of the traces with `observability.traces.sample`.",
        path=("observability", "traces", "otlp"),
        proof=(Feed(SPANS.select(outcome="failed"), healthy=0, faulty=60),),
    )
