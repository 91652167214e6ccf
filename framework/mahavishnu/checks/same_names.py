"""MV505: two names whose alerts would share a page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from mahavishnu.checks._facts import Facts
from mahavishnu.errors import Path, Problem
from mahavishnu.ground.codes import Code
from mahavishnu.policy import camel
from mahavishnu.spec import Spec

CODE = Code(
    "MV505",
    "two names that nobody could tell apart",
    "A name becomes part of the names of its alerts, and those name their runbooks: `a_b` becomes `AB`, and `ab` "
    "becomes `Ab`. Not every disk has room for both, and no person at night sees the difference.",
    "limits: {ab: {…}, a_b: {…}}",
    "Give one of them a name that differs in more than `_`.",
)


def check(facts: Facts) -> Iterator[Problem]:
    """The names of each section whose entries have alerts."""
    for path, names in _sections(facts.spec).items():
        first: dict[str, str] = {}
        for name in names:
            other = first.setdefault(camel(name).lower(), name)
            if other != name:
                what = (
                    f"`{name}` and `{other}` have alerts of the same names, but for small and capital letters"
                )
                yield Problem(CODE.id, (*path, name), what, "rename one of them", on_key=True)


def _sections(spec: Spec) -> Mapping[Path, Iterable[str]]:
    return {
        ("limits",): spec.limits,
        ("dependencies",): spec.dependencies,
        ("slos",): spec.slos,
        ("alerts", "thresholds"): spec.alerts.thresholds,
        ("backups",): spec.backups,
    }
