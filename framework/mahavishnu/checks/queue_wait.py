"""MV307: a wait in a queue that outlasts the time the request has."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import Deadlines, Facts, warning
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code
from mahavishnu.policies.concurrency import Concurrency
from mahavishnu.policies.timeout import Timeout

CODE = Code(
    "MV307",
    "a queue in which requests wait until their time is up",
    "The wait for a place counts against the deadline of the request. One that waits as long as it has gets a "
    "504 without having begun, and has held a spot in the queue that another could have used.",
    "limits: {request: {timeout: 2s}, reports: {concurrency: 4, queue: 16, wait: 2s}}",
    "Wait for a part of the deadline at most, so that the work itself has time.",
)


def check(facts: Facts) -> Iterator[Problem]:
    """Every queue against the deadline of its requests, where it is sure which one that is."""
    known = facts.deadlines_by_match()
    for name, gate in facts.spec.limits.items():
        if not isinstance(gate, Concurrency) or gate.mode != "enforce" or not (gate.queue or gate.critical):
            continue
        for other, limit in _deadlines(known, gate):
            if gate.wait >= limit.timeout:
                what = f"limit `{name}` lets requests wait {gate.wait}; limit `{other}` ends them after {limit.timeout}"
                yield warning(CODE, ("limits", name, "wait"), what, f"set `wait` well below {limit.timeout}")


def _deadlines(known: Deadlines, gate: Concurrency) -> list[tuple[str, Timeout]]:
    """The deadline for the very same requests, or else the one for all, unless a nearer one may go before it."""
    nearer = gate.match is not None and any(match is not None for match in known)
    return known.get(gate.match) or ([] if nearer else known.get(None, []))
