"""How each kind of source is captured: at rest, whole, and with its hash."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mahavishnu.backup import child, postgres, sqlite
from mahavishnu.backup.hiding import hiding
from mahavishnu.backup.job import Job
from mahavishnu.errors import MahavishnuError
from mahavishnu.ground.secret_refs import name_of
from mahavishnu.policies.backup import Command, Directory, Postgres, Sqlite

_BLOCK = 1 << 20


class CaptureFailed(MahavishnuError):
    """The source could not be captured whole: nothing was backed up."""


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


def captured(job: Job) -> Captured:
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


def file_name(job: Job) -> str:
    """The name of the one file in a snapshot; nothing for a folder."""
    return f"{job.name}.{job.backup.source.file}" if job.backup.source.file else ""


def digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            found.update(block)
    return found.hexdigest()


def _be_elsewhere(job: Job, folder: Path) -> None:
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


def _run(source: Command, to: Path, secret: Callable[[str], str]) -> None:
    """The command's output into a file; only what ends with 0 is a backup."""
    told = {name_of(reference): secret(reference) for reference in source.secrets}
    with to.open("wb") as file:
        done = child.run(source.command, told, stdout=file)
    if done.code:
        why = hiding(told.values())(done.err)
        raise CaptureFailed(f"`{source.command[0]}` failed ({done.code}): {' '.join(why.split())[-600:]}")
