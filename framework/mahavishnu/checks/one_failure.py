"""MV502: an alert that a single failed request sets off."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from mahavishnu.burn_rates import Burn
from mahavishnu.checks._facts import Facts, requests, warning
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code
from mahavishnu.policies.slo import Slo
from mahavishnu.units import Rate

CODE = Code(
    "MV502",
    "an alert on one failed request",
    "With few requests a single failure is a large share of them. A page for one failed request "
    "teaches people to "
    "ignore pages.",
    "service: {traffic: 1/minute}\nslos: {availability: {objective: 99.9%}}   # 1 of 60 is more than 1.44%",
    "Promise less, leave out the fastest severities, or say the expected load in `service.traffic`.",
)


def check(facts: Facts) -> Iterator[Problem]:
    """Every burn rate against the expected traffic; without one, how much would be needed."""
    for name, slo in facts.spec.slos.items():
        if slo.fresh is not None:
            continue
        traffic = facts.spec.service.traffic if slo.query is None else None
        jumpy = [burn for burn in slo.tiers() if not burn.dead and _jumps(slo, burn, traffic)]
        if jumpy:
            worst = max(jumpy, key=lambda burn: Fraction(burn.requests, int(burn.tier.long)))
            yield warning(CODE, ("slos", name, "objective"), *_said(name, slo, worst, traffic))


def _jumps(slo: Slo, burn: Burn, traffic: Rate | None) -> bool:
    """Whether a single failure can set it off: with so few requests, and no guard that waits for more."""
    few = traffic is None or requests(traffic, burn) < burn.requests
    return few and (slo.waits_for(burn) or 0) < burn.requests


def _said(name: str, slo: Slo, burn: Burn, traffic: Rate | None) -> tuple[str, str]:
    alert, of = f"the {burn.tier.severity} alert of slo `{name}`", "events" if slo.query else "requests"
    needed = f"{burn.requests:,} {of} in {burn.tier.long}"
    if traffic is None:
        where = (
            "" if slo.query else "say the expected load in `service.traffic`, so that this can be judged, or "
        )
        return (
            f"{alert} fires on one failed {of.removesuffix('s')} unless there are {needed}",
            f"{where}write `min_requests: auto`, so that it waits for as many",
        )
    seen = f"at {traffic} there are {requests(traffic, burn):,}"
    rest = [str(one) for one in slo.severities if one != burn.tier.severity]
    help = f"promise less than {slo.objective}, or write `severities: [{', '.join(rest)}]`"
    return f"{alert} fires on one failed request: it needs {needed}, and {seen}", help
