"""MV409: dead letters that nobody writes."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import Facts, error
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code

CODE = Code(
    "MV409",
    "dead letters without a dependency that writes them",
    "The section would be accepted and do nothing, and so would a promise of how long letters are kept.",
    "dependencies: {stripe: {timeout: 2s}}\ndead_letters: {entries: 500}",
    "Give a dependency `fallback: dead_letter`, or remove what is said about dead letters.",
)


def check(facts: Facts) -> Iterator[Problem]:
    """What is said of dead letters where there can be none."""
    spec = facts.spec
    if spec.parking:
        return
    for path, said in ((("dead_letters",), spec), (("retention", "dead_letters"), spec.retention)):
        if "dead_letters" in said.model_fields_set:
            yield error(CODE, path, "no dependency has `fallback: dead_letter`", "add it, or remove this")
