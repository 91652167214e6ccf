"""Series that should be there, and are not."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.contract import Contract
from mahavishnu.signals import Source, exposed


def missing(names: set[str], made: Contract) -> Iterator[str]:
    """Those of the process are there from its start, but for what jobs report, and for labels of unknown values."""
    for name, one in exposed(made.signals.values()).items():
        known = all(label.values is not None for label in one.labels)
        if one.source is Source.RUNTIME and not one.reported and known and name not in names:
            yield f"there is no {name}"
