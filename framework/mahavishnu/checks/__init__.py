"""Cross-checks of a whole spec, one file and one code each: what only who holds both sides can see."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from mahavishnu.checks import (
    behind_proxy,
    believed,
    body_deadline,
    channels,
    cores,
    dead_alerts,
    deadline_first,
    docker_gateway,
    effective_limit,
    forwarded,
    grace,
    header_key,
    history,
    min_calls,
    one_failure,
    overlapping,
    own_paths,
    queue_wait,
    retry_deadline,
    retry_slo,
    routes,
    slow_slo,
    subjects,
    unheard,
)
from mahavishnu.checks._facts import Facts, Routes
from mahavishnu.codes import Code
from mahavishnu.errors import Level, Problem
from mahavishnu.signals import AgreementError


class Check(Protocol):
    """A module of this package: its code, and what it finds."""

    CODE: Code

    def check(self, facts: Facts) -> Iterator[Problem]: ...


ALL: tuple[Check, ...] = (
    effective_limit, min_calls, behind_proxy, believed, overlapping, docker_gateway, forwarded, header_key, cores,
    retry_deadline, retry_slo, grace, queue_wait, deadline_first, body_deadline, channels, subjects, routes, own_paths,
    dead_alerts, one_failure, slow_slo, history, unheard,
)  # fmt: skip
"""Those that need the contract come last: a condition on nothing has been found by then."""


def run(facts: Facts) -> tuple[Problem, ...]:
    """What every check finds."""
    found: list[Problem] = []
    for one in ALL:
        try:
            found += one.check(facts)
        except AgreementError:
            if all(problem.level is not Level.ERROR for problem in found):
                raise
    return tuple(found)


__all__ = ["ALL", "Check", "Facts", "Routes", "run"]
