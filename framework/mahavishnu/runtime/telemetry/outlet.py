"""Where the lines of the log go: a stream, which costs no request anything, whether or not somebody reads it."""

from __future__ import annotations

import fcntl
import os
import stat
import termios
import time
from array import array
from select import PIPE_BUF, POLLOUT, poll
from typing import TextIO

_LARGEST = 64 * 1024  # of a pipe, where the system does not say
_PAGE = 4096
_PATIENCE = 1.0
_LOOK = 0.001  # seconds


class Outlet:
    """Writes whole lines, and counts those that are `lost`: there was no space, or nobody reads.

    A pipe or a socket is asked for room first. Who reads too slowly is waited for, a second at the most; then not
    again until he has read all: to wait would be to serve nobody.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._asked, self._size = _asked(stream)
        self._patience = _PATIENCE
        self.lost = 0

    def write(self, lines: str) -> None:
        """Write them at once, or lose them; several are at most what a pipe takes in one piece (PIPE_BUF)."""
        try:
            if self._asked is None or self._finds_room(len(lines.encode())):
                self._stream.write(lines)
                self._stream.flush()
                return
        except (OSError, ValueError):
            pass
        self.lost += lines.count("\n")

    def _finds_room(self, size: int) -> bool:
        until = time.monotonic() + self._patience
        while not self.takes(size):
            if time.monotonic() >= until:
                self._patience = 0
                return False
            time.sleep(_LOOK)
        if not self._patience and not self._unread():
            self._patience = _PATIENCE
        return True

    def takes(self, size: int = PIPE_BUF) -> bool:
        """Whether so many bytes can be written without waiting."""
        if self._asked is None:
            return True
        ready = poll()  # one of its own: two threads cannot ask the same
        ready.register(self._asked, POLLOUT)
        if not ready.poll(0):
            return False
        if size <= PIPE_BUF or self._size is None:
            return True
        unread = self._unread()
        # Half of each page may be empty, and nearly all of the first one, which is being read.
        return not unread or 2 * unread + size + 3 * _PAGE <= self._size

    def _unread(self) -> int:
        """How many bytes are still to be read from a pipe; of a socket nobody knows."""
        unread = array("i", [0])
        if self._asked is not None and self._size is not None:
            fcntl.ioctl(self._asked, termios.FIONREAD, unread)
        return unread[0]


def _asked(stream: TextIO) -> tuple[int | None, int | None]:
    """The descriptor of a stream that may have no room, and how much a pipe holds; None: it is none of these."""
    try:
        descriptor = stream.fileno()
        mode = os.fstat(descriptor).st_mode
    except (AttributeError, OSError, ValueError):  # it is no file of the system, whatever stands for one
        return None, None
    if stat.S_ISSOCK(mode):  # is ready when most of its room is free, which is more than any line
        return descriptor, None
    if not stat.S_ISFIFO(mode):
        return None, None
    ask: int | None = getattr(fcntl, "F_GETPIPE_SZ", None)  # only Linux has it
    return descriptor, _LARGEST if ask is None else fcntl.fcntl(descriptor, ask)
