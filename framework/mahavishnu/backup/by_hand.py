"""restic itself, typed by a person: for what no step does, such as another password of a repository."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import IO

from mahavishnu.backup.job import Job


def restic(
    job: Job, copy: str, words: Sequence[str], stdin: IO[bytes] | None, show: Callable[[str], object]
) -> None:
    """Run restic on a repository, as the steps open it, and show what it writes; raises ResticFailed."""
    repository = job.repository(copy)

    def shown(line: str) -> bool:
        show(repository.clean(line))
        return True

    with job.beside("restic", copy):
        repository.call(*words, stdin=stdin, on_line=shown)
