"""A folder that only this user can enter, whose files are read within bounds, and held by who lives."""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import suppress
from pathlib import Path

from mahavishnu.runtime.multiprocess import double_buffer
from mahavishnu.runtime.multiprocess.held import Held

_OPEN = os.O_CLOEXEC | os.O_NOFOLLOW


class PrivateFolder:
    """The folder at `path`, made if need be; raises OSError where it is not ours alone.

    It is opened once, and everything happens relative to what was opened: whatever is put in its place later is
    not seen, until it is entered `again`, and no link is followed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._folder = _entered(path)

    def again(self) -> None:
        """Enter what is at its path now; raises OSError, and changes nothing, where that is not ours alone."""
        before, self._folder = self._folder, _entered(self.path)
        os.close(before)

    def names(self) -> list[str]:
        """What is in it."""
        return os.listdir(self._folder)  # noqa: PTH208 - a descriptor has no path

    def read(self, name: str) -> list[bytes]:
        """The last word in a file, and the one before it; none in an empty one.

        Raises OSError when there is no file that may be read, ValueError when nothing was ever said in it.
        """
        # Without waiting: what somebody has put there may be a pipe that nobody writes to.
        file = os.open(name, os.O_RDONLY | os.O_NONBLOCK | _OPEN, dir_fd=self._folder)
        try:
            return double_buffer.read(file)
        finally:
            os.close(file)

    def write(self, held: Held, word: bytes) -> None:
        """Write the next word into a file that is held; raises OSError when it cannot, ValueError when it is too
        large."""
        double_buffer.write(held.file, word)

    def keep(self, name: str) -> None:
        """Let a file, if it is there, look new: what is days old is removed from temporary folders."""
        with suppress(FileNotFoundError):
            os.utime(name, dir_fd=self._folder, follow_symlinks=False)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._folder)

    def appear(self, name: str) -> Held:
        """Make a file that is held before anybody can see it."""
        staged = f"{name}.new"
        self.remove(staged)
        held = Held(os.open(staged, os.O_RDWR | os.O_CREAT | os.O_EXCL | _OPEN, 0o600, dir_fd=self._folder))
        try:
            fcntl.flock(held.file, fcntl.LOCK_EX)
            os.rename(staged, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        except OSError:
            held.let_go()
            raise
        return held

    def hold(self, name: str) -> Held | None:
        """Hold a file, made if need be; None when somebody else does, or has removed it."""
        held = Held(os.open(name, os.O_RDWR | os.O_CREAT | _OPEN, 0o600, dir_fd=self._folder))
        with suppress(BlockingIOError):
            fcntl.flock(held.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not held.gone:
                return held
        held.let_go()
        return None

    def held(self, name: str) -> bool | None:
        """Whether somebody holds a file; who is gone, by whatever way, does not. None where there is no such file."""
        try:
            file = os.open(name, os.O_RDWR | os.O_NONBLOCK | _OPEN, dir_fd=self._folder)
        except FileNotFoundError:
            return None
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


def _entered(path: Path) -> int:
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | _OPEN)
    found = os.fstat(folder)
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        os.close(folder)
        raise PermissionError(f"{path} belongs to somebody else, or others may enter it")
    return folder
