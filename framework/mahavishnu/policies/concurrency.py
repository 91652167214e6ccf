"""How many requests run at once, and how many may wait for how long."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from mahavishnu.policy import Count, Limit, not_yet
from mahavishnu.units import Duration


class Concurrency(Limit):
    """At most so many matching requests at once; the rest wait in a bounded queue or are refused."""

    keyword: ClassVar[str] = "concurrency"
    later: ClassVar[frozenset[str]] = frozenset({"max"})

    concurrency: Annotated[Count, not_yet("adaptive")]
    """How many requests run at once in one process."""
    queue: Annotated[int, Field(strict=True, ge=0, le=1_000_000)] = 0
    """How many more may wait for a place."""
    wait: Duration = Duration.parse("1s")
    """How long one of them waits at the most."""
