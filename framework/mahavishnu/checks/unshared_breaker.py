"""MV203: a breaker whose advice nobody hears."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import Facts, error
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code

CODE = Code(
    "MV203",
    "a breaker whose advice nobody hears",
    "With `scope: fleet` a breaker that opens tells all processes through the shared store. Without one it tells "
    "nobody, and each process finds out by itself.",
    "store: memory://\ndependencies: {stripe: {breaker: {scope: fleet}}}",
    "Name a `store` that all share, or leave `scope` away.",
)


def check(facts: Facts) -> Iterator[Problem]:
    """Every breaker of the fleet, where nothing is shared."""
    if facts.spec.shared:
        return
    for name in facts.spec.fleet_breakers:
        what = f"the breaker of `{name}` advises the fleet, but its processes share no store"
        help = "name a `store` that they share, or remove `scope: fleet`"
        yield error(CODE, ("dependencies", name, "breaker", "scope"), what, help)
