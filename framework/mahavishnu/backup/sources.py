"""What is backed up: how each kind of source is captured, and how what was restored of it is judged."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import stat
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Protocol

from mahavishnu.backup import child, postgres
from mahavishnu.errors import MahavishnuError
from mahavishnu.policies.backup import Backup, Command, Directory, Postgres, Sqlite

_BLOCK = 1 << 20
_DRILL = "mahavishnu_drill"
_SIDES = ("-wal", "-shm", "-journal", "")
"""What belongs to a SQLite database, and it itself last: never alone in its place, as if it were all."""


class CaptureFailed(MahavishnuError):
    """The source could not be captured whole: nothing was backed up."""


class NotRestored(MahavishnuError):
    """What was restored is not what was backed up."""


@dataclass(frozen=True)
class Captured:
    """A source at rest: what restic is to save, a file for its standard input, its hash (hex) and size (bytes)."""

    words: tuple[str, ...]
    file: Path | None
    hash: str
    size: int


class Context(Protocol):
    """What a source needs of its job."""

    @property
    def name(self) -> str: ...
    @property
    def backup(self) -> Backup: ...
    @property
    def home(self) -> Path: ...
    @property
    def staging(self) -> Path: ...
    def secret(self, reference: str) -> str: ...


def captured(job: Context) -> Captured:
    """The source, captured into the staging folder where it has to be; raises CaptureFailed."""
    source = job.backup.source
    if isinstance(source, Directory):
        place = job.home / source.directory
        # restic would save the link, and nothing of the folder.
        return _folder(place.resolve() if place.is_symlink() else place)
    staged = job.staging / file_name(job)
    try:
        if isinstance(source, Sqlite):
            copy_sqlite(job.home / source.sqlite, staged)
        elif isinstance(source, Postgres):
            postgres.database(job.secret(source.postgres)).dump(staged)
        else:
            _run(source, staged, job.secret)
    except OSError as fault:
        raise CaptureFailed(f"the source cannot be captured: {fault.strerror or fault}") from None
    except postgres.PostgresFailed as fault:
        raise CaptureFailed(str(fault)) from None
    size = staged.stat().st_size
    if not size:
        raise CaptureFailed("the source is empty")
    return Captured(("--stdin", "--stdin-filename", staged.name), staged, digest(staged), size)


def file_name(job: Context) -> str:
    """The name of the one file in a snapshot; nothing for a folder."""
    return f"{job.name}.{job.backup.source.file}" if job.backup.source.file else ""


def digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            found.update(block)
    return found.hexdigest()


def judged(job: Context, restored: Path) -> None:
    """Look into what was restored, a file or a folder; raises NotRestored."""
    source = job.backup.source
    if isinstance(source, Sqlite):
        _judge_sqlite(restored, job.backup.verify.claim)
    elif isinstance(source, Postgres):
        _judge_dump(job, source, restored)


def written_back(job: Context, restored: Path) -> str:
    """Put what was restored in the place of the source; what was there before, if anything is left of it."""
    source = job.backup.source
    if isinstance(source, Sqlite):
        return _replace_sqlite(restored, job.home / source.sqlite)
    if isinstance(source, Postgres):
        database = postgres.database(job.secret(source.postgres))
        if not database.exists():
            database.create()
        database.load(restored, over=True)
        return ""
    raise NotRestored(f"a {source.keyword} is not restored in place; restore it `--to` a folder and copy it")


# --- SQLite ---------------------------------------------------------------------------------------


@contextmanager
def _opened(path: Path, mode: str) -> Generator[sqlite3.Connection]:
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=60)) as opened:
        yield opened


def copy_sqlite(source: Path, to: Path) -> None:
    """SQLite's online backup, in one step: readers and, in WAL mode, writers go on meanwhile."""
    if not source.is_file():
        raise CaptureFailed(f"there is no database at {source}")
    try:
        # A database in WAL mode cannot be read without its side files, which are then made beside it.
        with _opened(source, "rw") as live, closing(sqlite3.connect(to)) as copy:
            live.backup(copy)
            said = copy.execute("pragma quick_check(1)").fetchone()
    except sqlite3.Error as fault:
        raise CaptureFailed(f"{source} cannot be copied: {fault}") from None
    if said != ("ok",):
        raise CaptureFailed(f"{source} is damaged: {said[0]}")


