"""Alerts on the calls of a dependency, whatever policies it has."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from mahavishnu.events import CALL_FAILED
from mahavishnu.policy import camel
from mahavishnu.promql import total
from mahavishnu.series import DEPENDENCY_CALLS, DEPENDENCY_DURATION, DEPENDENCY_FALLBACKS
from mahavishnu.signals import WINDOW, Alert, Feed, Severity, Signal
from mahavishnu.spec import Spec
from mahavishnu.units import Duration

_FAILING_RATIO = Decimal("0.1")


def signals(spec: Spec) -> Iterator[Signal]:
    """The calls of each, how long they take, and what stood in for them."""
    for name in spec.dependencies:
        shown = (DEPENDENCY_CALLS, DEPENDENCY_DURATION, DEPENDENCY_FALLBACKS)
        yield from (one.closed(dependency=name) for one in shown)


def alerts(spec: Spec) -> Iterator[Alert]:
    """One for each dependency."""
    yield from map(_failing, spec.dependencies)


def _failing(name: str) -> Alert:
    """More calls fail than anybody gets used to, though perhaps too few for a breaker, or there is none."""
    calls = DEPENDENCY_CALLS.closed(dependency=name)
    bad = total(calls.rate(WINDOW, dependency=name, outcome_re="failure|timeout"))
    made = total(calls.rate(WINDOW, dependency=name, outcome_re="success|failure|timeout"))
    return Alert(
        name=f"Dependency{camel(name)}Failing",
        severity=Severity.P3,
        expr=bad / made > _FAILING_RATIO,
        bad=bad,
        hold=Duration.parse("10m"),
        summary=f"$value of the calls to {name} fail or time out.",
        unit="ratio",
        meaning=f"More than 10% of the attempts to call {name} ended with an error, 5xx, or no answer in time.",
        impact=f"Requests that need {name} fail, or take longer because calls are repeated.",
        action=f"Read why in the log of the service: `{CALL_FAILED}` has the `reason`, once a minute for each kind. "
        f"Look at {name} itself; mahavishnu_dependency_calls_total says whether calls fail or time out.",
        path=("dependencies", name),
        proof=(
            Feed(calls.select(dependency=name, outcome="success"), healthy=600, faulty=400),
            Feed(calls.select(dependency=name, outcome="failure"), healthy=6, faulty=100),
            Feed(calls.select(dependency=name, outcome="timeout"), healthy=0, faulty=100),
        ),
    )
