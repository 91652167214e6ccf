"""What a refusal costs: a client beyond its rate, against a bare 200."""

from __future__ import annotations

from functools import partial

from benchmarks import assembled, ours, peers, stacks
from benchmarks.app import Traffic
from benchmarks.goals import Report, at_most
from benchmarks.harness import Candidate, side_by_side, table, times
from benchmarks.served import FULL, candidate
from benchmarks.stacks import EVERYTHING, Build, On, Setup

_ONE = "Hardening, one limit"
_BUILDS: tuple[Build, ...] = (
    partial(ours.hardened, on=EVERYTHING, name=FULL),
    partial(ours.hardened, on=On(limits=1), name=_ONE),
    partial(ours.bound, on=EVERYTHING),
    partial(ours.bound, on=On(limits=1), name="the bound, one limit"),
    assembled.best,
    assembled.usual,
    *peers.ONE_LIMIT,
)
_CLIENT = 7


def report(rounds: int) -> Report:
    """The table; every measured answer is a 429, or it raises AssertionError."""
    setup = Setup(requests=1, period="day")  # nothing is admitted anew while it runs
    built = [build(setup) for build in _BUILDS]
    candidates = [candidate(stack, Traffic(stack.app, expected=429, one=_CLIENT)) for stack in built]
    base = Candidate("bare", Traffic(stacks.plain(setup).app))
    for stack, one in zip(built, candidates, strict=True):
        one.check(partial(Traffic(stack.app, one=_CLIENT), 1))
    _, results = side_by_side(base, candidates, rounds=rounds, block=160)
    for one in (base, *candidates):
        one.close()
    rows = [(one.name, times(one.ratio)) for one in results.values()]
    text = "### A refusal\n\nThe whole 429 against a bare 200:\n\n" + table(("stack", "x bare 200"), rows)
    goals = (
        at_most("a refusal, one limit", results[_ONE].ratio, 0.3, "a bare 200"),
        at_most("a refusal, everything on", results[FULL].ratio, 0.3, "a bare 200"),
    )
    return Report(text, goals)
