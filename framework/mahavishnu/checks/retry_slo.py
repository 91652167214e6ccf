"""MV302: a call that may take longer than the latency that was promised."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks import retry_deadline
from mahavishnu.checks._attempts import longest_call, told
from mahavishnu.checks._facts import Facts, warning
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code

CODE = Code(
    "MV302",
    "attempts that outlast the latency SLO",
    "Retries hide failures by taking time. A request that waits for them is slow, and slow counts "
    "against the SLO.",
    "slos: {latency: {objective: 95%, under: 1s}}\ndependencies: {stripe: {timeout: 2s, retry: "
    "{attempts: 3}}}",
    "Shorten the timeout of one attempt, use fewer attempts, or promise what the retries allow.",
)


def check(facts: Facts) -> Iterator[Problem]:
    """Every dependency against the latency promised for every request."""
    promises = {name: slo.under for name, slo in facts.spec.slos.items() if slo.under and slo.match is None}
    if not promises:
        return
    name, under = min(promises.items(), key=lambda one: one[1])
    for called, dependency in facts.spec.dependencies.items():
        total = longest_call(dependency)
        if total is not None and total > under:
            what = (
                f"one call to `{called}` may take {total} ({told(dependency)}); slo `{name}` promises {under}"
            )
            help = "fewer attempts or a shorter `timeout`, if a request waits for this call"
            yield warning(CODE, retry_deadline.where(called, dependency), what, help)
