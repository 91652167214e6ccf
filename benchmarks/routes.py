"""The whole request as the app grows: Starlette matches its routes one after the other."""

from __future__ import annotations

from benchmarks import ours, stacks
from benchmarks.app import Traffic
from benchmarks.goals import Goal, Report, at_most
from benchmarks.harness import CONTROL, Candidate, side_by_side, table, times, whole
from benchmarks.served import FULL, candidate
from benchmarks.stacks import EVERYTHING, Setup

_GOALS = {5: None, 20: 1.05, 100: 0.7, 300: 0.4}


def report(rounds: int) -> Report:
    """The table: everything on and the bound against the bare app with as many routes."""
    title = "The whole request against the bare app with as many routes, the one in the middle asked for:"
    headings = ("routes", "bare ns", "everything on", "the bound", "control")
    rows, goals = list[tuple[str, ...]](), list[Goal]()
    for routes, goal in _GOALS.items():
        bare_ns, ratios = _with(routes, rounds)
        rows.append((str(routes), whole(bare_ns), *map(times, ratios)))
        if goal is not None:
            goals.append(at_most(f"whole request at {routes} routes", ratios[0], goal, "bare"))
    return Report(f"### Routes\n\n{title}\n\n{table(headings, rows)}", tuple(goals))


def _with(routes: int, rounds: int) -> tuple[float, list[float]]:
    setup = Setup(routes=routes)
    built = [ours.hardened(setup, on=EVERYTHING, name=FULL), ours.bound(setup, on=EVERYTHING)]
    candidates = [candidate(stack, Traffic(stack.app)) for stack in built]
    base = Candidate("bare", Traffic(stacks.plain(setup).app))
    bare_ns, results = side_by_side(base, candidates, rounds=rounds, block=320)
    for one in (base, *candidates):
        one.close()
    return bare_ns, [results[name].ratio for name in (FULL, ours.BOUND, CONTROL)]
