"""Which steps of a backup are due when: said without what carries them out, for those who only write it down."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mahavishnu.ground.cron import Schedule
from mahavishnu.policies.backup import Backup

ALIVE = "alive"
"""A file in the folder of evidence whose time says that somebody still looks at the schedule."""
_DRILLS = {"daily": "* * *", "weekly": "* * 0", "monthly": "1 * *"}


@dataclass(frozen=True)
class Due:
    """A step with the words of its command, and when it is due."""

    step: str
    words: tuple[str, ...]
    schedule: Schedule

    @property
    def backup(self) -> str:
        """The name of what it is a step of."""
        return self.words[2]


def dues(name: str, backup: Backup) -> Iterator[Due]:
    """The three steps of a backup: run (and prune), a nightly verification after it, and the drill."""
    yield Due("run", ("backup", "run", name, "--prune"), backup.schedule)
    yield Due("verify", ("backup", "verify", name), Schedule.parse(f"{backup.schedule.shifted(120)} * * *"))
    drill = f"{backup.schedule.shifted(240)} {_DRILLS[backup.verify.restore]}"
    yield Due("drill", ("backup", "drill", name), Schedule.parse(drill))
