"""What the retention lets go is removed from every repository, and nothing where something is odd."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from mahavishnu.backup.copies import each_copy
from mahavishnu.backup.evidence import Evidence
from mahavishnu.backup.job import Failed, Job
from mahavishnu.backup.restic import KEEPS_OLDEST, Listed, Repository
from mahavishnu.backup.retain import Plan, plan
from mahavishnu.snapshots.retention import words
from mahavishnu.units import SECOND


def planned(job: Job, repository: Repository) -> tuple[Plan, Listed]:
    """What the retention says of a repository's snapshots; nothing is removed.

    Those that lack files go as soon as there is a newer one that is whole.
    """
    taken, incomplete, odd = listed = repository.snapshots()
    if job.keep is None:
        return Plan({one.id: ("everything",) for one in (*taken, *incomplete)}, ()), listed
    theirs = repository.dry_run(words(job.keep))
    oldest = repository.version >= KEEPS_OLDEST
    made = plan(taken, job.keep, job.backup.schedule, theirs, int(job.now() * SECOND), oldest=oldest)
    if odd:
        job.tell("odd", what=f"{odd} snapshots that cannot be understood are never removed")
    newest = taken[0].snapshot.order if taken else 0
    outlived = [one.id for one in incomplete if one.snapshot.order < newest]
    return replace(made, remove=(*made.remove, *outlived)), listed


def prune(job: Job, *, confirmed: bool = False) -> None:
    """Remove what the retention lets go; raises Failed and removes nothing where something is not as it has to be.

    `confirmed`: a person has seen the plan, and lets more go than a run does by itself.
    """
    with job.step("prune") as known:
        each_copy(job, partial(_prune, job, known, confirmed), partial(job.alone, "prune"))


def _prune(job: Job, known: Evidence, confirmed: bool, copy: str, repository: Repository) -> None:
    repository.unlock()
    made, listed = planned(job, repository)
    refused = [*made.never, *(() if confirmed else made.unless)]
    if made.remove and refused:
        raise Failed(f"nothing was removed: {'; '.join(refused)}")
    if made.differs:
        job.tell("differs", copy=copy, snapshots=list(made.differs))
    if made.remove:
        repository.forget(made.remove)
        one = known.copy(copy)
        if any(gone.startswith(one.snapshot) for gone in made.remove):
            one.snapshot = ""  # made by a clock that was behind; it is missed by nobody
        listed = repository.snapshots()
    job.take_stock(known, copy, listed.taken)
    job.tell("pruned", copy=copy, removed=list(made.remove), kept=len(listed.taken))
