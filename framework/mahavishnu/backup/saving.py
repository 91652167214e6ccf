"""A backup is made: its source is captured between the hooks, and saved to every repository."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from functools import partial

from mahavishnu.backup import capture
from mahavishnu.backup.beginning import ready
from mahavishnu.backup.capture import Captured
from mahavishnu.backup.copies import each_copy
from mahavishnu.backup.evidence import REMEMBERED, Evidence
from mahavishnu.backup.job import Failed, Job
from mahavishnu.backup.restic import Repository
from mahavishnu.errors import MahavishnuError


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
        return capture.captured(job)
    except (MahavishnuError, OSError) as fault:
        job.tell("failed", why=str(fault))
        raise


def _save(
    job: Job, known: Evidence, found: Captured, began: tuple[float, float], copy: str, repository: Repository
) -> None:
    one = known.copy(copy)
    with job.alone("run", copy):
        ready(job, one, repository)
    tags = [f"bytes={found.size}", *([f"sha256={found.hash}"] if found.hash else [])]
    with job.beside("run", copy), ExitStack() as stack:
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
