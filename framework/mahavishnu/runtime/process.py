"""What the operating system says of this process: memory and processor time."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import NamedTuple

_STATM = Path("/proc/self/statm")
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
