"""A folder of which each file is written whole, in a stated order, and never through a link."""

from __future__ import annotations

import fcntl
import itertools
import os
import stat
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from threading import Thread
from typing import NamedTuple

_STAGED = ".mahavishnu-new-"  # a file on its way; one that a crash left behind is swept away by the next run
_HERE = PurePosixPath()
_AT_ONCE = 8


class Step(NamedTuple):
    """One change: the path below the folder, and the whole content it gets (None: it goes away)."""

    path: str
    content: bytes | None


def scan(root: Path, paths: Iterable[str]) -> dict[str, bytes | None]:
    """Every file at one of the paths, and every other file beside them, except in the root itself.

    None: no regular file but a link, a folder in the place of a file, or a file in the place of a folder.
    """
    wanted = set(paths)
    found: dict[str, bytes | None] = {}
    entered: set[PurePosixPath] = set()
    for folder in _folders(wanted):
        here = root / folder
        if folder != _HERE and (folder.parent not in entered or not _is_there(here)):
            continue
        if here.is_dir() and (folder == _HERE or not here.is_symlink()):
            entered.add(folder)
            found.update(_files(root, folder, wanted))
        elif _is_there(here):
            found[folder.as_posix()] = None
    return found


@contextmanager
def alone(root: Path) -> Generator[None]:
    """Hold the folder, made if need be, so that no second run works on it; waits for one that does."""
    new = not root.exists()
    root.mkdir(parents=True, exist_ok=True)
    held = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)
        if new:
            with suppress(OSError):  # not empty: that is what it was made for
                root.rmdir()


def apply(root: Path, rounds: Sequence[Sequence[Step]]) -> None:
    """Take the steps, each at once; a round is on the disk, whatever happens then, before the next one begins.

    Raises OSError before the first step if one cannot be prepared.
    """
    numbers = itertools.count()
    ready = [[_Ready.of(root / path, content, next(numbers)) for path, content in one] for one in rounds]
    every = [one for those in ready for one in those]
    grown: set[Path] = _prepare([one for one in every if one.content is not None])
    for those in ready:
        for one in those:
            one.take()
        _sync_all(grown | {one.folder for one in those})
        grown = set[Path]()
    folders = _folders(step.path for one in rounds for step in one)
    _remove_empty(root / folder for folder in reversed(folders) if folder != _HERE)


def sweep(root: Path, paths: Iterable[str]) -> None:
    """Remove what a run that was killed had staged beside the paths."""
    for folder in _folders(paths):
        if (root / folder).is_dir():
            for left in (root / folder).glob(f"{_STAGED}*"):
                left.unlink()


def _folders(paths: Iterable[str]) -> list[PurePosixPath]:
    folders = {PurePosixPath(path.rpartition("/")[0]) for path in paths}
    return sorted({parent for one in folders for parent in (one, *one.parents)})


def _files(root: Path, folder: PurePosixPath, wanted: set[str]) -> Iterator[tuple[str, bytes | None]]:
    owned = folder != _HERE and any(PurePosixPath(path).parent == folder for path in wanted)
    with os.scandir(root / folder) as entries:
        for entry in entries:
            path = (folder / entry.name).as_posix()
            beside = owned and not entry.is_dir(follow_symlinks=False) and not entry.name.startswith(_STAGED)
            if path in wanted or beside:
                yield path, _content(root / path)


def _content(path: Path) -> bytes | None:
    if not stat.S_ISREG(path.lstat().st_mode):
        return None
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        return file.read()


def _is_there(path: Path) -> bool:
    return path.is_symlink() or path.exists()


def _make_folder(path: Path) -> list[Path]:
    missing = [one for one in (path, *path.parents) if not one.exists()]
    path.mkdir(parents=True, exist_ok=True)
    return missing[::-1]


class _Ready(NamedTuple):
    """A step whose file, if it has one, waits beside its target."""

    folder: Path
    target: Path
    staged: Path
    content: bytes | None

    @classmethod
    def of(cls, target: Path, content: bytes | None, number: int) -> _Ready:
        folder = target.parent
        return cls(folder, target, folder / f"{_STAGED}{number}", content)

    def put(self) -> None:
        self.staged.unlink(missing_ok=True)
        opened = os.open(self.staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
        with os.fdopen(opened, "wb") as file:
            file.write(self.content or b"")

    def take(self) -> None:
        if self.content is None:
            self.target.unlink(missing_ok=True)
        else:
            self.staged.replace(self.target)


def _prepare(steps: Sequence[_Ready]) -> set[Path]:
    """Put every file on the disk, beside its target; returns the folders in which folders had to be made."""
    made: list[Path] = []
    try:
        for folder in dict.fromkeys(one.folder for one in steps):
            made += _make_folder(folder)
        for one in steps:
            one.put()
        _sync_all({one.staged for one in steps})
    except OSError:
        for one in steps:
            with suppress(OSError):  # it was not there yet
                one.staged.unlink()
        _remove_empty(reversed(made))
        raise
    return {folder.parent for folder in made}


def _sync_all(paths: Iterable[Path]) -> None:
    """Wait for several at once: a disk is asked to write once for all who wait then."""
    every, faults = sorted(paths), list[OSError]()

    def wait(those: Iterable[Path]) -> None:
        try:
            for path in those:
                _sync(path)
        except OSError as fault:
            faults.append(fault)

    threads = [
        Thread(target=wait, args=(every[first::_AT_ONCE],)) for first in range(min(_AT_ONCE, len(every)))
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    for fault in faults:
        raise fault


def _sync(path: Path) -> None:
    """Wait until a file, or what a folder holds, is on the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in folders:
        with suppress(OSError):  # in use
            folder.rmdir()
