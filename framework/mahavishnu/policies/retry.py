"""Trying again: full jitter, a budget shared by all callers, only where it is safe and there is time."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from mahavishnu.policy import Policy
from mahavishnu.units import Duration, Percent

Status = Annotated[int, Field(strict=True, ge=400, le=599)]


class Retry(Policy):
    """Repeat a failed attempt, with full jitter, while the budget and the deadline allow it."""

    keyword: ClassVar[str] = "retry"

    attempts: Annotated[int, Field(strict=True, ge=1, le=10)] = 3
    """The total number of tries, the first included."""
    base: Duration = Duration.parse("100ms")
    """The ceiling of the first pause; it doubles with every try."""
    max: Duration = Duration.parse("2s")
    """The ceiling of every pause."""
    budget: Percent = Percent(Decimal("0.2"))
    """How many retries all callers together may add, as a share of their calls."""
    retry_on: tuple[Literal["timeout", "connect"] | Status, ...] = ("timeout", "connect", 502, 503, 504)
    """What is worth another try: `timeout`, `connect`, or a status of an HTTP response."""
