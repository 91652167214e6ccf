"""A folder of which each file is written whole, in a stated order, and never through a link."""

from __future__ import annotations

import fcntl
import itertools
import os
import stat
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import NamedTuple

_STAGED = ".mahavishnu-new-"  # a file on its way; one that a crash left behind is swept away by the next run
_HERE = ""  # the root, as seen from itself
_AT_ONCE = 8


class Step(NamedTuple):
    """One change: the path below the folder, and the whole content it gets (None: it goes away)."""

    path: str
    content: bytes | None


class Seen(NamedTuple):
    """What is at the paths that were asked for, and which other files lie beside them, except in the root itself.

    None: no regular file but a link, a folder in the place of a file, or a file in the place of a folder.
    """

    files: dict[str, bytes | None]
    beside: list[str]


def scan(root: Path, paths: Iterable[str]) -> Seen:
    """Read the files at the paths; what lies beside them is not opened."""
    wanted = set(paths)
    owned = {_parent(path) for path in wanted} - {_HERE}
    seen = Seen({}, [])
    entered: set[str] = set()
    for folder in _folders(wanted):
        if folder != _HERE and _parent(folder) not in entered:
            continue
        here = _in(root, folder)
        mode = _mode(here)
        if stat.S_ISDIR(mode) or (folder == _HERE and os.path.isdir(here)):
            entered.add(folder)
            for path, is_folder in _entries(root, folder):
                if path in wanted:
                    seen.files[path] = _content(_in(root, path))
                elif folder in owned and not is_folder:
                    seen.beside.append(path)
        elif mode:
            seen.files[folder or "."] = None
    return seen


def begins(root: Path, path: str, start: bytes) -> bool:
    """Whether a file begins so; not one that cannot be read, or that is no regular one."""
    try:
        return (_content(_in(root, path), len(start)) or b"") == start
    except OSError:
        return False


@contextmanager
def alone(root: Path) -> Generator[None]:
    """Hold the folder, made if need be, so that no second run works on it; waits for one that does."""
    new = _make_folder(str(root))
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
    ready = [[_Ready.of(_in(root, path), content, next(numbers)) for path, content in one] for one in rounds]
    every = [one for those in ready for one in those]
    grown: set[str] = _prepare([one for one in every if one.content is not None])
    for those in ready:
        for one in those:
            one.take()
        _sync_all(grown | {one.folder for one in those})
        grown = set[str]()
    folders = _folders(step.path for one in rounds for step in one)
    _remove_empty(_in(root, folder) for folder in reversed(folders) if folder != _HERE)


def sweep(root: Path, paths: Iterable[str]) -> None:
    """Remove what a run that was killed had staged beside the paths."""
    for folder in _folders(paths):
        here = _in(root, folder)
        if os.path.isdir(here):
            for name in os.listdir(here):
                if name.startswith(_STAGED):
                    os.unlink(os.path.join(here, name))


def above(path: str) -> Iterator[str]:
    """The folders that hold a file, from the nearest to the root, which is empty."""
    while path:
        yield (path := _parent(path))


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _in(root: Path, path: str) -> str:
    """A place below the root, or the root: without a slash, which would make nothing of a file there."""
    return os.path.join(root, path) if path else str(root)


def _folders(paths: Iterable[str]) -> list[str]:
    """Every folder that holds one of the files, each before those in it."""
    return sorted({folder for path in paths for folder in above(path)})


def _entries(root: Path, folder: str) -> Iterator[tuple[str, bool]]:
    """The paths in a folder, and whether each is a folder itself; not what is on its way."""
    with os.scandir(_in(root, folder)) as entries:
        for entry in entries:
            if not entry.name.startswith(_STAGED):
                yield os.path.join(folder, entry.name), entry.is_dir(follow_symlinks=False)


def _content(path: str, most: int = -1) -> bytes | None:
    if not stat.S_ISREG(os.lstat(path).st_mode):
        return None
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        return file.read(most)


def _mode(path: str) -> int:
    """What is at a place, links not followed; 0: nothing."""
    try:
        return os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0


def _make_folder(path: str) -> list[str]:
    """Make a folder and what it lies in; returns those that were not there, the outermost first."""
    missing, outer = list[str](), path
    while outer and not os.path.exists(outer):
        missing.append(outer)
        outer = os.path.dirname(outer)
    os.makedirs(path, exist_ok=True)
    for folder in missing:
        _let_read(folder, 0o555)
    return missing[::-1]


def _let_read(place: str | int, bits: int) -> None:
    """For every user, whatever the umask says: nothing here is secret, and containers read it as users of their own."""
    os.chmod(place, stat.S_IMODE(os.stat(place).st_mode) | bits)


class _Ready(NamedTuple):
    """A step whose file, if it has one, waits beside its target."""

    folder: str
    target: str
    staged: str
    content: bytes | None

    @classmethod
    def of(cls, target: str, content: bytes | None, number: int) -> _Ready:
        folder = os.path.dirname(target)
        return cls(folder, target, f"{folder}/{_STAGED}{number}", content)

    def put(self) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self.staged)
        opened = os.open(self.staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
        with os.fdopen(opened, "wb") as file:
            _let_read(opened, 0o444)
            file.write(self.content or b"")

    def take(self) -> None:
        if self.content is not None:
            os.replace(self.staged, self.target)
            return
        with suppress(FileNotFoundError):
            os.unlink(self.target)


def _prepare(steps: Sequence[_Ready]) -> set[str]:
    """Put every file on the disk, beside its target; returns the folders in which folders had to be made."""
    made: list[str] = []
    try:
        for folder in dict.fromkeys(one.folder for one in steps):
            made += _make_folder(folder)
        for one in steps:
            one.put()
        _sync_all({one.staged for one in steps})
    except OSError:
        for one in steps:
            with suppress(OSError):  # it was not there yet
                os.unlink(one.staged)
        _remove_empty(reversed(made))
        raise
    return {os.path.dirname(folder) or os.curdir for folder in made}


def _sync_all(paths: Iterable[str]) -> None:
    """Wait for several at once: a disk is asked to write once for all who wait then."""
    every, faults = sorted(paths), list[OSError]()

    def wait(those: Iterable[str]) -> None:
        try:
            for path in those:
                sync(path)
        except OSError as fault:
            faults.append(fault)

    # One of them is this one: a lock and its folder are waited for without any other.
    threads = [
        Thread(target=wait, args=(every[first::_AT_ONCE],)) for first in range(1, min(_AT_ONCE, len(every)))
    ]
    for one in threads:
        one.start()
    wait(every[::_AT_ONCE])
    for one in threads:
        one.join()
    for fault in faults:
        raise fault


def sync(path: str | Path) -> None:
    """Wait until a file, or what a folder holds, is on the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _remove_empty(folders: Iterable[str]) -> None:
    for folder in folders:
        with suppress(OSError):  # in use
            os.rmdir(folder)
