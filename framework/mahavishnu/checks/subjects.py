"""MV403: a condition on a limit, a dependency or a backup that is not there, or does not have what it asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from mahavishnu.checks._facts import Facts, error
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code
from mahavishnu.ground.words import meant
from mahavishnu.policies.concurrency import Concurrency
from mahavishnu.policies.threshold import Condition, Threshold
from mahavishnu.spec import Spec

CODE = Code(
    "MV403",
    "a condition on something that is not measured",
    "The alert would watch a series that nobody shows, and would never fire.",
    "alerts: {thresholds: {busy: {when: limits.per_clint.refused > 5%, severity: P3}}}",
    "Name a limit, dependency or backup of this spec, and an aspect that it has.",
)


_KINDS: Mapping[str, Callable[[Spec], tuple[str, Mapping[str, object]]]] = {
    "limits": lambda spec: ("limit", spec.limits),
    "dependencies": lambda spec: ("dependency", spec.dependencies),
    "backups": lambda spec: ("backup", spec.backups),
}


def check(facts: Facts) -> Iterator[Problem]:
    """Every condition that names a limit, a dependency or a backup."""
    for name, threshold in facts.spec.alerts.thresholds.items():
        if isinstance(threshold, Threshold) and (fault := _fault(threshold.when, facts.spec)):
            yield error(CODE, ("alerts", "thresholds", name, "when"), *fault)


def _fault(when: Condition, spec: Spec) -> tuple[str, str] | None:
    if when.signal.startswith("dead_letters.") and not spec.parking:
        return f"`{when.signal}`: no call becomes a dead letter", "give a dependency `fallback: dead_letter`"
    if when.section is None or when.name is None:
        return None
    kind, known = _KINDS[when.section](spec)
    if when.name not in known:
        help = meant(when.name, known) or f"add `{when.name}` under `{when.section}`"
        return f"`{when.signal}`: there is no {kind} `{when.name}`", help
    if when.aspect in ("queue", "utilisation") and not isinstance(spec.limits[when.name], Concurrency):
        return f"`{when.signal}`: limit `{when.name}` is not one of `concurrency`", "watch `refused` instead"
    if when.aspect == "slow" and not _tells_slow(spec, when.name):
        return f"`{when.signal}`: nothing says when `{when.name}` is slow", "add `slow_call` to its breaker"
    return None


def _tells_slow(spec: Spec, name: str) -> bool:
    breaker = spec.dependencies[name].breaker
    return breaker is not None and breaker.slow_call is not None
