"""What is done with every copy of a backup: with each in its turn, whatever becomes of another."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from mahavishnu.backup.job import Failed, Job
from mahavishnu.backup.patience import Busy
from mahavishnu.backup.restic import Repository
from mahavishnu.errors import MahavishnuError

Each = Callable[[str, Repository], None]
Turn = Callable[[str], AbstractContextManager[None]]


def _at_once(_: str) -> AbstractContextManager[None]:
    return nullcontext()


def each_copy(job: Job, do: Each, turn: Turn = _at_once) -> None:
    """Do something with every repository, each in its turn, also when it fails with another; raises Failed with all.

    Raises Busy where nothing is wrong but that others were at it.
    """
    faults: list[str] = []
    busy = True
    for copy, repository in job.repositories().items():
        try:
            with turn(copy):
                do(copy, repository)
        except (MahavishnuError, OSError) as fault:
            sentence = repository.clean(str(fault))
            job.tell("failed", copy=copy, why=sentence)
            busy = busy and isinstance(fault, Busy)
            faults.append(f"copy {copy}: {sentence}")
    if faults:
        said = f"backup `{job.name}`: {'; '.join(faults)}"
        raise Busy(said) if busy else Failed(said)
