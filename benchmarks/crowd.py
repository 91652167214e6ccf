"""One limit with 100,000 tracked clients against 100: what a request costs; how long a decision may take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from benchmarks import ours, peers, stacks, stalls
from benchmarks.app import Traffic
from benchmarks.goals import Report, at_most
from benchmarks.harness import CONTROL, Candidate, Measured, side_by_side, table, times, whole
from benchmarks.served import candidate
from benchmarks.stacks import Build, On, Setup

_FEW, _MANY = 100, 100_000
_ONE = "Hardening, one limit"
_BUILDS: Mapping[str, Build] = {
    _ONE: partial(ours.hardened, on=On(limits=1), name=_ONE),
    ours.BOUND: partial(ours.bound, on=On(limits=1)),
    "asgi-ratelimit": peers.asgi_ratelimit,
}
_STALLS: Mapping[str, Callable[[], stalls.Longest]] = {
    "mahavishnu: store, room for all": partial(stalls.ours, stalls.CLIENTS),
    "mahavishnu: store, room for 100,000 (default)": partial(stalls.ours, 100_000),
    "a plain dict": stalls.plain,
}
_WAITS = f"""\
CPU time of single decisions while {stalls.CLIENTS:,} new clients come (the two calls that measure it included; what
other processes take is not, page faults are; decisions in which Python collected garbage apart):"""
_TITLE = f"""\
What one limit adds to a request while {_FEW} clients are tracked, and while {_MANY:,} are (of ours and the bound with
metrics and request ids):"""


def report(rounds: int) -> Report:
    """The table and its goal."""
    results = _measured(2 * rounds)
    rows = [
        (
            name,
            *(whole(results[f"{name}, {clients}"].ns) for clients in (_FEW, _MANY)),
            times(_grown(results, name)),
        )
        for name in _BUILDS
    ]
    rows.append((CONTROL, whole(results[CONTROL].ns), "", ""))
    headings = ("one limit", f"{_FEW} clients, ns", f"{_MANY:,} clients, ns", "ratio")
    longest = {name: measure() for name, measure in _STALLS.items()}
    worst = max(one.decision for name, one in longest.items() if name.startswith("mahavishnu"))
    goals = (
        at_most(f"one limit, {_MANY:,} clients", _grown(results, _ONE), 1.3, f"as much as with {_FEW}"),
        at_most("longest decision as a million clients come", worst / 1e6, 1, "", unit="ms"),
    )
    text = f"### A crowd\n\n{_TITLE}\n\n{table(headings, rows)}\n\n{_WAITS}\n\n{_stalls(longest)}"
    return Report(text, goals)


def _stalls(longest: Mapping[str, stalls.Longest]) -> str:
    rows = [(name, *map(whole, (one.median, one.decision, one.collecting))) for name, one in longest.items()]
    return table(("one decision", "median ns", "longest ns", "longest while collecting garbage"), rows)


def _measured(rounds: int) -> dict[str, Measured]:
    setup = Setup(
        requests=1_000_000, period="hour"
    )  # a hundred clients ask often, and none is forgotten meanwhile
    base = Candidate("bare", Traffic(stacks.plain(setup).app))
    candidates: list[Candidate] = []
    for name, build in _BUILDS.items():
        for clients in (_FEW, _MANY):
            stack = build(setup)
            one = candidate(stack, Traffic(stack.app, clients=clients))
            one.name = f"{name}, {clients}"
            one.run(clients)
            candidates.append(one)
    _, results = side_by_side(base, candidates, rounds=rounds, block=320)
    for one in (base, *candidates):
        one.close()
    return results


def _grown(results: Mapping[str, Measured], name: str) -> float:
    return results[f"{name}, {_MANY}"].ns / results[f"{name}, {_FEW}"].ns
