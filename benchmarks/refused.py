"""What a refusal costs: a client beyond its rate, against a bare 200."""

from __future__ import annotations

from functools import partial

from benchmarks import stacks
from benchmarks.app import Traffic
from benchmarks.harness import CONTROL, Candidate, side_by_side, table, times
from benchmarks.served import candidate
from benchmarks.stacks import Build, Setup

_BUILDS: tuple[Build, ...] = (
    partial(stacks.hardened, full=True),
    partial(stacks.hardened, full=False),
    stacks.bound,
    stacks.best,
    stacks.usual,
    stacks.slowapi,
    stacks.asgi_ratelimit,
)
_CLIENT = 7


def report(rounds: int) -> str:
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
    rows = [(name, times(results[name].ratio)) for name in (*(stack.name for stack in built), CONTROL)]
    return "### A refusal\n\nThe whole 429 against a bare 200:\n\n" + table(("stack", "x bare 200"), rows)
