"""What the operating system says of this process: memory, processor time, and when it began."""

from __future__ import annotations

import os
import re
import resource
import time
from multiprocessing import parent_process
from pathlib import Path
from typing import NamedTuple

_STATM = Path("/proc/self/statm")
_IMPORTED = time.time()
_STARTED = 19  # the field of /proc/<pid>/stat that tells when, counted behind the program's name
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Usage(NamedTuple):
    """Resident memory in bytes, and processor seconds spent since the start."""

    memory: float
    cpu: float


def usage() -> Usage:
    """The process's own usage; where there is no /proc, the peak of its memory."""
    times = os.times()
    return Usage(_resident(), times.user + times.system)


def _resident() -> float:
    try:
        return int(_STATM.read_text().split()[1]) * _PAGE
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def ticks(pid: int) -> int:
    """When a process was started, in the kernel's own units since the machine was; raises OSError where it does not
    tell, or knows no such process."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[_STARTED])


def started(*, of_several: bool) -> float:
    """When this process was started, in seconds since 1970; as one `of_several` workers, when their parent was.

    Reckoned as prometheus_client does. Where there is no /proc, it is when this was loaded.
    """
    parent = parent_process() if of_several else None
    try:
        booted = re.search(r"^btime (\d+)", Path("/proc/stat").read_text(), re.MULTILINE)
        since = ticks(os.getpid() if parent is None or parent.pid is None else parent.pid)
    except OSError:
        return _IMPORTED
    return _IMPORTED if booted is None else int(booted[1]) + since / os.sysconf("SC_CLK_TCK")
