"""MV702: backups that are made too seldom for what may be lost."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import Facts, error
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code

CODE = Code(
    "MV702",
    "an RPO that the schedule cannot hold",
    "Just before the next backup the last one is as old as the longest pause of the schedule, and the next one takes "
    "its time: with less than that the alert would fire every day.",
    'backups: {orders: {schedule: "0 2 * * *", rpo: 12h}}',
    "Back up more often, or allow an RPO that is a little longer than the longest pause.",
)


def check(facts: Facts) -> Iterator[Problem]:
    """The longest pause of every schedule against its RPO."""
    for name, backup in facts.spec.backups.items():
        _, longest = backup.schedule.gaps()
        if backup.rpo <= longest:
            what = f"backup `{name}` pauses for up to {longest}: rpo {backup.rpo} cannot hold"
            help = "run it more often, or allow a little more than the pause and the run itself"
            yield error(CODE, ("backups", name, "rpo"), what, help)
