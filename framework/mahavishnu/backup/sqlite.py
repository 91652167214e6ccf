"""A SQLite database: copied while it is in use, looked into, and put in the place of another one."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import stat
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from itertools import count
from pathlib import Path

from mahavishnu.errors import MahavishnuError
from mahavishnu.files import folder

_SIDES = ("-wal", "-shm", "-journal", "")
"""What belongs to a database, and it itself last: never alone in its place, as if it were all."""
_PATIENCE = 60
_TRY = 0.25
"""Seconds for which a database may be locked, and one try to read it."""

_FIRST_LOCKED, _LOCKED = 2**30, 512
"""The bytes of a database that stand for its locks: whoever has it open in WAL mode, reads or writes holds some."""
_PROCESSES = Path("/proc")
_STOP = "stop what uses it, and then try again"


class SqliteFailed(MahavishnuError):
    """It cannot be copied, or it is not sound."""


@contextmanager
def _opened(path: Path, mode: str, timeout: float = _PATIENCE) -> Generator[sqlite3.Connection]:
    where = f"{path.absolute().as_uri()}?mode={mode}"
    with closing(sqlite3.connect(where, uri=True, timeout=timeout)) as opened:
        yield opened


def copy(source: Path, to: Path) -> None:
    """SQLite's online backup, in one step: readers and, in WAL mode, writers go on meanwhile; raises SqliteFailed."""
    if not source.is_file():
        raise SqliteFailed(f"there is no database at {source}")
    until = time.monotonic() + _PATIENCE

    def tried(status: int, _remaining: int, _pages: int) -> None:
        if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) and time.monotonic() > until:
            raise SqliteFailed(f"{source} is locked by somebody for longer than {_PATIENCE} seconds")

    try:
        # A database in WAL mode cannot be read without its side files, which are then made beside it.
        with _opened(source, "rw", _TRY) as live, closing(sqlite3.connect(to)) as made:
            live.backup(made, progress=tried, sleep=0)  # which itself would try for ever, and hear no signal
            said = made.execute("pragma quick_check(1)").fetchone()
    except sqlite3.Error as fault:
        raise SqliteFailed(f"{source} cannot be copied: {fault}") from None
    if said != ("ok",):
        raise SqliteFailed(f"{source} is damaged: {said[0]}")


def judge(path: Path, claim: str | None) -> None:
    """Whether a database is sound, has tables, and the claim about it holds, if there is one; raises SqliteFailed."""
    try:
        with _opened(path, "ro") as opened:
            said = [str(row[0]) for row in opened.execute("pragma integrity_check(3)")]
            tables = opened.execute("select count(*) from sqlite_master where type = 'table'").fetchone()[0]
            rows = opened.execute(claim).fetchmany(2) if claim else [(1,)]
    except sqlite3.Error as fault:
        raise SqliteFailed(f"the restored database cannot be asked: {fault}") from None
    if said != ["ok"]:
        raise SqliteFailed(f"the restored database is damaged: {said[0]}")
    if not tables:
        raise SqliteFailed("the restored database has no table")
    if [tuple(row) for row in rows] != [(1,)]:
        raise SqliteFailed("the `assert` of the spec does not hold in the restored database")


def replace(place: Path, restored: Path) -> str:
    """Put a database in a place; where what was there is from then on (empty: nothing was)."""
    place = place.resolve()  # where it lies; a link to it stays one
    place.parent.mkdir(parents=True, exist_ok=True)
    new = place.with_name(f"{place.name}.restored")
    new.unlink(missing_ok=True)
    new.touch(mode=0o600)
    shutil.copyfile(restored, new)
    _given_as(new, place)
    folder.sync(new)
    try:
        with unused(place):
            kept = _set_aside(place)
            new.replace(place)
    finally:
        new.unlink(missing_ok=True)
    folder.sync(place.parent)
    return kept


@contextmanager
def unused(place: Path, processes: Path = _PROCESSES) -> Generator[None]:
    """Hold a database, if there is one, as SQLite does that writes to it; raises SqliteFailed while others use it.

    Whoever has it open goes on with the file that is set aside, and what he writes is lost with it.
    """
    with ExitStack() as stack:
        if place.exists():
            if others := {*_users(place, processes)}:
                raise SqliteFailed(f"{place} is open in process {', '.join(sorted(others))}: {_STOP}")
            try:
                file = stack.enter_context(place.open("r+b"))
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, _LOCKED, _FIRST_LOCKED)
            except BlockingIOError:
                raise SqliteFailed(f"{place} is locked by somebody: {_STOP}") from None
            except OSError as fault:
                raise SqliteFailed(f"{place} cannot be locked: {fault.strerror}") from None
        yield


def _users(place: Path, processes: Path) -> Iterator[str]:
    """The other processes, as far as they can be seen, that have a file open."""
    meant, own = place.stat(), str(os.getpid())
    for process in processes.glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is somebody else's
            found = [one.stat() for one in (process / "fd").iterdir() if one.exists()]
            if process.name != own and any(os.path.samestat(meant, one) for one in found):
                yield process.name


def _given_as(new: Path, place: Path) -> None:
    """The owner and the rights of the file that it replaces; where there is none, the owner of the folder."""
    there = place.exists()
    like = (place if there else place.parent).stat()
    with suppress(PermissionError):  # only root can give something away
        os.chown(new, like.st_uid, like.st_gid)
    if there:
        new.chmod(stat.S_IMODE(like.st_mode))


def _set_aside(place: Path) -> str:
    """Rename a database with what belongs to it, which must not meet the new one; the name that nothing had yet."""
    there = [side for side in _SIDES if Path(f"{place}{side}").exists()]
    if not there:
        return ""
    names = (f"{place}.before-restore{f'.{number}' if number > 1 else ''}" for number in count(1))
    kept = next(name for name in names if not any(Path(f"{name}{side}").exists() for side in _SIDES))
    for side in there:
        Path(f"{place}{side}").replace(f"{kept}{side}")
    return f"{kept}{there[-1]}"
