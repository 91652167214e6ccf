"""Whether more processes serve a socket than the spec says: each counts for itself, so that limits are larger."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from itertools import islice
from typing import TYPE_CHECKING

from mahavishnu.protocols import Clock
from mahavishnu.runtime.multiprocess.held import Held
from mahavishnu.runtime.multiprocess.meeting import seats
from mahavishnu.runtime.multiprocess.private_folder import PrivateFolder
from mahavishnu.runtime.timer import Timer

if TYPE_CHECKING:
    from mahavishnu.runtime.service import Service

FIRST = 5_000_000_000
"""When it is looked first, ns: by then a server listens."""
AGAIN = 10_000_000_000
"""How long after that, ns, where no seat was free."""
_LOOKS = 7  # for a minute
_MOST = 1000  # descriptors that are looked at: those of a server's own sockets are among its first
_SEATED: set[str] = set()
"""The seats that this process has, for several middlewares in it."""


class Crowd:
    """Each process takes one of `service.workers` seats at every socket that it listens on; who finds none says so.

    Workers of one server share their socket, whatever server that is and however it starts them; replicas and other
    services on the machine have their own. A seat is a file that is held, so it comes free with the end of its
    process, however it ends. Who finds none looks again for a minute: a server that replaces its workers may start
    the new ones first.
    """

    def __init__(self, service: Callable[[], Service], clock: Clock) -> None:
        self._service = service
        self._clock = clock
        self._timer = Timer(clock, self.look)
        self._held: dict[str, Held] = {}
        self._looks = 0

    def start(self) -> None:
        """Look soon, on the running event loop; where time stands still, as in tests, nobody serves."""
        self.leave()
        self._looks = 0
        if self._clock.runs:
            self._timer.start(FIRST)

    def leave(self) -> None:
        """Serve no more: the seats are free."""
        self._timer.stop()
        while self._held:
            seat, held = self._held.popitem()
            _SEATED.discard(seat)
            held.let_go()

    def look(self) -> None:
        """Take a seat at each socket; say so where there has been none at any of them, again and again."""
        self._looks += 1
        service = self._service()
        try:
            sockets = set(_listening())
            with closing(seats(service.spec.service.name, sockets)) as folder:
                seated = [self._sit(folder, one, service.spec.service.workers) for one in sockets]
        except OSError:  # what cannot be known is not said
            return
        if any(seated):
            return
        if self._looks < _LOOKS:
            self._timer.start(AGAIN)
        elif sockets:
            self._say(service)

    def _sit(self, folder: PrivateFolder, inode: int, count: int) -> bool:
        """Whether this process has one of so many seats at a socket, now or already."""
        names = [f"{inode}-{number}" for number in range(count)]
        if not _SEATED.isdisjoint(names):
            return True
        for name in names:
            with suppress(OSError):
                if (held := folder.hold(name)) is not None:
                    self._held[name] = held
                    _SEATED.add(name)
                    return True
        return False

    def _say(self, service: Service) -> None:
        workers = service.spec.service.workers
        what = (
            f"service.workers is {workers}, and more processes than that serve the same socket: each counts for itself "
            "what has no shared store, so that limits let through more than they say"
        )
        help = (
            f"start {workers} of them (uvicorn --workers), or write into service.workers how many there are"
        )
        service.log.warning("more workers", what=what, help=help)


def _listening() -> Iterator[int]:
    """The inodes of the sockets on which this process accepts connections; none where the system does not tell."""
    for name in islice(sorted(os.listdir("/dev/fd"), key=int), _MOST):  # noqa: PTH208 - names are numbers here
        with suppress(OSError):
            found = os.fstat(int(name))
            if stat.S_ISSOCK(found.st_mode) and found.st_ino and _accepts(int(name)):
                yield found.st_ino


def _accepts(descriptor: int) -> bool:
    with socket.socket(fileno=os.dup(descriptor)) as one:
        return bool(one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
