"""An alert on a condition that the spec writes itself: `memory > 90%`."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from mahavishnu.policy import Policy
from mahavishnu.signals import Severity
from mahavishnu.units import Duration


class Threshold(Policy):
    """Raise an alert when a measured value stays beyond a bound."""

    keyword: ClassVar[str] = "when"
    later: ClassVar[frozenset[str]] = frozenset({"query"})

    when: str
    """`<signal> <comparison> <value>`."""
    hold: Duration = Field(default=Duration.parse("5m"), alias="for")
    """How long it must last before anyone is told."""
    severity: Severity
    """How fast a person must act."""
