"""MV501: an alert that can never fire."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import Facts, error, requests
from mahavishnu.codes import Code
from mahavishnu.errors import Problem
from mahavishnu.policies.slo import Slo
from mahavishnu.policies.threshold import Threshold

CODE = Code(
    "MV501",
    "an alert that can never fire",
    "A burn rate alert fires when more than factor x (1 - objective) of the requests fail. When that "
    "is 100% or more, "
    "not even the failure of every request is enough. An alert that waits for more requests than come never ends to "
    "wait. A limit that is off refuses nothing.",
    "slos: {batch: {objective: 90%}}   # P1: 14.4 x 10% = 144%",
    "Promise more, or list the severities that can fire: `severities: [P2, P3, P4]`.",
)


def check(facts: Facts) -> Iterator[Problem]:
    """Every burn rate of every SLO, and every condition on a limit or breaker that is off."""
    for name, slo in facts.spec.slos.items():
        dead = [burn for burn in slo.tiers() if burn.dead]
        if dead:
            what = (
                f"{', '.join(burn.tier.severity for burn in dead)} of slo `{name}` can never fire: "
                f"{float(dead[0].factor):g} x {float(dead[0].budget):.4g} is "
                f"{float(dead[0].ratio):.0%} of all requests"
            )
            alive = [str(burn.tier.severity) for burn in slo.tiers() if not burn.dead]
            help = (
                f"write `severities: [{', '.join(alive)}]`, or a higher objective"
                if alive
                else "a higher objective"
            )
            yield error(CODE, ("slos", name, "objective"), what, help)
        yield from _waiting(facts, name, slo)
    yield from _off(facts)


def _waiting(facts: Facts, name: str, slo: Slo) -> Iterator[Problem]:
    """Burn rates that wait for more requests than `service.traffic` brings."""
    if facts.spec.service.traffic is None or slo.query is not None:
        return
    seen = {burn: requests(facts.spec.service.traffic, burn) for burn in slo.tiers() if not burn.dead}
    idle = [burn for burn, most in seen.items() if (slo.waits_for(burn) or 0) > most]
    if idle:
        burn = idle[0]
        what = (
            f"{', '.join(burn.tier.severity for burn in idle)} of slo `{name}` can never fire: it waits for "
            f"{slo.waits_for(burn):,} requests in {burn.tier.long}, and at {facts.spec.service.traffic} there are "
            f"{seen[burn]:,}"
        )
        rest = [str(one.tier.severity) for one in slo.tiers() if one not in idle]
        help = f"write `severities: [{', '.join(rest)}]`" if rest else "remove `min_requests`"
        yield error(CODE, ("slos", name, "min_requests"), what, help)


def _off(facts: Facts) -> Iterator[Problem]:
    for name, threshold in facts.spec.alerts.thresholds.items():
        if not isinstance(threshold, Threshold):
            continue
        when = threshold.when
        limit = facts.spec.limits.get(when.name or "") if when.section == "limits" else None
        if limit is not None and limit.mode == "off":
            what = f"`{when.signal}` never moves: limit `{when.name}` is off"
            path = ("alerts", "thresholds", name, "when")
            yield error(CODE, path, what, "set its mode to `observe` or `enforce`, or remove the threshold")
