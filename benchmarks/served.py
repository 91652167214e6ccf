"""What a request costs on top of the bare application with everything on: ours, the bound, the peers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from benchmarks import assembled, ours, peers, proof, stacks
from benchmarks.app import CLIENTS, Traffic
from benchmarks.goals import Goal, Report, at_least, at_most
from benchmarks.harness import CONTROL, Candidate, Measured, side_by_side, table, times, whole
from benchmarks.stacks import AND_MORE, EVERYTHING, Build, Setup, Stack

FULL = "Hardening, everything on"
MORE = "Hardening, and everything else"
_BUILDS: tuple[Build, ...] = (
    partial(ours.hardened, on=EVERYTHING, name=FULL),
    partial(ours.hardened, on=AND_MORE, name=MORE),
    partial(ours.bound, on=EVERYTHING),
    assembled.best,
    assembled.usual,
    peers.empty_base_http,
)


def report(rounds: int) -> Report:
    """The table and its goals; raises AssertionError when a stack did not do its job."""
    asyncio.run(proof.equals(*(build(Setup()) for build in (_BUILDS[0], _BUILDS[2]))))
    bare_ns, results = measured(_BUILDS, rounds)
    title = f"On top of bare Starlette with {Setup().routes} routes, which takes {whole(bare_ns)} ns:"
    headings = ("stack", "added ns", "middle half", "whole, x bare", "added, x bound", "added, x ours")
    rows = [_row(one, results) for one in results.values()]
    return Report(f"### A request\n\n{title}\n\n{table(headings, rows)}", tuple(_goals(results)))


def candidate(stack: Stack, traffic: Traffic, over: Candidate | None = None) -> Candidate:
    """A stack under this traffic; what slowapi's store leaves to threads, which start 10 ms later, counts."""
    return Candidate(stack.name, traffic, settle=0.015 if stack.threads else 0, over=over)


def measured(builds: Sequence[Build], rounds: int) -> tuple[float, dict[str, Measured]]:
    """The bare application's time in ns, and what each stack adds to it; each has then shown that it works."""
    setup = Setup()
    built = [build(setup) for build in builds]
    traffic = [Traffic(stack.app) for stack in built]
    candidates = [candidate(stack, one) for stack, one in zip(built, traffic, strict=True)]
    base = candidate(bare := stacks.plain(setup), Traffic(bare.app))
    for one in (base, *candidates):
        one.run(CLIENTS)  # every client is known before the clock starts
    bare_ns, results = side_by_side(base, candidates, rounds=rounds, block=320)
    for stack, sent, one in zip(built, traffic, candidates, strict=True):
        proof.worked(stack, sent.sent)
        one.check(partial(proof.refuses, stack))
    for build in builds:
        asyncio.run(proof.behaves(build))
    for one in (base, *candidates):
        one.close()
    return bare_ns, results


def _row(one: Measured, results: dict[str, Measured]) -> tuple[str, ...]:
    low, high = one.spread
    others = (ours.BOUND, FULL)
    compared = [times(one.ns / results[other].ns) if one.name != CONTROL else "" for other in others]
    return one.name, whole(one.ns), f"{whole(low)}..{whole(high)}", times(one.ratio), *compared


def _goals(results: dict[str, Measured]) -> list[Goal]:
    full = results[FULL].ns
    return [
        at_most("everything on, added", full / results[ours.BOUND].ns, 2, "the bound"),
        at_least("everything on, the usual stack against it", results[assembled.USUAL].ns / full, 50, "ours"),
        at_least("everything on, the best parts against it", results[assembled.BEST].ns / full, 5, "ours"),
    ]
