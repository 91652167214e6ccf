"""MV308: retries for which a call that hangs leaves no time."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import Facts, warning
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code

CODE = Code(
    "MV308",
    "retries for which a call that hangs leaves no time",
    "`within` is the time for all attempts together. When one attempt may take all of it, a call that times out is "
    "never repeated, though `retry_on` may say so.",
    "dependencies: {stripe: {timeout: 2s, retry: {attempts: 3, within: 2s}}}",
    "Lengthen `within`, or shorten the timeout of one attempt.",
)


def check(facts: Facts) -> Iterator[Problem]:
    """Every `within` against the timeout of one attempt."""
    for name, dependency in facts.spec.dependencies.items():
        retry, timeout = dependency.retry, dependency.timeout
        if retry is None or retry.within is None or retry.attempts == 1 or "timeout" not in retry.retry_on:
            continue
        if timeout is None or retry.within <= timeout:
            long = f"may take {timeout}" if timeout else "has no timeout"
            what = f"one attempt to call `{name}` {long}, and all together may take {retry.within}"
            help = (
                f"set `within` well above {timeout}"
                if timeout
                else f"add a `timeout` well below {retry.within}"
            )
            yield warning(CODE, ("dependencies", name, "retry", "within"), what, help)
