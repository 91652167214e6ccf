"""Series that should be there, and are not."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.contract import Contract
from mahavishnu.signals import Kind, Source


def missing(names: set[str], made: Contract) -> Iterator[str]:
    """Gauges are there from the start but for those that jobs report; what counts may not have counted yet."""
    for one in made.signals.values():
        known = one.source is Source.RUNTIME and one.kind is Kind.GAUGE and not one.reported
        if known and one.name not in names:
            yield f"there is no {one.name}"
