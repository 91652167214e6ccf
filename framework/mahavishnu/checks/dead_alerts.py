"""MV501: an alert that can never fire."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import Facts, error, requests
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code
from mahavishnu.policies.concurrency import Concurrency
from mahavishnu.policies.slo import Slo
from mahavishnu.policies.threshold import Condition, Threshold
from mahavishnu.series import DEAD_LETTERS_AGE
from mahavishnu.spec import Spec
from mahavishnu.units import Percent, Size

CODE = Code(
    "MV501",
    "an alert that can never fire",
    "A burn rate alert fires when more than factor x (1 - objective) of the requests fail. When that is 100% or more, "
    "not even the failure of every request is enough. An alert that requires more requests than ever arrive can never "
    "fire. A limit that is off refuses nothing, a breaker that is held judges nothing, and no queue grows beyond its "
    "spots.",
    "slos: {batch: {objective: 90%}}   # P1: 14.4 x 10% = 144%",
    "Promise more, or list the severities that can fire: `severities: [P2, P3, P4]`.",
)


def check(facts: Facts) -> Iterator[Problem]:
    """Every burn rate of every SLO, and every condition on what is off, or cannot get so far."""
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
        yield from _given_up(facts, name, slo)
    yield from _conditions(facts)


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


def _given_up(facts: Facts, name: str, slo: Slo) -> Iterator[Problem]:
    """A promise on the age of dead letters, none of which becomes so old."""
    asked, kept = slo.query.age if slo.query else None, facts.spec.retention.dead_letters
    if slo.fresh is not None and slo.fresh >= kept and DEAD_LETTERS_AGE.name in (asked or ""):
        what = f"slo `{name}` can never be broken: no dead letter is kept for longer than {kept}"
        yield error(
            CODE, ("slos", name, "fresh"), what, "promise less time, or raise `retention.dead_letters`"
        )


def _conditions(facts: Facts) -> Iterator[Problem]:
    """Conditions on what is off, or beyond the most that the spec lets it be."""
    for name, threshold in facts.spec.alerts.thresholds.items():
        when = threshold.when if isinstance(threshold, Threshold) else None
        if when and (fault := _off(when, facts.spec) or _beyond(when, facts.spec)):
            yield error(CODE, ("alerts", "thresholds", name, "when"), *fault)


def _off(when: Condition, spec: Spec) -> tuple[str, str] | None:
    limit = spec.limits.get(when.name or "") if when.section == "limits" else None
    dependency = spec.dependencies.get(when.name or "") if when.aspect == "slow" else None
    help = "set its mode to `observe` or `enforce`, or remove the threshold"
    if limit is not None and limit.mode == "off":
        return f"`{when.signal}` never moves: limit `{when.name}` is off", help
    breaker = dependency.breaker if dependency else None
    if breaker is not None and not breaker.judges:
        held = "off" if breaker.mode == "off" else f"held {breaker.mode}"
        return f"`{when.signal}` never moves: the breaker of `{when.name}`, which tells it, is {held}", help
    return None


def _beyond(when: Condition, spec: Spec) -> tuple[str, str] | None:
    found = _most(when, spec) if when.comparison in (">", ">=") else None
    if found is None or isinstance(when.bound, Percent):
        return None
    most, why, help = found
    reached = int(when.bound) < most if when.comparison == ">" else int(when.bound) <= most
    return None if reached else (f"`{when}` never holds: {why}", help)


def _most(when: Condition, spec: Spec) -> tuple[int, str, str] | None:
    """The most that the spec lets something be, why, and how to raise it; None: nothing there says so."""
    limit = spec.limits.get(when.name or "")
    if when.aspect == "queue" and isinstance(limit, Concurrency):
        spots = _spots(limit) * spec.service.workers
        return spots, f"at most {spots} requests wait for limit `{when.name}`", "raise its `queue`"
    if when.signal == "dead_letters.depth":
        entries = spec.dead_letters.entries
        return entries, f"at most {entries} dead letters are kept", "raise `dead_letters.entries`"
    if when.signal == "dead_letters.age":
        kept = spec.retention.dead_letters
        return kept, f"no dead letter is kept for longer than {kept}", "raise `retention.dead_letters`"
    if when.signal == "memory" and isinstance(when.bound, Size) and _confined(spec):
        memory = spec.deploy.resources.memory
        return memory, f"a replica that takes more than {memory} is killed", "raise `deploy.resources.memory`"
    return None


def _spots(limit: Concurrency) -> int:
    """How many may wait in one process."""
    return max(limit.queue, limit.most if limit.critical else 0)


def _confined(spec: Spec) -> bool:
    """Whether a replica gets no more memory than is said; several workers each count what they share."""
    deploy = spec.deploy
    said = deploy.targets.compose or deploy.targets.kubernetes or "resources" in deploy.model_fields_set
    return bool(said) and spec.service.workers == 1
