"""Each layer by itself: ours and the bound on top of themselves without it, the peers on top of the bare app."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from benchmarks import ours, peers, proof, stacks
from benchmarks.app import CLIENTS, Traffic
from benchmarks.goals import Goal, Report, at_most
from benchmarks.harness import CONTROL, Candidate, Measured, side_by_side, table, times, whole
from benchmarks.served import candidate
from benchmarks.stacks import Build, On, Setup, Stack

OURS = "Hardening"


class Layer(NamedTuple):
    """A layer: what is on with it, its peers, and how many times the bound's cost is allowed."""

    name: str
    on: On
    peers: Sequence[Build] = ()
    goal: float | None = None


BASE = Layer("metrics and request id", On(), (*peers.METRICS, *peers.REQUEST_IDS), 2)
LAYERS = (
    BASE,
    Layer("one limit", On(limits=1), peers.ONE_LIMIT, 1.5),
    Layer("three limits", On(limits=3)),
    Layer("JSON access log", On(log=True), peers.LOGS, 2),
    Layer("deadline", On(deadline=True), peers.DEADLINES),
)
_INTRODUCTION = """\
What one layer adds to a request. Of ours, metrics and request ids are always on: they are measured together, ours and
the bound on top of the bare application with the bound's route table (which makes it quicker, and is not to be
counted for them). Every other layer of ours and of the bound is measured on top of the same middleware without it, and
every peer on top of the bare application."""


def report(rounds: int) -> Report:
    """A table for each layer; raises AssertionError when a stack did not do its job."""
    tables, goals = [f"### Layers\n\n{_INTRODUCTION}"], list[Goal]()
    for layer in LAYERS:
        results = _measured(layer, 2 * rounds)
        bound = results[ours.BOUND].ns
        rows = [_row(one, bound) for one in results.values()]
        tables.append(table((layer.name, "added ns", "middle half", "x bound"), rows))
        if layer.goal is not None:
            goals.append(at_most(f"{layer.name}, added", results[OURS].ns / bound, layer.goal, "the bound"))
    return Report("\n\n".join(tables), tuple(goals))


def _measured(layer: Layer, rounds: int) -> dict[str, Measured]:
    setup = Setup()
    builds: list[Build] = [
        partial(ours.hardened, on=layer.on, name=OURS),
        partial(ours.bound, on=layer.on),
        *layer.peers,
    ]
    built = [build(setup) for build in builds]
    traffic = [Traffic(stack.app) for stack in built]
    base = Candidate("bare", Traffic(stacks.plain(setup).app))
    below = _below(layer, setup)
    candidates = [
        candidate(stack, sent, over)
        for stack, sent, over in zip(built, traffic, [*below, *[None] * len(layer.peers)], strict=True)
    ]
    everyone = [base, *candidates, *below]
    for one in everyone:
        one.run(CLIENTS)
    _, results = side_by_side(base, candidates, rounds=rounds, block=320)
    for stack, sent, build in zip(built, traffic, builds, strict=True):
        _prove(stack, sent.sent, candidates[built.index(stack)], build)
    for one in everyone:
        one.close()
    return results


def _below(layer: Layer, setup: Setup) -> list[Candidate]:
    if layer is BASE:
        without = (ours.handing(setup), ours.handing(setup))
    else:
        without = (ours.hardened(setup, on=On()), ours.bound(setup, on=On()))
    return [candidate(stack, Traffic(stack.app)) for stack in without]


def _prove(stack: Stack, sent: int, one: Candidate, build: Build) -> None:
    proof.worked(stack, sent)
    one.check(partial(proof.refuses, stack))
    asyncio.run(proof.behaves(build))


def _row(one: Measured, bound: float) -> tuple[str, ...]:
    low, high = one.spread
    compared = times(one.ns / bound) if one.name != CONTROL else ""
    return one.name, whole(one.ns), f"{whole(low)}..{whole(high)}", compared
