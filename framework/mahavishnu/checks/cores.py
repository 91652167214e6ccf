"""MV216: more worker processes than there are processor cores to run them."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import Facts, warning
from mahavishnu.derived import at_rest
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code
from mahavishnu.spec import Spec

CODE = Code(
    "MV216",
    "more workers than cores",
    "A worker is one Python process, which keeps one core busy. More of them than a replica has cores do no more "
    "work: they take turns, each has its own memory, and each its own share of what is counted in a process.",
    "service: {workers: 4}\ndeploy: {resources: {cpu: 500m}}",
    "Raise `deploy.resources.cpu` to a core for each worker, and `memory` with it; or lower `service.workers` and add "
    "replicas.",
)


def check(facts: Facts) -> Iterator[Problem]:
    """Several workers against the processor time of a replica, rounded up."""
    workers, cpu = facts.spec.service.workers, facts.spec.deploy.resources.cpu
    cores = -(-int(cpu) // 1000)
    if workers > max(cores, 1):
        what = f"{workers} workers share {cpu}: {cores} of them would do as much"
        help = f"set `service.workers: {cores}`, or `deploy.resources.cpu: {workers * 1000}m`{_memory(facts.spec)}"
        yield warning(CODE, ("service", "workers"), what, help)


def _memory(spec: Spec) -> str:
    """What else must be raised, so that they all fit in."""
    least = at_rest.memory(spec.service.workers)
    return f" and `deploy.resources.memory: {least}`" if spec.deploy.resources.memory < least else ""
