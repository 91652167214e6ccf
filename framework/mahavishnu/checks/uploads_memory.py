"""MV607: uploads that take the memory which the service needs."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import Facts, warning
from mahavishnu.derived import uploads
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code

CODE = Code(
    "MV607",
    "more uploads at once than there is memory for",
    "What a form brings lies in /tmp until it is read, and on Compose that is memory of the container. It gets half of "
    "it at the most: uploads beyond that are answered with 500, as the disk is full.",
    "limits: {uploads: {body: 50MiB}}\ndeploy: {resources: {memory: 512Mi}, targets: {compose: {}}}",
    "Let in fewer at once, with `concurrency` and `body` for the same `match`, or give a replica more memory.",
)


def check(facts: Facts) -> Iterator[Problem]:
    """The largest bodies that are let in, against the memory of a replica."""
    most, memory = uploads.largest(facts.spec), facts.spec.deploy.resources.memory
    if facts.spec.deploy.targets.compose is None or most is None:
        return
    if most.room > max(uploads.LEAST, memory // 2):
        what = (
            f"{most.at_once} bodies of {most.size} at once take up memory on Compose, {_mebibytes(most.room)} with "
            f"what lies beside them: more than half of the {memory} that a replica has"
        )
        help = (
            "let in fewer at once, with `concurrency` and `body` for the same `match`, or set "
            f"`deploy.resources.memory: {_mebibytes(2 * most.room)}`"
        )
        yield warning(CODE, ("limits", most.limit, "body"), what, help)


def _mebibytes(size: int) -> str:
    return f"{-(-size // 2**20)}Mi"
