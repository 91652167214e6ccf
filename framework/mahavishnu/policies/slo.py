"""Service level objectives, and the multi-window multi-burn-rate alerts that guard their error budgets."""

from __future__ import annotations

from typing import ClassVar, Literal

from mahavishnu.policy import Match, Policy
from mahavishnu.signals import Severity
from mahavishnu.units import Duration, Percent


class Slo(Policy):
    """A promise over a rolling window: the share of requests that succeed or, with `under`, that are fast enough."""

    keyword: ClassVar[str] = "objective"
    later: ClassVar[frozenset[str]] = frozenset({"query"})

    objective: Percent
    """The promised share of good requests."""
    under: Duration | None = None
    """A request is good when it takes no longer than this; without it, when it is not answered with 5xx."""
    window: Literal["7d", "28d", "30d", "90d"] = "30d"
    """Over which time the promise is kept."""
    match: Match | None = None
    """Which requests the promise is about."""
    severities: tuple[Severity, ...] = tuple(Severity)
    """Which burn rates raise an alert: P1 the fastest, P4 the slowest."""
