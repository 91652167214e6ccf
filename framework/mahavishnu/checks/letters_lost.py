"""MV605: dead letters in a file that is gone with its replica."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import Facts, warning
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code

CODE = Code(
    "MV605",
    "dead letters that are lost with their replica",
    "A pod has no disk of its own: a file in it outlives its container, but is gone with every rollout, eviction and "
    "scale-down, and with it the calls that were promised to be made again.",
    "dependencies: {stripe: {fallback: dead_letter}}\ndeploy: {targets: {kubernetes: {}}}",
    "Keep them on a server: `dead_letters: {store: redis://letters:6379}`, which must not forget.",
)


def check(facts: Facts) -> Iterator[Problem]:
    """A file, where pods come and go."""
    spec = facts.spec
    if spec.parking and spec.dead_letters.file is not None and spec.deploy.targets.kubernetes is not None:
        what = f"the dead letters of `{spec.parking[0]}` are in a file of a pod, and lost with it"
        help = "set `dead_letters.store` to a server: `redis://letters:6379`"
        yield warning(CODE, ("dependencies", spec.parking[0], "fallback"), what, help)
