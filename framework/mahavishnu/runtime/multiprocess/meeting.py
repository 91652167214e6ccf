"""Where the workers of one server meet: a folder that is named for the service and for their parent."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Collection
from contextlib import closing, suppress
from multiprocessing import parent_process
from pathlib import Path

from mahavishnu.runtime.multiprocess.private_folder import PrivateFolder
from mahavishnu.runtime.process import ticks


def place(service: str) -> Path | None:
    """The folder of this process's siblings; None where it was not started as one of several.

    uvicorn starts its workers through `multiprocessing`, which tells a child who its parent is. When that parent
    was started is part of the name: in a container that starts again it has the same pid.
    """
    parent = parent_process()
    if parent is None or parent.pid is None:
        return None
    return _base() / f"{_prefix(service)}{parent.pid}-{_started(parent.pid)}"


def meet(folder: Path, service: str) -> PrivateFolder:
    """Enter the folder, and remove those of servers that have ended; raises OSError where it is not safe."""
    met = PrivateFolder(folder)
    for other in _base().glob(f"{_prefix(service)}*"):
        if other != folder:
            with suppress(OSError, ValueError):
                _sweep(other, _prefix(service))
    return met


def seats(service: str, sockets: Collection[int]) -> PrivateFolder:
    """The folder of the seats at the sockets of a service's processes on this machine; those at others that nobody
    holds any more are removed. Raises OSError where it is not safe."""
    folder = PrivateFolder(_base() / f"{_prefix(service)}seats")
    mine = {str(one) for one in sockets}
    for name in folder.names():
        if name.partition("-")[0] not in mine and not folder.held(name):
            folder.remove(name)
    return folder


def _base() -> Path:
    return Path(tempfile.gettempdir())


def _prefix(service: str) -> str:
    return f"mahavishnu-{os.geteuid()}-{service}-"


def _sweep(folder: Path, prefix: str) -> None:
    """Remove a folder whose parent has ended, and whose workers have."""
    named = re.fullmatch(r"([0-9]+)-([0-9]+)", folder.name.removeprefix(prefix))
    if named is None or _started(int(named[1])) == named[2]:
        return
    with closing(PrivateFolder(folder)) as left:
        names = left.names()
        if not any(left.held(name) for name in names):
            for name in names:
                left.remove(name)
            folder.rmdir()


def _started(pid: int) -> str:
    """When a process was started, in the kernel's own units; `0` where the system does not tell."""
    try:
        return str(ticks(pid))
    except FileNotFoundError:
        return "0" if not Path("/proc/self/stat").exists() else "gone"
