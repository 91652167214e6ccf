"""The counters of one limit, and what a request beyond it is told."""

from __future__ import annotations

from dataclasses import dataclass

from mahavishnu.protocols import Counter, Decision, Meter
from mahavishnu.runtime.limits.margin import Margin
from mahavishnu.series import LIMIT_DECISIONS, LIMIT_NEAR


@dataclass(frozen=True, slots=True)
class Cells:
    """The counters of one limit."""

    allowed: Counter
    refused: Counter
    observed: Counter
    near: Counter

    @classmethod
    def of(cls, name: str, meter: Meter) -> Cells:
        """Those of the limit with this name."""
        outcomes = ("allowed", "refused", "observed")
        allowed, refused, observed = (
            meter.counter(LIMIT_DECISIONS, limit=name, outcome=one) for one in outcomes
        )
        return cls(allowed, refused, observed, meter.counter(LIMIT_NEAR, limit=name))

    def beyond(self, mode: str, margin: Margin, refusal: Decision) -> Decision | None:
        """The refusal of what is beyond the limit, which is counted; None where the limit only observes."""
        margin.exceeded()
        if mode == "observe":
            self.observed.inc()
            return None
        self.refused.inc()
        return refusal
