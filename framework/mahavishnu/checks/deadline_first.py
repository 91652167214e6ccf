"""MV304: a breaker that never hears of calls that hang, for the request always ends first."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import Facts, warning
from mahavishnu.codes import Code
from mahavishnu.errors import Problem
from mahavishnu.spec import Dependency

CODE = Code(
    "MV304",
    "a breaker that never hears of calls that hang",
    "A call that is cut because its request has no time left says nothing about the dependency: it may have "
    "been given a millisecond. So where the request's deadline always comes before the dependency's own timeout, "
    "a dependency that hangs holds every request for its whole time, and its breaker stays closed.",
    "limits: {request: {timeout: 2s}}\ndependencies: {stripe: {timeout: 2s, breaker: {}}}",
    "Give the dependency a timeout well below the deadline of the requests that call it.",
)


def check(facts: Facts) -> Iterator[Problem]:
    """Every breaker against the longest deadline, when every request has one."""
    last = facts.last_deadline()
    if last is None:
        return
    name, longest = last
    for called, dependency in facts.spec.dependencies.items():
        if _guarded(dependency) and (dependency.timeout is None or dependency.timeout >= longest.timeout):
            own = f"after {dependency.timeout}" if dependency.timeout else "never"
            what = (
                f"the breaker of `{called}` never hears of calls that hang: they time out {own}, "
                f"and limit `{name}` ends their request after {longest.timeout}"
            )
            help = f"set `dependencies.{called}.timeout` well below {longest.timeout}"
            yield warning(CODE, ("dependencies", called, "timeout"), what, help)


def _guarded(dependency: Dependency) -> bool:
    return dependency.breaker is not None and dependency.breaker.mode != "off"
