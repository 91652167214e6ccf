"""MV202: a breaker that will not see enough calls in its window to judge them."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from mahavishnu.checks._facts import Facts, error
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code
from mahavishnu.policies.breaker import Breaker
from mahavishnu.spec import Dependency, Spec

CODE = Code(
    "MV202",
    "a breaker that can never open",
    "No rate is judged on fewer calls than `min_calls`. If the window never holds as many, the "
    "breaker stays closed "
    "whatever happens. Each process counts its own calls; `service.traffic` is the most a dependency "
    "can see.",
    "service: {traffic: 10/minute}\ndependencies: {stripe: {breaker: {min_calls: 20, window: 30s}}}",
    "Lower `min_calls`, widen `window`, or use `consecutive_failures`.",
)


def check(facts: Facts) -> Iterator[Problem]:
    """Every breaker that judges rates, when the expected traffic is said."""
    for name, dependency in facts.spec.dependencies.items():
        breaker = dependency.breaker
        if breaker is None or not breaker.judges or not _judges_rates(breaker):
            continue
        most = _calls(facts.spec, dependency, breaker)
        if most is not None and most < breaker.min_calls:
            what = (
                f"the breaker of `{name}` needs {breaker.min_calls} calls within {breaker.window}; at "
                f"{facts.spec.service.traffic} a process makes "
                f"{most.quantize(Decimal('0.1')).normalize():f} at most"
            )
            help = f"set `min_calls: {max(1, int(most))}` or less, or widen `window`"
            path = ("dependencies", name, "breaker", "min_calls")
            yield error(CODE, path, what, help)


def _judges_rates(breaker: Breaker) -> bool:
    """Whether a rate alone opens it, of more than the one call that is judged."""
    if breaker.min_calls == 1:
        return False
    return breaker.consecutive_failures is None and (breaker.failing() or breaker.slowing()) is not None


def _calls(spec: Spec, dependency: Dependency, breaker: Breaker) -> Decimal | None:
    """The most calls one process can make within the breaker's window: one per request, and the retries."""
    if spec.service.traffic is None:
        return None
    processes = spec.service.workers * spec.deploy.replicas.min
    calls = spec.service.traffic.per_second * breaker.window.seconds / processes
    return calls * (1 + dependency.retry.budget.ratio) if dependency.retry else calls
