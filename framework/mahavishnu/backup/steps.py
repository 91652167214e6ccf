"""The steps of a backup: run, prune, verify, each done alone, and its outcome written down."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import partial

from mahavishnu.backup import sources
from mahavishnu.backup.evidence import ALL, REMEMBERED, Copy, Evidence
from mahavishnu.backup.job import Failed, Job
from mahavishnu.backup.restic import KEEPS_OLDEST, Listed, Repository, ResticFailed
from mahavishnu.backup.retain import Plan, plan
from mahavishnu.backup.sources import Captured
from mahavishnu.errors import MahavishnuError
from mahavishnu.policies._retention import words
from mahavishnu.policies.backup import READ_PARTS
from mahavishnu.units import SECOND

Each = Callable[[str, Repository], None]
Turn = Callable[[str], AbstractContextManager[None]]


def _at_once(_: str) -> AbstractContextManager[None]:
    return nullcontext()


def each_copy(job: Job, do: Each, turn: Turn = _at_once) -> None:
    """Do something with every repository, each in its turn, also when it fails with another; raises Failed with all."""
    faults: list[str] = []
    for copy, repository in job.repositories().items():
        try:
            with turn(copy):
                do(copy, repository)
        except (MahavishnuError, OSError) as fault:
            sentence = repository.clean(str(fault))
            job.tell("failed", copy=copy, why=sentence)
            faults.append(f"copy {copy}: {sentence}")
    if faults:
        raise Failed(f"backup `{job.name}`: {'; '.join(faults)}")


# --- run ------------------------------------------------------------------------------------------


def run(job: Job) -> None:
    """Capture the source and save it to every repository; raises Failed unless all of it succeeded."""
    with job.step("run") as known:
        job.repositories()  # without restic or a password nothing is begun
        with _hooked(job):
            began = job.now(), time.monotonic()
            found = _captured(job)
            each_copy(job, partial(_save, job, known, found, began))


@contextmanager
def _hooked(job: Job) -> Generator[None]:
    """Between the hooks. The one after it is told how it ended; where that fails, too, both are said."""
    try:
        job.hook("before", "")
        yield
    except BaseException as fault:
        job.sweep()
        try:
            job.hook("after", "failure")
        except Failed as second:
            if isinstance(fault, MahavishnuError | OSError):
                raise Failed(f"{fault}; {second}") from None
        raise
    job.sweep()
    job.hook("after", "success")


def _captured(job: Job) -> Captured:
    job.tell("capturing", source=job.backup.source.keyword)
    try:
        return sources.captured(job)
    except (MahavishnuError, OSError) as fault:
        job.tell("failed", why=str(fault))
        raise


def _save(
    job: Job, known: Evidence, found: Captured, began: tuple[float, float], copy: str, repository: Repository
) -> None:
    one = known.copy(copy)
    with job.alone(copy):
        _ready(job, one, repository)
    tags = [f"bytes={found.size}", *([f"sha256={found.hash}"] if found.hash else [])]
    with job.beside(copy), ExitStack() as stack:
        # A file, not a pipe: if this process is killed, what restic still reads is whole.
        stdin = stack.enter_context(found.file.open("rb")) if found.file else None
        tell = partial(job.tell, "progress", copy=copy)
        snapshot, size = repository.save(found.words, tags, stdin, lambda done: tell(done=done), found.least)
    job.take_stock(known, copy, repository.snapshots().taken)
    one.first = one.first or began[0]
    one.success, one.snapshot = began[0], snapshot
    one.duration = round(time.monotonic() - began[1], 3)
    one.sizes = [*one.sizes[-REMEMBERED:], size]
    job.tell("saved", copy=copy, snapshot=snapshot, bytes=size, seconds=one.duration)


def _ready(job: Job, one: Copy, repository: Repository) -> None:
    """Open the repository, or make it where there has never been one; one that has gone is no beginning."""
    try:
        repository.unlock()
    except ResticFailed as fault:
        if not fault.absent:
            raise
    else:
        return
    if one.success is not None:
        raise Failed("the repository is not there any more, and it was when the last backup succeeded")
    repository.init()
    job.tell("initialised", repository=repository.clean(repository.place))


# --- prune ----------------------------------------------------------------------------------------


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
        each_copy(job, partial(_prune, job, known, confirmed), job.alone)


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


# --- verify ---------------------------------------------------------------------------------------


def verify(job: Job, *, everything: bool = False) -> None:
    """Check every repository and read a part of its data, each run the next; raises Failed for any damage.

    Damage is also that there is no whole snapshot, or that the one of the last backup is gone.

    Only when all parts were read without a fault is it called verified, as of the time the first was begun. What was
    not read well, a part or everything, is what the next run reads again: a fault is not forgotten over a sound part.
    """
    with job.step("verify") as known:
        each_copy(job, partial(_verify, job, known, everything), job.alone)


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
