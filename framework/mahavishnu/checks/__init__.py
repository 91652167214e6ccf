"""Cross-checks of a whole spec, one file and one code each: what only who holds both sides can see."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules
from typing import Protocol, cast

from mahavishnu.checks._facts import App, Facts, Routes
from mahavishnu.errors import Level, Problem
from mahavishnu.ground.codes import Code
from mahavishnu.signals import AgreementError


class Check(Protocol):
    """A module of this package: its code, and what it finds."""

    CODE: Code

    def check(self, facts: Facts) -> Iterator[Problem]: ...


ALL = tuple(
    cast("Check", import_module(f"{__name__}.{one.name}"))
    for one in iter_modules(__path__)
    if not one.name.startswith("_")
)
"""Every file of this folder whose name does not begin with `_`."""


def run(facts: Facts) -> tuple[Problem, ...]:
    """What every check finds; raises AgreementError where the rules cannot be made, and nothing else says why."""
    found: list[Problem] = []
    without: AgreementError | None = None
    for one in ALL:
        try:
            found += one.check(facts)
        except AgreementError as fault:
            without = without or fault
    if without is not None and all(one.severity is not Level.ERROR for one in found):
        raise without
    return tuple(found)


__all__ = ["ALL", "App", "Check", "Facts", "Routes", "run"]
