"""How much history the backups of a spec guarantee, said before any of it exists."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.snapshots.retention import guaranteed, most
from mahavishnu.spec import Spec
from mahavishnu.units import DAY, Duration


def promises(spec: Spec) -> Iterator[str]:
    """One sentence for each backup: how many snapshots at the most, and how far back they reach at the least."""
    for name, backup in spec.backups.items():
        keep = spec.keeps(name)
        if keep is None:
            yield f"backup `{name}` keeps every snapshot"
        else:
            span = days(guaranteed(keep, backup.schedule))
            count = most(keep, backup.schedule)
            yield f"backup `{name}` ({keep.text}) keeps at most {count} snapshots, at least {span}"


def days(length: Duration) -> str:
    """A length of time in whole days; what is shorter than two as it is."""
    whole = int(length) // DAY
    return f"{whole} days" if whole > 1 else str(length)
