"""Figures the README promises: each proof says its own, and the session ends with one table of them all."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import NamedTuple

FULL = os.environ.get("FULL") == "1"
"""Whether the proofs are at full length; by default they draw samples, always the same ones."""


class Figure(NamedTuple):
    """What was measured, what it had to reach, and what it was."""

    name: str
    goal: str
    measured: str


FIGURES: list[Figure] = []


def figure(name: str, goal: object, measured: object) -> None:
    """Put a measured figure into the table; the test itself asserts that the goal is reached."""
    FIGURES.append(Figure(name, str(goal), str(measured)))


def cheapest(*works: Callable[[], object], rounds: int = 15) -> tuple[float, ...]:
    """Seconds of processor time that each takes at its best, turn about.

    A machine that is shared has another pace from second to second: the ratio of two of them holds on any.
    """
    took: list[list[float]] = [[] for _ in works]
    for _ in range(rounds):
        for work, times in zip(works, took, strict=True):
            begun = time.process_time()
            work()
            times.append(time.process_time() - begun)
    return tuple(map(min, took))


def table(figures: list[Figure]) -> str:
    """The figures as aligned text."""
    rows = [Figure("figure", "goal", "measured"), *figures]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
