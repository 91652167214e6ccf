"""Measure candidates side by side in one run: interleaved rounds, CPU time, medians, a control of equals."""

from __future__ import annotations

import asyncio
import gc
import importlib
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Any

Work = Callable[[int], Awaitable[None]]
WARM = 32
CONTROL = "the baseline again (control)"


def peer(module: str) -> Any:
    """A peer's module; peers live in an environment of their own, where no type checker sees them."""
    return importlib.import_module(module)


class Candidate:
    """Something to measure: `work(n)` does it n times, on an event loop of its own.

    `settle` is how long to wait for what it leaves to background threads, whose CPU time is then its own;
    `over` is what it is compared with, if that is not the baseline.
    """

    def __init__(self, name: str, work: Work, *, settle: float = 0, over: Candidate | None = None) -> None:
        self.name = name
        self.over = over
        self._work = work
        self._settle = settle
        self._loop = asyncio.new_event_loop()

    def run(self, times: int) -> None:
        """Do it, unmeasured."""
        self._loop.run_until_complete(self._work(times))

    def check(self, check: Callable[[], Awaitable[None]]) -> None:
        """Await something else on the same loop, unmeasured."""
        self._loop.run_until_complete(check())

    def block(self, times: int) -> float:
        """CPU nanoseconds of the whole process for one of `times`, once the caches know the way."""
        self.run(WARM)
        began = time.process_time_ns() - self._own()
        self.run(times)
        if self._settle:
            time.sleep(self._settle)
        return (time.process_time_ns() - self._own() - began) / times

    def _own(self) -> int:
        """What the harness itself has taken to make up the work."""
        return getattr(self._work, "own", 0)

    def close(self) -> None:
        """Give the event loop back."""
        self._loop.close()


@dataclass(frozen=True, slots=True)
class Measured:
    """One candidate over all rounds, each against the block right before it of what it is over (ns)."""

    name: str
    added: list[float] = field(default_factory=list[float])
    ratios: list[float] = field(default_factory=list[float])

    @property
    def ns(self) -> float:
        """The median of what it adds to the baseline."""
        return median(self.added)

    @property
    def spread(self) -> tuple[float, float]:
        """The middle half of what it adds."""
        low, _, high = quantiles(self.added, n=4)
        return low, high

    @property
    def ratio(self) -> float:
        """The median of its cost as a multiple of the baseline's."""
        return median(self.ratios)


def side_by_side(
    baseline: Candidate, candidates: Sequence[Candidate], *, rounds: int, block: int, seed: int = 1
) -> tuple[float, dict[str, Measured]]:
    """The baseline's median in ns, and every candidate against it; the order is drawn anew in each round.

    Every block follows one of the baseline, or of what the candidate is over: a slow moment of the machine
    weighs on both. The first round warms up and is dropped. What exists by then is kept out of the way of the
    garbage collector.
    """
    order = [*candidates, baseline]
    results = {one.name: Measured(one.name) for one in candidates} | {CONTROL: Measured(CONTROL)}
    bases: list[float] = []
    draw = random.Random(seed)
    for turn in range(rounds + 1):
        draw.shuffle(order)
        for one in order:
            base, took = (one.over or baseline).block(block), one.block(block)
            if turn:
                result = results[CONTROL if one is baseline else one.name]
                result.added.append(took - base)
                result.ratios.append(took / base)
                if one.over is None:
                    bases.append(base)
        if not turn:
            gc.collect()
            gc.freeze()
    gc.unfreeze()
    return median(bases), results


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table that also reads well on a terminal."""
    lines = [list(headings), *(list(row) for row in rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(headings))]
    shown = ["| " + " | ".join(_padded(line, widths)) + " |" for line in lines]
    rule = [f"{'-' * (width + 1)}{':' if place else '-'}" for place, width in enumerate(widths)]
    return "\n".join([shown[0], f"|{'|'.join(rule)}|", *shown[1:]])


def _padded(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    first, *others = zip(cells, widths, strict=True)
    return [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]


def whole(value: float) -> str:
    """A number of nanoseconds."""
    return f"{value:,.0f}"


def times(value: float) -> str:
    """A ratio, with as many digits as it deserves."""
    return f"{value:.2f} x" if value < 10 else f"{value:.0f} x"
