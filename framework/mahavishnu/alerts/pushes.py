"""What became of series that are pushed to a collector."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.signals import Alert, Kind, Label, Signal, Unit
from mahavishnu.spec import Spec

PUSHES = Signal(
    "mahavishnu_otlp_pushes_total",
    Kind.COUNTER,
    "How often these series were pushed to the collector, by whether it took all of them, a part, or none.",
    (Label("outcome", ("ok", "partial", "failed")),),
    waived="Where they fail nobody who is pushed to sees it; the log says so, and the collector knows who is silent.",
    unit=Unit.PUSHES,
)


def signals(spec: Spec) -> Iterator[Signal]:
    """How often they were pushed, where they are."""
    if spec.observability.metrics.otlp is not None:
        yield PUSHES


def alerts(_: object) -> tuple[Alert, ...]:
    """None: where pushes fail, nobody who is pushed to sees it."""
    return ()
