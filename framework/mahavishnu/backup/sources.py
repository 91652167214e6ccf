"""What is backed up: how each kind of source is captured, and how what was restored of it is judged."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from mahavishnu.backup import child, postgres, sqlite
from mahavishnu.backup.hiding import hiding
from mahavishnu.errors import MahavishnuError
from mahavishnu.ground.secret_refs import name_of
from mahavishnu.policies.backup import Backup, Command, Directory, Postgres, Sqlite

_BLOCK = 1 << 20
_NO_TEXT = re.compile("[\udc80-\udcff]")


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

    @property
    def least(self) -> int:
        """How much of it is read at least: a folder is in use, and files of it go while it is saved."""
        return self.size if self.file else (self.size + 1) // 2


class Context(Protocol):
    """What a source needs of its job."""

    @property
    def name(self) -> str: ...
    @property
    def mark(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def backup(self) -> Backup: ...
    @property
    def home(self) -> Path: ...
    @property
    def staging(self) -> Path: ...
    @property
    def tell(self) -> Callable[..., None]: ...
    def secret(self, reference: str) -> str: ...


def captured(job: Context) -> Captured:
    """The source, captured into the staging folder where it has to be; raises CaptureFailed."""
    source = job.backup.source
    if isinstance(source, Directory):
        place = job.home / source.directory
        _be_elsewhere(job, place)
        # restic would save the link, and nothing of the folder.
        return _folder(place.resolve() if place.is_symlink() else place)
    staged = job.staging / file_name(job)
    try:
        if isinstance(source, Sqlite):
            sqlite.copy(job.home / source.sqlite, staged)
        elif isinstance(source, Postgres):
            postgres.database(job.secret(source.postgres)).dump(staged)
        else:
            _run(source, staged, job.secret)
    except OSError as fault:
        raise CaptureFailed(f"the source cannot be captured: {fault.strerror or fault}") from None
    except (postgres.PostgresFailed, sqlite.SqliteFailed) as fault:
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
    try:
        if isinstance(source, Sqlite):
            sqlite.judge(restored, job.backup.verify.claim)
        elif isinstance(source, Postgres):
            _judge_dump(job, source, restored)
    except (postgres.PostgresFailed, sqlite.SqliteFailed) as fault:
        raise NotRestored(str(fault)) from None


def written_back(job: Context, restored: Path, claim: str | None) -> str:
    """Put what was restored in the place of the source, if it is sound and the claim holds; where what was there is.

    Raises NotRestored, and then the source is what it was.
    """
    source = job.backup.source
    try:
        if isinstance(source, Sqlite):
            sqlite.judge(restored, claim)
            return sqlite.replace(job.home / source.sqlite, restored)
        if isinstance(source, Postgres):
            return _replace_database(job, source, restored, claim)
    except (postgres.PostgresFailed, sqlite.SqliteFailed) as fault:
        raise NotRestored(str(fault)) from None
    raise NotRestored(f"a {source.keyword} is not restored in place; restore it `--to` a folder and copy it")


# --- PostgreSQL -----------------------------------------------------------------------------------


def _judge_dump(job: Context, source: Postgres, dump: Path) -> None:
    """Load the dump into a database of its own, on the server that is meant for it, and ask that."""
    verify = job.backup.verify
    server = postgres.database(job.secret(verify.scratch or source.postgres))
    with postgres.scratch(server, postgres.scratch_name(job.host, job.mark)) as database:
        database.load(dump)
        database.set_like(postgres.database(job.secret(source.postgres)), partial(_lacks, job))
        _judge_database(database, verify.claim)


def _lacks(job: Context, what: str) -> None:
    job.tell("odd", what=what)


def _judge_database(database: postgres.Database, claim: str | None) -> None:
    tables = "select count(*) from pg_class join pg_namespace on relnamespace = pg_namespace.oid"
    tables += " where relkind in ('r', 'p') and nspname !~ '^(pg_|information_schema)'"
    if database.ask(tables) == ["0"]:
        raise NotRestored("the restored database has no table")
    if claim and database.ask(claim) != ["t"]:
        raise NotRestored("the `assert` of the spec does not hold in the restored database")


def _replace_database(job: Context, source: Postgres, dump: Path, claim: str | None) -> str:
    """Load the dump as a drill does, beside the database, and give it that one's name at last."""
    place, lacks = postgres.database(job.secret(source.postgres)), partial(_lacks, job)
    with postgres.successor(place, lacks) as database:
        try:
            database.load(dump, whole=True)  # which needs the same users
        except postgres.PostgresFailed as fault:
            database.load(dump)
            lacks(f"restored without owners and grants: {fault}")
        _judge_database(database, claim)
        return database.replace(place)


# --- folders and commands -------------------------------------------------------------------------


def _be_elsewhere(job: Context, folder: Path) -> None:
    """Raises CaptureFailed for a repository in the folder, by whatever way: it would be saved to itself."""
    for place in job.backup.to:
        if ":" not in place and (job.home / place).resolve().is_relative_to(folder.resolve()):
            raise CaptureFailed(f"the repository `{place}` lies in the folder that is backed up")


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
    files = (one for one in target.rglob("*") if one.is_file() and not one.is_symlink())
    left = Counter((_shown(one.relative_to(target)), one.stat().st_size) for one in files)
    for path, size in listed:
        if not left[path, size]:
            raise NotRestored(f"{path} was not restored whole")
        left[path, size] -= 1


def _shown(path: Path) -> str:
    """As restic lists it, with U+FFFD for each byte that is no text."""
    return _NO_TEXT.sub("\ufffd", f"/{path}")


def _run(source: Command, to: Path, secret: Callable[[str], str]) -> None:
    """The command's output into a file; only what ends with 0 is a backup."""
    told = {name_of(reference): secret(reference) for reference in source.secrets}
    with to.open("wb") as file:
        done = child.run(source.command, told, stdout=file)
    if done.code:
        why = hiding(told.values())(done.err)
        raise CaptureFailed(f"`{source.command[0]}` failed ({done.code}): {' '.join(why.split())[-600:]}")
