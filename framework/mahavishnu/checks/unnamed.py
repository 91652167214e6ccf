"""MV414: a dependency that no code names."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import Facts
from mahavishnu.errors import Level, Problem
from mahavishnu.ground.codes import Code

CODE = Code(
    "MV414",
    "a dependency that no code names",
    "A timeout, a retry or a breaker holds for what the code guards by `dependency(…)`: for one that nobody names "
    "nothing holds, and its alerts never fire.",
    'dependencies: {stripe: {timeout: 2s}, bank: {timeout: 2s}} beside `dependency("stripe")` alone',
    "Guard the calls, or remove the dependency. What only a function or another process names is not seen: let a "
    'module of the app name it once, `bank = dependency("bank")`.',
)


def check(facts: Facts) -> Iterator[Problem]:
    """Each dependency of the spec, where somebody looked at the app."""
    if facts.app is None:
        return
    for name in facts.spec.dependencies:
        if name not in facts.app.dependencies:
            what = f"when the app is imported no `dependency(…)` names `{name}`, so nothing may hold for its calls"
            help = (
                "guard them; one that only a function or a worker makes is not seen: let the module make it"
            )
            yield Problem(CODE.id, ("dependencies", name), what, help, Level.WARNING, on_key=True)
