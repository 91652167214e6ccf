"""The steps of all backups, each done when it is due, by children of their own: one that fails ends no other."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from mahavishnu.backup.due import ALIVE, Due, dues
from mahavishnu.backup.job import Tell, job
from mahavishnu.load import Loaded

_TICK = 15


def forever(loaded: Loaded, state: Path, options: Sequence[str], tell: Tell) -> None:
    """Do each step when it is due, until the process is ended; a step that still runs is not begun again."""
    queue = [due for name, backup in loaded.spec.backups.items() for due in dues(name, backup)]
    begin = [sys.executable, "-m", "mahavishnu"]

    def begun(due: Due) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*begin, *due.words, *options])

    Loop(queue, begun, tell, state, last=succeeded(loaded, tell)).run()


def succeeded(loaded: Loaded, tell: Tell) -> Callable[[Due], datetime | None]:
    """Since when nothing is owed of a step, by the reports of the jobs; None where nobody knows."""

    def last(due: Due) -> datetime | None:
        copies = job(loaded, due.backup, tell).known().copies.values()
        said = [{"run": one.success, "drill": one.drilled}.get(due.step) for one in copies]
        known = [one for one in said if one is not None]
        return datetime.fromtimestamp(min(known), UTC) if known else None

    return last


class Loop:
    """Begins what is due, and hears how it ended; `clock` is injected, and when each step `last` succeeded."""

    def __init__(
        self,
        queue: Sequence[Due],
        begin: Callable[[Due], subprocess.Popen[bytes]],
        tell: Tell,
        state: Path,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        last: Callable[[Due], datetime | None] = lambda _: None,
    ) -> None:
        self._begin, self._tell, self._state, self._clock = begin, tell, state, clock
        self._seen = self._began = clock()
        since: dict[Due, datetime] = {due: min(last(due) or self._seen, self._seen) for due in queue}
        self._next: dict[Due, datetime] = {due: due.schedule.after(moment) for due, moment in since.items()}
        self._running: dict[Due, subprocess.Popen[bytes]] = {}

    def run(self) -> None:
        """Look at the schedule every few seconds."""
        try:
            while True:
                self.look()
                time.sleep(_TICK)
        finally:
            for child in self._running.values():
                child.terminate()
            for child in self._running.values():
                child.wait()

    def look(self) -> None:
        """Begin what is due now, each once, however late it is; a clock that was set back is believed from then on."""
        self._state.mkdir(parents=True, exist_ok=True)
        (self._state / ALIVE).touch()
        now = self._clock()
        for due, child in [*self._running.items()]:
            if child.poll() is not None:
                del self._running[due]
                self._tell("ended", step=" ".join(due.words[1:3]), code=child.returncode)
        if now < self._seen:
            self._next = {due: due.schedule.after(now) for due in self._next}
        self._seen = now
        for due, at in self._next.items():
            if at <= now and not self._premature(due, at):
                self._next[due] = due.schedule.after(now)
                self._tell("late" if due in self._running else "due", step=" ".join(due.words[1:3]))
                if due not in self._running:
                    self._running[due] = self._begin(due)

    def _premature(self, due: Due, at: datetime) -> bool:
        """Whether it is made up for while the run that it is to prove is, too."""
        runs = (one for one in self._running if one.step == "run" and one.backup == due.backup)
        return at <= self._began and due.step != "run" and any(runs)
