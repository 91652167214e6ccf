"""MV201: a limit that every process counts for itself is not the number that was written."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import Facts, error
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code
from mahavishnu.spec import Spec

CODE = Code(
    "MV201",
    "a limit of the whole fleet that nothing shares",
    "Without a shared store every process counts alone: with 4 replicas, or 4 workers, a client gets four times the "
    "limit.",
    "limits: {per_client: {rate: 300/minute}}\ndeploy: {replicas: {min: 2, max: 12}}",
    "Name a `store` that all share, say `scope: process` where each process may count alone, or run one process.",
)


def check(facts: Facts) -> Iterator[Problem]:
    """Every rate of the fleet, as soon as more than one process may run."""
    spec, processes = facts.spec, facts.spec.processes
    if spec.shared or processes <= 1:
        return
    for name, limit in spec.fleet_rates.items():
        each = limit.peak()
        what = (
            f"limit `{name}` is {limit.rate} for the whole fleet, but {processes} processes share nothing: "
            f"up to {each * processes:,} get through in {limit.rate.period}, {each:,} in each"
        )
        help = (
            "name a `store` that they share, write `scope: process` if it is meant for each process, or set "
            f"{_one(spec)}"
        )
        yield error(CODE, ("limits", name, "rate"), what, help)


def _one(spec: Spec) -> str:
    """What to set for there to be one process."""
    replicas = ["`deploy.replicas.max: 1`"] if spec.deploy.replicas.max > 1 else []
    return " and ".join([*replicas, *(["`service.workers: 1`"] if spec.service.workers > 1 else [])])
