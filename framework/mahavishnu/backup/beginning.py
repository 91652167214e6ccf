"""The first backup makes its repository: one job alone, though others may look for the same one at the same minute."""

from __future__ import annotations

import hashlib
from time import sleep as pause

from mahavishnu.backup.evidence import Copy
from mahavishnu.backup.job import Failed, Job
from mahavishnu.backup.restic import Repository, ResticFailed

SPAN = 60.0
"""Jobs that find no repository look again within so many seconds, each at a moment of its own."""
SETTLED = 2.0
"""Seconds after which whoever has made it at the same moment has done so, too: then it shows."""


def ready(job: Job, one: Copy, repository: Repository) -> None:
    """Open the repository, or make it where there has never been one; one that has gone is no beginning."""
    if _opens(repository):
        return
    if one.success is not None:
        raise Failed("the repository is not there any more, and it was when the last backup succeeded")
    wait = min(apart(job.host, job.mark), float(job.patience.seconds))
    job.tell("absent", seconds=round(wait))
    pause(wait)
    if not _opens(repository) and _made(repository):
        job.tell("initialised", repository=repository.clean(repository.place))


def apart(host: str, mark: str) -> float:
    """How long a backup waits before it makes its repository, in seconds: restic lets two jobs make one, and ruin it.

    No lock can be shared before there is a repository. So each waits for a time of its own, the same on any machine.
    """
    drawn = hashlib.sha256(f"{host} {mark}".encode()).digest()
    return SPAN * int.from_bytes(drawn[:4], "big") / 2**32


def _opens(repository: Repository) -> bool:
    """Whether it is there and can be opened; locks whose process is gone are removed. Raises ResticFailed."""
    try:
        repository.unlock()
    except ResticFailed as fault:
        if not fault.absent:
            raise
        return False
    return True


def _made(repository: Repository) -> bool:
    """Whether we have made it; else somebody was faster. Raises ResticFailed where nobody can, or two have."""
    try:
        repository.init()
    except ResticFailed:
        pause(SETTLED)
        if not _opens(repository):
            raise
        return False
    pause(SETTLED)
    repository.unlock()
    return True
