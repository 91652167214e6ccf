"""MV701: metrics that are forgotten before the promise they prove has run its course."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import Facts, error
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code

CODE = Code(
    "MV701",
    "metrics that live shorter than an SLO's window",
    "What is left of an error budget is computed over the whole window; with part of it forgotten "
    "the number lies.",
    "slos: {yearly: {objective: 99.9%, window: 90d}}\nretention: {metrics: 45d}",
    "Keep metrics at least as long as the longest window.",
)


def check(facts: Facts) -> Iterator[Problem]:
    """The retention of metrics against every window."""
    kept = facts.spec.retention.metrics
    for name, slo in facts.spec.slos.items():
        if slo.period > kept:
            what = f"slo `{name}` looks back {slo.window}, but metrics are kept for {kept}"
            yield error(
                CODE, ("slos", name, "window"), what, f"set `retention.metrics: {slo.window}` or more"
            )
