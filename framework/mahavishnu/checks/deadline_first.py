"""MV304: hung calls that no breaker sees, because the request's deadline cuts them first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mahavishnu.checks._facts import Facts, warning
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code
from mahavishnu.policies.timeout import MARGIN, Timeout
from mahavishnu.units import Duration

CODE = Code(
    "MV304",
    "hung calls that no breaker sees: the request's deadline cuts them first",
    "A call that is cut because its request has no time left says nothing about the dependency: it may have "
    "been given a millisecond. So where the request's deadline always comes before the dependency's own timeout, "
    "a dependency that hangs holds every request for its whole time, its breaker stays closed, and no alert says "
    "that it fails. Where only some requests have so short a deadline, that is so for what those call. At run time the "
    "log tells of it (`call cut`).",
    "limits: {request: {timeout: 2s}}\ndependencies: {stripe: {timeout: 2s, breaker: {}}}",
    "Give the dependency a timeout well below the deadline of the requests that call it. Where those of a limit with "
    "`match` call none of what is named, nothing is to be done.",
)


def check(facts: Facts) -> Iterator[Problem]:
    """Every dependency against the longest deadline, when every request has one; then each shorter deadline against
    the dependencies that have all their time under that."""
    last = facts.last_deadline()
    unseen = {} if last is None else dict(_cut(facts, last[1]))
    if last is not None:
        yield from (_always(called, timeout, *last) for called, timeout in unseen.items())
    for name, limit in facts.deadlines():
        found = {
            called: timeout
            for called, timeout in _cut(facts, limit)
            if timeout is not None and called not in unseen and _seen_elsewhere(facts, called)
        }
        if found:
            yield _sometimes(found, name, limit)


def _cut(facts: Facts, limit: Timeout) -> Iterator[tuple[str, Duration | None]]:
    """The dependencies whose calls have less time than their own timeout in the requests of this limit."""
    for called, dependency in facts.spec.dependencies.items():
        if dependency.timeout is None or dependency.timeout >= limit.timeout - MARGIN:
            yield called, dependency.timeout


def _seen_elsewhere(facts: Facts, called: str) -> bool:
    """Whether code names it, as far as anybody knows, and its breaker sees calls of other requests that hang."""
    breaker = facts.spec.dependencies[called].breaker
    named = facts.app is None or called in facts.app.dependencies
    return named and breaker is not None and breaker.judges


def _always(called: str, timeout: Duration | None, name: str, longest: Timeout) -> Problem:
    own = f"after {timeout}" if timeout else "never"
    what = (
        f"no breaker sees calls to `{called}` that hang: they time out {own}, but limit `{name}` ends "
        f"their request after {longest.timeout}, of which {Duration(MARGIN)} are kept to answer in"
    )
    help = f"set `dependencies.{called}.timeout` well below {longest.timeout}"
    return warning(CODE, ("dependencies", called, "timeout"), what, help)


def _sometimes(found: Mapping[str, Duration], name: str, limit: Timeout) -> Problem:
    which = " or ".join(f"`{called}` (timeout {timeout})" for called, timeout in found.items())
    what = (
        f"where requests of limit `{name}` call {which}, no breaker sees a call that hangs: they end after "
        f"{limit.timeout}, of which {Duration(MARGIN)} are kept to answer in"
    )
    help = f"if they call it, give it a timeout well below {limit.timeout}, or them more time"
    return warning(CODE, ("limits", name, "timeout"), what, help)
