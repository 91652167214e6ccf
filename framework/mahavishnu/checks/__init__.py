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
    heartbeat,
    hidden,
    history,
    letters_expire,
    letters_idle,
    letters_lost,
    logs_kept,
    min_calls,
    never_slow,
    no_server,
    nothing_kept,
    one_failure,
    one_job,
    one_place,
    other_events,
    overlapping,
    own_paths,
    promised_history,
    public_metrics,
    queries,
    queue_wait,
    recovery_point,
    retry_deadline,
    retry_slo,
    retry_within,
    routes,
    same_names,
    same_port,
    silenced,
    slow_slo,
    subjects,
    unheard,
    unreached,
    unshared_breaker,
    uploads_memory,
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
    effective_limit, min_calls, unshared_breaker, behind_proxy, believed, overlapping, docker_gateway, forwarded,
    header_key, cores, retry_deadline, retry_slo, retry_within, grace, queue_wait, deadline_first, body_deadline,
    never_slow, channels, silenced, subjects, routes, own_paths, recovery_point, promised_history, nothing_kept,
    one_place, unreached, letters_idle, letters_lost, letters_expire, logs_kept, hidden, queries, other_events,
    same_port, same_names, no_server, one_job, uploads_memory, public_metrics, dead_alerts, one_failure, slow_slo,
    history, unheard, heartbeat,
)  # fmt: skip
"""Those that need the contract come last: a condition on nothing has been found by then."""


def run(facts: Facts) -> tuple[Problem, ...]:
    """What every check finds."""
    found: list[Problem] = []
    for one in ALL:
        try:
            found += one.check(facts)
        except AgreementError:
            if all(problem.severity is not Level.ERROR for problem in found):
                raise
    return tuple(found)


__all__ = ["ALL", "Check", "Facts", "Routes", "run"]
