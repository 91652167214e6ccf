"""MV707: dead letters that are given up before their last attempt."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import Facts, error
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code

CODE = Code(
    "MV707",
    "dead letters that expire before their last attempt",
    "A letter that is given up while it still has attempts was kept in vain, and nobody decided so.",
    "dead_letters: {redrive: {attempts: 10, base: 1h, max: 1d}}\nretention: {dead_letters: 2d}",
    "Keep them at least twice as long as all pauses together, so that a person can still decide.",
)


def check(facts: Facts) -> Iterator[Problem]:
    """Retention against all pauses of a letter."""
    spec = facts.spec
    patience, kept = spec.dead_letters.redrive.patience, spec.retention.dead_letters
    if spec.parking and kept < 2 * patience:
        attempts = spec.dead_letters.redrive.attempts
        what = f"dead letters are kept for {kept}; their {attempts} attempts alone may take {patience}"
        help = "raise `retention.dead_letters`, or lower `dead_letters.redrive`"
        yield error(CODE, ("dead_letters", "redrive"), what, help)
