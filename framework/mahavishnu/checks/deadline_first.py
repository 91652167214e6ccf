"""MV304: hung calls that no breaker sees, because the request's deadline cuts them first."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import Facts, warning
from mahavishnu.errors import Problem
from mahavishnu.events import CALL_CUT
from mahavishnu.ground.codes import Code
from mahavishnu.policies.timeout import MARGIN
from mahavishnu.units import Duration

CODE = Code(
    "MV304",
    "hung calls that no breaker sees: the request's deadline cuts them first",
    "A call that is cut because its request has no time left says nothing about the dependency: it may have "
    "been given a millisecond. So where the request's deadline always comes before the dependency's own timeout, "
    "a dependency that hangs holds every request for its whole time, its breaker stays closed, and no alert says "
    f"that it fails. At run time the log tells of such calls (`{CALL_CUT}`).",
    "limits: {request: {timeout: 2s}}\ndependencies: {stripe: {timeout: 2s, breaker: {}}}",
    "Give the dependency a timeout well below the deadline of the requests that call it.",
)


def check(facts: Facts) -> Iterator[Problem]:
    """Every dependency against the longest deadline, when every request has one."""
    last = facts.last_deadline()
    if last is None:
        return
    name, longest = last
    for called, dependency in facts.spec.dependencies.items():
        timeout = dependency.timeout
        if longest.ends_first(timeout):
            own = f"after {timeout}" if timeout else "never"
            what = (
                f"no breaker sees calls to `{called}` that hang: they time out {own}, but limit `{name}` ends "
                f"their request after {longest.timeout}, of which {Duration(MARGIN)} are kept to answer in"
            )
            help = f"set `dependencies.{called}.timeout` well below {longest.timeout}"
            yield warning(CODE, ("dependencies", called, "timeout"), what, help)
