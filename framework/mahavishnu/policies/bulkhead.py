"""How many calls to a dependency run at once, and how long the next one waits."""

from __future__ import annotations

from typing import ClassVar

from mahavishnu.policy import Count, Policy
from mahavishnu.units import Duration


class Bulkhead(Policy):
    """At most so many calls at once in one process; the next waits a moment and is then refused."""

    keyword: ClassVar[str] = "bulkhead"

    concurrency: Count
    """How many calls run at once."""
    wait: Duration | None = None
    """How long a call waits for a place; not at all when absent."""
