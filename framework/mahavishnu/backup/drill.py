"""Getting it back: a snapshot is restored, compared with what was saved, looked into, and timed."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile

from mahavishnu.backup.capture import digest, file_name
from mahavishnu.backup.copies import each_copy
from mahavishnu.backup.evidence import Evidence
from mahavishnu.backup.job import AHEAD, Failed, Job
from mahavishnu.backup.restic import Listed, Repository, Taken
from mahavishnu.backup.restored import NotRestored, judged, same_files, written_back
from mahavishnu.units import SECOND


def drill(job: Job) -> None:
    """Restore the newest snapshot of every repository to a scratch place; raises Failed unless it is good.

    Good is: that of the last backup, not older than the RPO, whole, the same as what was saved, sound in itself, and as
    the spec asserts; as restored by a machine that remembers nothing of the repository, for this one may be what was
    lost.
    """
    with job.step("drill") as known:
        each_copy(job, partial(_drill, job, known), partial(job.beside, "drill"))


def _drill(job: Job, known: Evidence, copy: str, repository: Repository) -> None:
    began, started = job.now(), time.monotonic()
    repository = replace(repository, cache=None)
    repository.unlock()
    listed = repository.snapshots()
    job.take_stock(known, copy, listed.taken)
    taken = newest(job, listed)
    age = began - taken.snapshot.order / SECOND
    if age > job.backup.rpo.seconds:
        raise NotRestored(f"the newest snapshot is {age / 3600:.1f} hours old; the RPO is {job.backup.rpo}")
    job.still_there(known, copy, listed.taken)
    target = job.staging / f"drill-{copy}"
    restored = fetched(job, repository, taken, target)
    judged(job, restored)
    one = known.copy(copy)
    one.drilled, one.restore = began, round(time.monotonic() - started, 3)
    job.tell("drilled", copy=copy, snapshot=taken.id, seconds=one.restore)
    job.sweep()


def restore(
    job: Job, to: Path | None, *, copy: str = "1", snapshot: str | None = None, confirmed: bool = False
) -> None:
    """Restore a snapshot (the newest) to an empty folder, or without one in the place of the source.

    Raises Failed when it is not what was saved, and NotRestored when it would not do in the place of the source.
    `confirmed`: a person knows that the `assert` of the spec does not hold in it.
    """
    repository = job.repository(copy)
    if to is not None:
        _make_ready(to)
    with job.step("restore"), job.beside("restore", copy):
        taken = newest(job, repository.snapshots(), snapshot)
        job.tell("restoring", copy=copy, snapshot=taken.id, made=taken.snapshot.at.isoformat())
        target = to or job.staging / "restore"
        restored = fetched(job, repository, taken, target)
        claim = None if confirmed else job.backup.verify.claim
        kept = "" if to else written_back(job, restored, claim)
    job.tell("restored", copy=copy, snapshot=taken.id, place=str(restored) if to else "the source")
    if kept:
        job.tell("kept", place=kept)


def _make_ready(to: Path) -> None:
    """A folder for a restore, which nobody else may read unless it was there before; raises Failed.

    Not left to restic, which says of each file that it cannot be restored, and not why.
    """
    try:
        to.mkdir(mode=0o700, parents=True, exist_ok=True)
        empty = not any(to.iterdir())
        with TemporaryFile(dir=to):
            pass
    except OSError as fault:
        raise Failed(f"nothing can be written to {to}: {fault.strerror}; nothing was restored") from None
    if not empty:
        raise Failed(f"{to} is not empty: nothing was restored")


def newest(job: Job, listed: Listed, wanted: str | None = None) -> Taken:
    """The newest snapshot that is whole, or any by its id or the beginning of that; raises NotRestored."""
    taken, incomplete, _ = listed
    if wanted is not None:
        taken = [one for one in (*taken, *incomplete) if one.id.startswith(wanted)]
        if len(taken) != 1:
            raise NotRestored(f"{len(taken)} snapshots are called `{wanted}`")
    if not taken:
        raise NotRestored(job.none)
    if wanted is None and taken[0].snapshot.order / SECOND > job.now() + AHEAD:
        raise NotRestored("the newest snapshot lies in the future: a clock is wrong, or somebody forged it")
    return taken[0]


def fetched(job: Job, repository: Repository, taken: Taken, target: Path) -> Path:
    """The snapshot below a folder, compared with what was saved; raises NotRestored."""
    repository.restore(taken.id, target)
    if not (name := file_name(job)):
        same_files(list(repository.files(taken.id)), target)
        return target / taken.paths[0].lstrip("/")
    restored, saved = target / name, taken.tag("sha256")
    if not restored.is_file() or not restored.stat().st_size:
        raise NotRestored(f"the snapshot holds no `{name}`, or an empty one")
    if saved is None:
        raise NotRestored(
            "nothing says what the snapshot should hold: it was not made by `mahavishnu backup run`"
        )
    restored.chmod(0o600)  # restic knows no other rights than those of every new file
    if digest(restored) != saved:
        raise NotRestored("what was restored is not what was saved: the hashes differ")
    return restored
