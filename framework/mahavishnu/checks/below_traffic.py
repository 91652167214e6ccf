"""MV220: a rate of all clients together that is below the traffic which is expected."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from mahavishnu.checks._facts import Facts, warning
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code
from mahavishnu.policies.rate import Rate
from mahavishnu.policy import CallMatch
from mahavishnu.spec import Spec

CODE = Code(
    "MV220",
    "a limit of all clients together that is below the expected traffic",
    "`per: global` counts all requests as one. Where it lets in less than `service.traffic` says, it refuses what is "
    "expected, of every client and all the time; a refusal is no fault of the service, so no objective sees it.",
    "service: {traffic: 50/second}\nlimits: {whole: {rate: 10/second, per: global}}",
    "Raise the rate well above what is expected, or correct `service.traffic`.",
)
_EVERY_REQUEST = (None, CallMatch(), CallMatch(path="/*"))


def check(facts: Facts) -> Iterator[Problem]:
    """Every enforced rate that is one for all requests, against the expected traffic."""
    spec, traffic = facts.spec, facts.spec.service.traffic
    if traffic is None:
        return
    expected = Fraction(traffic.count, int(traffic.period))
    for name, limit in spec.limits.items():
        if isinstance(limit, Rate) and _of_all(limit) and _lets_in(spec, limit) < expected:
            what = (
                f"limit `{name}` lets in {_said(spec, limit)} of all clients together, and refuses the rest of the "
                f"{traffic} that `service.traffic` expects"
            )
            help = f"raise the rate well above {traffic}, or correct `service.traffic`"
            yield warning(CODE, ("limits", name, "rate"), what, help)


def _of_all(limit: Rate) -> bool:
    return limit.mode == "enforce" and {*limit.per} == {"global"} and limit.match in _EVERY_REQUEST


def _lets_in(spec: Spec, limit: Rate) -> Fraction:
    """Requests in a nanosecond, by all processes that may run."""
    return Fraction(limit.rate.count * _counts(spec, limit), int(limit.rate.period) * limit.cost)


def _counts(spec: Spec, limit: Rate) -> int:
    return 1 if spec.shared and limit.scope == "fleet" else spec.processes


def _said(spec: Spec, limit: Rate) -> str:
    each = f" in each of {counts} processes" if (counts := _counts(spec, limit)) > 1 else ""
    cost = f", of which a request takes {limit.cost}," if limit.cost > 1 else ""
    return f"{limit.rate}{each}{cost}"
