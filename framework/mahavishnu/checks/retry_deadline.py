"""MV301: a call whose attempts together outlast the request that makes them."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._attempts import longest_call, told
from mahavishnu.checks._facts import Facts, error
from mahavishnu.errors import Path, Problem
from mahavishnu.ground.codes import Code
from mahavishnu.spec import Dependency

CODE = Code(
    "MV301",
    "attempts that outlast the request",
    "When the request's deadline ends before the last attempt does, that attempt is work for nobody.",
    "limits: {request: {timeout: 5s}}\ndependencies: {stripe: {timeout: 2s, retry: {attempts: 3}}}",
    "Fewer attempts, a shorter timeout of one attempt, or a longer deadline.",
)


def check(facts: Facts) -> Iterator[Problem]:
    """Every dependency against the longest deadline, when every request has one."""
    last = facts.last_deadline()
    if last is None:
        return
    name, longest = last
    for called, dependency in facts.spec.dependencies.items():
        total = longest_call(dependency)
        if total is not None and total > longest.timeout:
            what = (
                f"one call to `{called}` may take {total} ({told(dependency)}), "
                f"but limit `{name}` ends a request after {longest.timeout}"
            )
            yield error(CODE, where(called, dependency), what, _help(dependency))


def where(name: str, dependency: Dependency) -> Path:
    """The number that makes a call long: its attempts, or its timeout."""
    return ("dependencies", name, *(("retry", "attempts") if dependency.retry else ("timeout",)))


def _help(dependency: Dependency) -> str:
    fewer = "lower `attempts`, shorten " if dependency.retry else "shorten "
    return f"{fewer}`timeout`, or lengthen the deadline"
