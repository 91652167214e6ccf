"""MV403: a condition on a limit or a dependency that is not there, or does not have what it asks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mahavishnu.checks._facts import Facts, error
from mahavishnu.checks._words import meant
from mahavishnu.codes import Code
from mahavishnu.errors import Problem
from mahavishnu.policies.concurrency import Concurrency
from mahavishnu.policies.threshold import Condition
from mahavishnu.spec import Spec

CODE = Code(
    "MV403",
    "a condition on something that is not measured",
    "The alert would watch a series that nobody shows, and would never fire.",
    "alerts: {thresholds: {busy: {when: limits.per_clint.refused > 5%, severity: P3}}}",
    "Name a limit or dependency of this spec, and an aspect that it has.",
)


def check(facts: Facts) -> Iterator[Problem]:
    """Every condition that names a limit or a dependency."""
    for name, threshold in facts.spec.alerts.thresholds.items():
        if fault := _fault(threshold.when, facts.spec):
            yield error(CODE, ("alerts", "thresholds", name, "when"), *fault)


def _fault(when: Condition, spec: Spec) -> tuple[str, str] | None:
    if when.signal.startswith("dead_letters.") and not spec.parking:
        return f"`{when.signal}`: no call becomes a dead letter", "give a dependency `fallback: dead_letter`"
    if when.section is None or when.name is None:
        return None
    known: Mapping[str, object] = spec.limits if when.section == "limits" else spec.dependencies
    if when.name not in known:
        kind = "limit" if when.section == "limits" else "dependency"
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
