"""MV307: a wait in a queue that outlasts the time the request has."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import Facts, warning
from mahavishnu.codes import Code
from mahavishnu.errors import Problem
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
    for name, gate in facts.spec.limits.items():
        if not isinstance(gate, Concurrency) or gate.mode != "enforce" or not (gate.queue or gate.critical):
            continue
        for other, limit in _deadlines(facts, gate):
            if gate.wait >= limit.timeout:
                what = f"limit `{name}` lets requests wait {gate.wait}; limit `{other}` ends them after {limit.timeout}"
                yield warning(CODE, ("limits", name, "wait"), what, f"set `wait` well below {limit.timeout}")


def _deadlines(facts: Facts, gate: Concurrency) -> list[tuple[str, Timeout]]:
    """The deadline for the very same requests, or else the one for all, unless a nearer one may go before it."""
    known = list(facts.deadlines())
    same = [one for one in known if one[1].match == gate.match]
    nearer = gate.match is not None and any(limit.match is not None for _, limit in known)
    return same or ([] if nearer else [one for one in known if one[1].match is None])
