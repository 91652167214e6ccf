"""MV503: a latency that no request can exceed, because its deadline ends it first."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import Facts, warning
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code

CODE = Code(
    "MV503",
    "a latency SLO that the deadline makes idle",
    "A request that has not begun to answer is ended at its deadline. When that is sooner than the "
    "promised latency, "
    "hardly a request is ever counted as slow: only a long body can still be.",
    "limits: {request: {timeout: 10s}}\nslos: {latency: {objective: 95%, under: 30s}}",
    "Promise less time than the deadline allows.",
)


def check(facts: Facts) -> Iterator[Problem]:
    """Every latency promised against the longest deadline, when every request has one."""
    last = facts.last_deadline()
    if last is None:
        return
    longest = last[1].timeout
    for name, slo in facts.spec.slos.items():
        if slo.under is not None and slo.under >= longest:
            what = f"slo `{name}` calls slow what outlasts {slo.under}, but requests end after {longest}"
            yield warning(CODE, ("slos", name, "under"), what, f"set `under` below {longest}")
