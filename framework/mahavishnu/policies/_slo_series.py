"""What is recorded of an objective."""

from __future__ import annotations

from mahavishnu.signals import Kind, Label, Signal, Source
from mahavishnu.units import Duration


def ratio_signal(window: Duration, slo: str) -> Signal:
    """The recorded share of bad requests over a window."""
    text = f"Share of bad requests over {window}, for each SLO."
    return Signal(
        f"slo:sli_error:ratio_rate{window}", Kind.GAUGE, text, (Label("slo", (slo,)),), source=Source.RULE
    )


def events_signal(window: Duration, slo: str) -> Signal:
    """The recorded number of events over a window."""
    text = f"Events of the last {window}, for each SLO that waits for some."
    labels = (Label("slo", (slo,)),)
    return Signal(f"slo:sli_events:increase{window}", Kind.GAUGE, text, labels, source=Source.RULE)


def budget_signal(slo: str) -> Signal:
    """The recorded share of the error budget that is left; below zero when more than all of it is spent."""
    text = "Share of the error budget that is left in its window, for each SLO."
    return Signal(
        "slo:error_budget:remaining_ratio", Kind.GAUGE, text, (Label("slo", (slo,)),), source=Source.RULE
    )
