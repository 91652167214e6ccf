"""What a request costs on top of the bare application: each stack, and ours as the app's routes grow."""

from __future__ import annotations

import asyncio
from functools import partial

from benchmarks import proof, stacks
from benchmarks.app import CLIENTS, Traffic
from benchmarks.harness import CONTROL, Candidate, Measured, side_by_side, table, times, whole
from benchmarks.stacks import BOUND, FULL, Build, Setup, Stack

_BUILDS: tuple[Build, ...] = (
    partial(stacks.hardened, full=True),
    partial(stacks.hardened, full=False),
    stacks.bound,
    stacks.best,
    stacks.usual,
    stacks.empty_base_http,
    stacks.slowapi,
    stacks.asgi_ratelimit,
)
_ROUTES = (5, 20, 100)


def report(rounds: int) -> str:
    """Both tables; raises AssertionError when a stack did not do its job."""
    return "\n\n".join((_stacks(rounds), _routes(rounds)))


def candidate(stack: Stack, traffic: Traffic) -> Candidate:
    """A stack under this traffic; what slowapi's store leaves to threads, which start 10 ms later, counts."""
    return Candidate(stack.name, traffic, settle=0.015 if stack.threads else 0)


def _stacks(rounds: int) -> str:
    setup = Setup()
    built = [build(setup) for build in _BUILDS]
    traffic = [Traffic(stack.app) for stack in built]
    candidates = [candidate(stack, one) for stack, one in zip(built, traffic, strict=True)]
    base = candidate(bare := stacks.plain(setup), Traffic(bare.app))
    for one in (base, *candidates):
        one.run(CLIENTS)  # every client is known before the clock starts
    bare_ns, results = side_by_side(base, candidates, rounds=rounds, block=320)
    for stack, sent, one in zip(built, traffic, candidates, strict=True):
        proof.worked(stack, sent.sent)
        one.check(partial(proof.refuses, stack))
    for build in _BUILDS:
        asyncio.run(proof.behaves(build))
    for one in (base, *candidates):
        one.close()
    title = f"On top of bare Starlette with {setup.routes} routes, which takes {whole(bare_ns)} ns:"
    headings = ("stack", "added ns", "middle half", "whole, x bare", "added, x bound", "added, x ours")
    rows = [_row(results[name], results) for name in (*(stack.name for stack in built), CONTROL)]
    return f"### A request\n\n{title}\n\n{table(headings, rows)}"


def _row(one: Measured, results: dict[str, Measured]) -> tuple[str, ...]:
    low, high = one.spread
    compared = [times(one.ns / results[other].ns) if one.name != CONTROL else "" for other in (BOUND, FULL)]
    return one.name, whole(one.ns), f"{whole(low)}..{whole(high)}", times(one.ratio), *compared


def _routes(rounds: int) -> str:
    title = "The whole request against the bare app with as many routes, the one in the middle asked for:"
    headings = ("routes", "bare ns", "everything on", "the bound", "control")
    rows = [_with_routes(routes, rounds) for routes in _ROUTES]
    return f"### Routes\n\n{title}\n\n{table(headings, rows)}"


def _with_routes(routes: int, rounds: int) -> tuple[str, ...]:
    setup = Setup(routes=routes)
    built = [stacks.hardened(setup, full=True), stacks.bound(setup)]
    candidates = [candidate(stack, Traffic(stack.app)) for stack in built]
    base = Candidate("bare", Traffic(stacks.plain(setup).app))
    bare_ns, results = side_by_side(base, candidates, rounds=rounds, block=320)
    for one in (base, *candidates):
        one.close()
    return str(routes), whole(bare_ns), *(times(results[name].ratio) for name in (FULL, BOUND, CONTROL))
