"""MV309: a breaker for which no call is slow, for it has timed out before."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import Facts, warning
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code

CODE = Code(
    "MV309",
    "slow calls that time out first",
    "A call that takes longer than `slow_call` counts as slow. Where the timeout of one attempt ends it sooner none "
    "ever does, and a breaker that judges slow calls alone never opens.",
    "dependencies: {stripe: {timeout: 1s, breaker: {slow_call: 2s}}}",
    "Set `slow_call` well below `timeout`.",
)


def check(facts: Facts) -> Iterator[Problem]:
    """Every `slow_call` against the timeout of one attempt."""
    for name, dependency in facts.spec.dependencies.items():
        breaker, timeout = dependency.breaker, dependency.timeout
        if breaker is None or not breaker.judges or breaker.slow_call is None or timeout is None:
            continue
        if breaker.slow_call >= timeout:
            what = f"a call to `{name}` is slow after {breaker.slow_call}, and times out after {timeout}"
            path = ("dependencies", name, "breaker", "slow_call")
            yield warning(CODE, path, what, f"set `slow_call` well below {timeout}")
