"""MV703: a history that was promised, and that the retention does not keep."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import Facts, error
from mahavishnu.derived.history import days
from mahavishnu.errors import Path, Problem
from mahavishnu.ground.codes import Code
from mahavishnu.snapshots.retention import guaranteed

CODE = Code(
    "MV703",
    "fewer days of backups than were promised",
    "Six monthly snapshots are not six months: on the first of a month the oldest of them is the last of five months "
    "before, four whole months away.",
    "retention: {backups: {daily: 30, monthly: 6, retain_at_least: 180d}}",
    "Keep more, or promise what is guaranteed; `mahavishnu check` prints it.",
)


def check(facts: Facts) -> Iterator[Problem]:
    """What every backup's retention guarantees against its promise."""
    told: set[Path] = set()
    for name, backup in facts.spec.backups.items():
        keep = facts.spec.keeps(name)
        if keep is None or keep.retain_at_least is None:
            continue
        span = guaranteed(keep, backup.schedule)
        above: Path = ("backups", name, "retention") if backup.retention else ("retention", "backups")
        if span < keep.retain_at_least and above not in told:
            told.add(above)
            what = f"backup `{name}` ({keep.text}) guarantees {days(span)}, not {days(keep.retain_at_least)}"
            yield error(CODE, (*above, "retain_at_least"), what, "count one or two periods more: the first and the "
                        "last of them are not whole")  # fmt: skip
