"""MV706: a retention of backups, and no backups."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import Facts, warning
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code

CODE = Code(
    "MV706",
    "a retention of backups that are not made",
    "Whoever reads `retention` believes that there are snapshots to be kept.",
    "retention: {backups: {daily: 30}}",
    "Say under `backups` what is backed up, or remove the retention.",
)


def check(facts: Facts) -> Iterator[Problem]:
    """Whether the retention is carried out on anything."""
    if facts.spec.retention.backups is not None and not facts.spec.backups:
        what = "`retention.backups` keeps snapshots, and nothing is backed up"
        yield warning(CODE, ("retention", "backups"), what, CODE.help)
