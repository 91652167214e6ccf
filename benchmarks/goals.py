"""What a family reports: its tables, and the goals it has measured."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from benchmarks.harness import table


class Goal(NamedTuple):
    """One line of the promise: what is measured, what it must reach, what it reached."""

    measure: str
    goal: str
    measured: str
    met: bool


class Report(NamedTuple):
    """What one family has to say."""

    text: str
    goals: tuple[Goal, ...] = ()


def at_most(measure: str, measured: float, goal: float, against: str, *, unit: str = "x") -> Goal:
    """A goal that is met when the measured number is no larger; `against` completes `1.3 x …`.

    What lost itself in the noise, below zero, has not been met.
    """
    said = f"{measured:,.0f}" if measured >= 100 else f"{measured:.3g}"
    return Goal(
        measure, f"at most {goal:g} {unit} {against}".strip(), f"{said} {unit}", 0 <= measured <= goal
    )


def at_least(measure: str, measured: float, goal: float, against: str) -> Goal:
    """A goal that is met when the measured multiple is no smaller."""
    return Goal(measure, f"at least {goal:g} x {against}", f"{measured:.3g} x", measured >= goal)


def shown(goals: Iterable[Goal]) -> str:
    """The table of goals."""
    rows = [(one.measure, one.goal, one.measured, "yes" if one.met else "NO") for one in goals]
    return "### Goals\n\n" + table(("measure", "goal", "measured", "met?"), rows)
