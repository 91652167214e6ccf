"""A folder that only this user can enter, whose files are written whole, read within bounds, and held by who lives."""

from __future__ import annotations

import fcntl
import os
import stat
import time
from contextlib import suppress
from pathlib import Path

MOST = 8 * 2**20
"""Bytes of one file; a larger one is neither written nor read."""
_OPEN = os.O_CLOEXEC | os.O_NOFOLLOW
_HELD: set[int] = set()
"""The descriptors by which this process holds files. Its forks close them: one that lives on would hold them, too."""


class PrivateFolder:
    """The folder at `path`, made if need be; raises OSError where it is not ours alone.

    It is opened once, and everything happens relative to what was opened: whatever is put in its place later is
    not seen, and no link is followed. A file is held through flock, which ends with the process, however it ends,
    and whatever it has forked.
    """

    def __init__(self, path: Path) -> None:
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        self._folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | _OPEN)
        found = os.fstat(self._folder)
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
            os.close(self._folder)
            raise PermissionError(f"{path} belongs to somebody else, or others may enter it")

    def names(self) -> list[str]:
        """What is in it."""
        return os.listdir(self._folder)  # noqa: PTH208 - a descriptor has no path

    def read(self, name: str) -> bytes:
        """A file's content; raises OSError when there is none that may be read, ValueError when it is too large."""
        # Without waiting: what somebody has put there may be a pipe that nobody writes to.
        file = os.open(name, os.O_RDONLY | os.O_NONBLOCK | _OPEN, dir_fd=self._folder)
        with open(file, "rb") as content:  # noqa: PTH123 - a descriptor is no path - a descriptor has no path
            if len(read := content.read(MOST + 1)) > MOST:
                raise ValueError(f"{name} has more than {MOST} bytes")
            return read

    def write(self, name: str, content: bytes) -> None:
        """Put a file in its place, whole; raises OSError when it cannot, ValueError when it is too large."""
        if len(content) > MOST:
            raise ValueError(f"{name} would have more than {MOST} bytes")
        staged = f"{name}.new"
        file = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _OPEN, 0o600, dir_fd=self._folder)
        with open(file, "wb") as place:  # noqa: PTH123 - a descriptor is no path
            place.write(content)
        os.rename(staged, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)

    def keep(self, name: str) -> None:
        """Let a file, if it is there, look used: what is ten days old is removed by systemd-tmpfiles."""
        with suppress(FileNotFoundError):
            written = os.stat(name, dir_fd=self._folder, follow_symlinks=False).st_mtime_ns
            os.utime(name, ns=(time.time_ns(), written), dir_fd=self._folder, follow_symlinks=False)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._folder)

    def appear(self, name: str) -> int:
        """Make a file that is held before anybody can see it; what is returned is for `let_go`."""
        staged = f"{name}.new"
        held = os.open(staged, os.O_RDWR | os.O_CREAT | os.O_EXCL | _OPEN, 0o600, dir_fd=self._folder)
        fcntl.flock(held, fcntl.LOCK_EX)
        os.rename(staged, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        _HELD.add(held)
        return held

    def hold(self, name: str) -> int | None:
        """Hold a file, made if need be; None when somebody else does. What is returned is for `let_go`."""
        file = os.open(name, os.O_RDWR | os.O_CREAT | _OPEN, 0o600, dir_fd=self._folder)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return None
        _HELD.add(file)
        return file

    @staticmethod
    def let_go(held: int) -> None:
        """Hold a file no longer."""
        _HELD.discard(held)
        os.close(held)

    def held(self, name: str) -> bool:
        """Whether somebody holds a file; who is gone, by whatever way, does not."""
        try:
            file = os.open(name, os.O_RDWR | os.O_NONBLOCK | _OPEN, dir_fd=self._folder)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(file)
        return False

    def close(self) -> None:
        """Leave it."""
        os.close(self._folder)


def _let_go_of_all() -> None:
    while _HELD:
        os.close(_HELD.pop())


os.register_at_fork(after_in_child=_let_go_of_all)
