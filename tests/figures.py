"""Figures the README promises: each proof says its own, and the session ends with one table of them all."""

from __future__ import annotations

import time
from typing import NamedTuple

_TURNS = 1_000_000
_TURN = 60e-9  # seconds


class Figure(NamedTuple):
    """What was measured, what it had to reach, and what it was."""

    name: str
    goal: str
    measured: str


FIGURES: list[Figure] = []


def figure(name: str, goal: object, measured: object) -> None:
    """Put a measured figure into the table; the test itself asserts that the goal is reached."""
    FIGURES.append(Figure(name, str(goal), str(measured)))


def pace() -> float:
    """How many times slower this machine is now than one on which a turn of a loop takes 60 ns.

    Limits in milliseconds hold there; measured in the same run, they say something on any other.
    """
    took: list[float] = []
    for _ in range(5):
        begun = time.process_time()
        sum(one * one for one in range(_TURNS))
        took.append(time.process_time() - begun)
    return min(took) / _TURNS / _TURN


def table(figures: list[Figure]) -> str:
    """The figures as aligned text."""
    rows = [Figure("figure", "goal", "measured"), *figures]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
