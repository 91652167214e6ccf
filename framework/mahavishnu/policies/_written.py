"""What policies on conditions of the spec's own share: how a query is written, and how long one may wait."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from mahavishnu.ground.unfit import unfit
from mahavishnu.units import Duration

LONGEST_HOLD = Duration.parse("7d")
Query = Annotated[
    str,
    StringConstraints(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=500),
    Field(examples=['mahavishnu_dependency_calls_total{dependency="payment"}']),
]
"""A query in PromQL, read by `mahavishnu.queries.written`."""


def not_too_long(hold: Duration) -> Duration:
    """The hold itself, when somebody is still told in time."""
    if hold > LONGEST_HOLD:
        what = f"an alert that waits for {hold} tells nobody in time"
        help = f"wait for {LONGEST_HOLD} at most"
        raise unfit(what, help)
    return hold
