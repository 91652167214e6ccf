"""Stop calling what fails: a breaker over a time window, with failure and slow-call rates and leased probes."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from mahavishnu.policy import Count, Policy
from mahavishnu.units import Duration, Percent


class Breaker(Policy):
    """Opens when too many calls in the window fail or are slow; then lets a few probes through and decides."""

    keyword: ClassVar[str] = "breaker"

    failure_rate: Percent | None = None
    """Opens when this share of the window's calls failed."""
    slow_call: Duration | None = None
    """A call that takes longer counts as slow."""
    slow_rate: Percent | None = None
    """Opens when this share of the window's calls was slow; the failure rate when absent."""
    consecutive_failures: Count | None = None
    """Opens after so many failures in a row."""
    min_calls: Count = 20
    """No rate is judged on fewer calls than this."""
    window: Duration = Duration.parse("30s")
    """Over which time the rates are measured."""
    open_for: Duration = Duration.parse("30s")
    """How long it stays open before the first probe."""
    probes: Annotated[int, Field(strict=True, ge=1, le=100)] = 3
    """How many calls are let through at once to see whether the dependency is well again."""
