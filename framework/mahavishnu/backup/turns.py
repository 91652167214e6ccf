"""Whose turn it is to work on something: others wait, are told at once for whom, and give up in the end."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from pathlib import Path

from mahavishnu.backup import child
from mahavishnu.backup.patience import UNNAMED, Busy, Locked, Patience
from mahavishnu.errors import MahavishnuError
from mahavishnu.ground import variables

_PAUSE = 0.1
"""Seconds between two tries: the system's own waiting has no end."""
_ENDED = "-"


@dataclass(frozen=True)
class Turn:
    """The `lock` that stands for what is worked on, and the patience with who has it."""

    lock: Path
    patience: Patience

    @contextmanager
    def taken(self, who: Callable[[], str], *, beside: bool = False) -> Generator[None]:
        """Hold it, so that nobody else works on it, or only others who are `beside`, too; raises Busy.

        It is free when whoever held it has ended, and all that he has left behind. `who` is what others read meanwhile.
        """
        held = self._opened()
        try:
            self._wait(held, fcntl.LOCK_SH if beside else fcntl.LOCK_EX)
            with child.locked(held), _signed(held, who(), beside):
                yield
        finally:
            os.close(held)

    def _opened(self) -> int:
        try:
            self.lock.parent.mkdir(parents=True, exist_ok=True)
            return os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as fault:
            raise self._unfit("cannot be written", fault) from None

    def _wait(self, held: int, how: int) -> None:
        try:
            self.patience.tried(partial(self._take, held, how), repeat(_PAUSE))
        except Locked as holders:
            raise Busy(
                f"{self.patience.what} was not free for {self.patience.bound}: held by {holders}. "
                "End that process, and what it has begun; or wait longer, with --wait"
            ) from None

    def _take(self, held: int, how: int) -> None:
        try:
            fcntl.flock(held, how | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Locked(" and ".join(_written(self.lock)) or UNNAMED) from None
        except OSError as fault:
            raise self._unfit("knows no locks", fault) from None

    def _unfit(self, why: str, fault: OSError) -> MahavishnuError:
        return MahavishnuError(
            f"`{self.lock.parent}` {why}: {fault.strerror}; {variables.STATE} names another"
        )


@contextmanager
def _signed(held: int, who: str, beside: bool) -> Generator[None]:
    """Say in the lock who holds it; what was said before is over where nobody is beside."""
    with suppress(OSError):  # a full disk keeps nobody from a restore
        if not beside:
            os.ftruncate(held, 0)
        os.write(held, f"{who}\n".encode())
    try:
        yield
    finally:
        with suppress(OSError):
            os.write(held, f"{_ENDED}{who}\n".encode())


def _written(lock: Path) -> list[str]:
    """Those who have said that they hold it, and not that they have ended."""
    there: list[str] = []
    for line in lock.read_text(encoding="utf-8", errors="replace").splitlines():
        who = line.removeprefix(_ENDED)
        there = [*there, line] if who == line else [one for one in there if one != who]
    return there
