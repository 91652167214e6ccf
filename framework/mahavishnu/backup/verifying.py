"""Every repository is checked and read back, a part of its data in each run."""

from __future__ import annotations

from functools import partial

from mahavishnu.backup.copies import each_copy
from mahavishnu.backup.evidence import ALL, Evidence
from mahavishnu.backup.job import Job
from mahavishnu.backup.restic import Repository
from mahavishnu.policies.backup import READ_PARTS


def verify(job: Job, *, everything: bool = False) -> None:
    """Check every repository and read a part of its data, each run the next; raises Failed for any damage.

    Damage is also that there is no whole snapshot, or that the one of the last backup is gone.

    Only when all parts were read without a fault is it called verified, as of the time the first was begun. What was
    not read well, a part or everything, is what the next run reads again: a fault is not forgotten over a sound part.
    """
    with job.step("verify") as known:
        each_copy(job, partial(_verify, job, known, everything), partial(job.alone, "verify"))


def _verify(job: Job, known: Evidence, everything: bool, copy: str, repository: Repository) -> None:
    one = known.copy(copy)
    repository.unlock()
    taken = repository.snapshots().taken
    job.take_stock(known, copy, taken)
    job.still_there(known, copy, taken)
    if everything:
        one.part = ALL
    if one.part in (ALL, 1):
        one.cycle = job.now()
    part = f"{one.part}/{READ_PARTS}" if one.part != ALL else None
    repository.check(part)
    if one.part in (ALL, READ_PARTS):
        one.verified, one.cycle, one.part = one.cycle, None, 1
    else:
        one.part += 1
    job.tell("verified", copy=copy, read=part or "everything", verified=one.verified)
