"""The breaker against scripts of what is documented of breakers: when, what happens, and what is seen then."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mahavishnu.errors import BreakerOpen
from mahavishnu.loading import nodes, yaml_tree
from mahavishnu.policies._breaker_states import Closed
from mahavishnu.policies.breaker import Breaker, BreakerGuard
from mahavishnu.protocols import Site
from mahavishnu.testing import VirtualClock
from mahavishnu.units import Duration
from tests.figures import figure
from tests.metering import metrics_for
from tests.policies.breaker_model import ENDS, judged

LEASE = Duration.parse("2s")
TEXT = (Path(__file__).parent / "scenarios.txt").read_text()


class Step(NamedTuple):
    """One line of a script."""

    at: int
    event: list[str]
    state: str
    counts: str


class Scenario(NamedTuple):
    """A script: its settings and its steps."""

    name: str
    said: dict[str, Any]
    steps: list[Step]


def _read() -> list[Scenario]:
    parts = TEXT.split("\n== ")[1:]
    return [_scenario(part.split("\n")) for part in parts]


def _scenario(lines: list[str]) -> Scenario:
    name, said, *rest = (line for line in lines if line and not line.startswith("#"))
    steps = [re.split(r"  +", line.strip()) for line in rest]
    return Scenario(name, _plain(said), [_step(*step) for step in steps])


def _plain(text: str) -> dict[str, Any]:
    tree = yaml_tree.read(text.encode(), "scenarios.txt").tree
    assert tree is not None
    said: dict[str, Any] = nodes.plain(tree)
    return said


def _step(at: str, event: str, then: str, counts: str = "") -> Step:
    state, _, same_column = then.partition(" ")
    return Step(
        Duration.parse(at) if at != "0s" else Duration(0), event.split(), state, counts or same_column
    )


class World:
    """A breaker under a script."""

    def __init__(self, said: dict[str, Any]) -> None:
        self.settings = Breaker.model_validate(said)
        self.clock = VirtualClock()
        site = Site("stripe", self.clock, metrics_for(self.settings), int(LEASE), lambda: 0.5)
        guard = self.settings.guard(site)
        assert guard is not None
        self.guard: BreakerGuard = guard
        self.begun: dict[str, tuple[object, int]] = {}
        self.events: dict[str, Callable[..., None]] = {
            "begin": self.begin,
            "end": self.end,
            "refused": self.refused,
            "mode": self.mode,
            "wait": lambda: None,
        }

    def happens(self, what: str, *words: str) -> None:
        """One event."""
        if what in self.events:
            self.events[what](*words)
            return
        times = int(words[0].removeprefix("x")) if words else 1
        for _ in range(times):
            self.leave(self.admitted(), what, 10**9 + 1 if what.startswith("slow") else 1)

    def begin(self, name: str) -> None:
        self.begun[name] = self.admitted(), self.clock.now()

    def admitted(self) -> object:
        """The permit of a call that waits for nothing else."""
        permit = self.guard.enter()
        self.guard.renew(permit)
        return permit

    def end(self, name: str, how: str) -> None:
        permit, began = self.begun.pop(name)
        self.leave(permit, how, self.clock.now() - began)

    def leave(self, permit: object, how: str, took: int) -> None:
        word = {"slow": "ok", "slowfail": "fault", "fail": "fault"}.get(how, how)
        outcome, leaves = judged(ENDS[word]())
        self.guard.leave(permit, outcome, took, self.clock.now(), leaves)

    def refused(self, after: str) -> None:
        with pytest.raises(BreakerOpen) as caught:
            self.guard.enter()
        assert caught.value.retry_after == (None if after == "ever" else Duration.parse(after))

    def mode(self, mode: str) -> None:
        self.guard.become(self.settings.model_copy(update={"mode": mode}), int(LEASE))

    def seen(self) -> tuple[str, str]:
        """The state, and what it has counted."""
        state: Any = self.guard.now_state
        if isinstance(state, Closed):
            state.fold()
            counts = state.window.totals
        else:
            counts = [state.reported, state.wrong, state.slow] if hasattr(state, "reported") else []
        return self.guard.state, "/".join(map(str, counts)) or "-"


SCENARIOS = _read()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.name)
def test_it_does_as_the_script_says(scenario: Scenario) -> None:
    """After every step the state and the counts are those of the script."""
    world = World(scenario.said)
    for step in scenario.steps:
        world.clock.advance(step.at - world.clock.now())
        world.happens(*step.event)
        assert world.seen() == (step.state, step.counts), step


@pytest.mark.proof
def test_all_scripts_are_played() -> None:
    """Their number is said, for a script that is not read proves nothing."""
    steps = sum(len(one.steps) for one in SCENARIOS)
    for one in SCENARIOS:
        test_it_does_as_the_script_says(one)
    figure(
        "breaker: scripts of documented behaviour, their steps",
        "25, all as said",
        f"{len(SCENARIOS)}, {steps}",
    )
    assert len(SCENARIOS) == TEXT.count("\n== ") >= 25
    assert steps == len([line for line in TEXT.split("\n") if re.match(r"[0-9]+m?s ", line)])
