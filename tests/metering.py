"""What a policy's series say, read as a scrape would."""

from __future__ import annotations

from mahavishnu.contract import merge
from mahavishnu.policy import Policy
from mahavishnu.runtime.telemetry.metrics import Metrics
from mahavishnu.signals import Signal


def metrics_for(*policies: Policy, name: str = "stripe", also: tuple[Signal, ...] = ()) -> Metrics:
    """The real meter, of the series that these policies and nobody else show."""
    shown = merge([*(one for policy in policies for one in policy.signals(name)), *also])
    return Metrics({one.name: one for one in shown})


def value(metrics: Metrics, series: str, **labels: str) -> float:
    """The sum of the samples of that name whose labels include these; raises KeyError when there is none."""
    found = [
        sample.value
        for family in metrics.collect()
        for sample in family.samples
        if sample.name == series and labels.items() <= sample.labels.items()
    ]
    if not found:
        raise KeyError(f"{series} {labels}")
    return sum(found)
