"""The steps of all backups, each done when it is due, by children of their own: one that fails ends no other."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from mahavishnu.backup.due import ALIVE, Due, dues
from mahavishnu.backup.job import Tell
from mahavishnu.load import Loaded

_TICK = 15


def forever(loaded: Loaded, state: Path, options: Sequence[str], tell: Tell) -> None:
    """Do each step when it is due, until the process is ended; a step that still runs is not begun again."""
    queue = [due for name, backup in loaded.spec.backups.items() for due in dues(name, backup)]
    begin = [sys.executable, "-m", "mahavishnu"]
    Loop(queue, lambda due: subprocess.Popen([*begin, *due.words, *options]), tell, state).run()


class Loop:
    """Begins what is due, and hears how it ended; `clock` and `pause` are injected."""

    def __init__(
        self,
        queue: Sequence[Due],
        begin: Callable[[Due], subprocess.Popen[bytes]],
        tell: Tell,
        state: Path,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._begin, self._tell, self._state, self._clock = begin, tell, state, clock
        self._seen = clock()
        self._next: dict[Due, datetime] = {due: due.schedule.after(self._seen) for due in queue}
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
            if at <= now:
                self._next[due] = due.schedule.after(now)
                self._tell("late" if due in self._running else "due", step=" ".join(due.words[1:3]))
                if due not in self._running:
                    self._running[due] = self._begin(due)