def _judge_sqlite(path: Path, claim: str | None) -> None:
    try:
        with _opened(path, "ro") as opened:
            said = [str(row[0]) for row in opened.execute("pragma integrity_check(3)")]
            tables = opened.execute("select count(*) from sqlite_master where type = 'table'").fetchone()[0]
            rows = opened.execute(claim).fetchmany(2) if claim else [(1,)]
    except sqlite3.Error as fault:
        raise NotRestored(f"the restored database cannot be asked: {fault}") from None
    if said != ["ok"]:
        raise NotRestored(f"the restored database is damaged: {said[0]}")
    if not tables:
        raise NotRestored("the restored database has no table")
    if [tuple(row) for row in rows] != [(1,)]:
        raise NotRestored("the `assert` of the spec does not hold in the restored database")


def _replace_sqlite(restored: Path, place: Path) -> str:
    place = place.resolve()  # where it lies; a link to it stays one
    place.parent.mkdir(parents=True, exist_ok=True)
    new = place.with_name(f"{place.name}.restored")
    new.unlink(missing_ok=True)
    new.touch(mode=0o600)
    shutil.copyfile(restored, new)
    _given_as(new, place)
    _written(new)
    kept = _set_aside(place)
    new.replace(place)
    _written(place.parent)
    return kept


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


def _written(path: Path) -> None:
    """On the disk, a file or a folder's names, so that a loss of power leaves the old or the new one."""
    held = os.open(path, os.O_RDONLY)
    try:
        os.fsync(held)
    finally:
        os.close(held)


# --- PostgreSQL -----------------------------------------------------------------------------------


def _judge_dump(job: Context, source: Postgres, dump: Path) -> None:
    """Load the dump into a database of its own, on the server that is meant for it, and ask that."""
    verify = job.backup.verify
    server = postgres.database(job.secret(verify.scratch or source.postgres))
    tables = "select count(*) from pg_class join pg_namespace on relnamespace = pg_namespace.oid"
    tables += " where relkind in ('r', 'p') and nspname !~ '^(pg_|information_schema)'"
    try:
        with postgres.scratch(server, f"{_DRILL}_{job.name}") as database:
            database.load(dump, over=False)
            if database.ask(tables) == ["0"]:
                raise NotRestored("the restored database has no table")
            if verify.claim and database.ask(verify.claim) != ["t"]:
                raise NotRestored("the `assert` of the spec does not hold in the restored database")
    except postgres.PostgresFailed as fault:
        raise NotRestored(str(fault)) from None


# --- folders and commands -------------------------------------------------------------------------


def _folder(path: Path) -> Captured:
    if not path.is_dir():
        raise CaptureFailed(f"there is no folder at {path}")
    size = sum(_sizes(path))
    if not size:
        raise CaptureFailed(f"the folder {path} holds nothing")
    return Captured((str(path.absolute()),), None, "", size)


def _sizes(path: Path) -> Iterator[int]:
    """Of every regular file; one that is deleted meanwhile has none."""
    for folder, _, names in os.walk(path):
        for name in names:
            with suppress(FileNotFoundError):
                found = Path(folder, name).lstat()
                if stat.S_ISREG(found.st_mode):
                    yield found.st_size


def same_files(listed: Sequence[tuple[str, int]], target: Path) -> None:
    """Whether every file of a snapshot was restored in its size; raises NotRestored."""
    if not any(size for _, size in listed):
        raise NotRestored("the snapshot holds nothing")
    for path, size in listed:
        found = target / path.lstrip("/")
        if not found.is_file() or found.stat().st_size != size:
            raise NotRestored(f"{path} was not restored whole")


def _run(source: Command, to: Path, secret: Callable[[str], str]) -> None:
    """The command's output into a file; only what ends with 0 is a backup."""
    told = {reference[2:-1]: secret(reference) for reference in source.secrets}
    with to.open("wb") as file:
        done = child.run(source.command, told, stdout=file)
    if done.code:
        why = done.err
        for one in told.values():
            why = why.replace(one, "***")
        raise CaptureFailed(f"`{source.command[0]}` failed ({done.code}): {' '.join(why.split())[-600:]}")
