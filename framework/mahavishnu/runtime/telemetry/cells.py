"""What a process counts, as plain Python numbers: nothing is locked, shared or written while a request is served."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from operator import add, sub
from typing import NamedTuple

from mahavishnu.runtime.telemetry.snapshot import Bounds, LabelValues, Snapshot


class CounterCell:
    """A number that only grows. One addition is one bytecode step, so threads lose no counts under the GIL."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def inc(self, amount: float = 1) -> None:
        self.value += amount


class Exemplar(NamedTuple):
    """An observation (seconds) of a trace that is kept, and when it was made (seconds since 1970)."""

    value: float
    trace: str
    span: str
    at: float


class HistogramCell:
    """Observations per bucket, and their sum; for each bucket the newest exemplar, where traces are kept.

    `aside` has, per bucket, those that are shown like all others, but that no objective is about.
    """

    __slots__ = ("aside", "bounds", "counts", "exemplars", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.exemplars: dict[int, Exemplar] | None = None
        self.aside: list[int] | None = None
        self.counts = [0] * (len(bounds) + 1)
        self.sum: float = 0

    def observe(self, seconds: float, count: int = 1) -> None:
        """So many of them, each of which took so long."""
        self.counts[bisect_left(self.bounds, seconds)] += count
        self.sum += seconds * count

    def set_aside(self, seconds: float) -> None:
        """No objective is about one of them, which took so long."""
        if self.aside is None:
            self.aside = [0] * len(self.counts)
        self.aside[bisect_left(self.bounds, seconds)] += 1

    def judged(self) -> tuple[int, ...]:
        """Observations per bucket, without those set aside."""
        counts, aside = tuple(self.counts), self.aside
        return counts if aside is None else tuple(map(sub, counts, aside))

    def observe_least(self, count: int, seconds: float) -> None:
        """So many at once, none beyond the first boundary, which together took so long."""
        self.counts[0] += count
        self.sum += seconds

    def add(self, bounds: Bounds, counts: tuple[int, ...], total: float) -> None:
        """Add what was counted elsewhere; by other boundaries: what is below one is below the next larger of these."""
        if bounds == self.bounds:
            self.counts = list(map(add, self.counts, counts))
        else:
            for bound, count in zip((*bounds, float("inf")), counts, strict=True):
                self.counts[bisect_left(self.bounds, bound)] += count
        self.sum += total

    def exemplify(self, one: Exemplar) -> None:
        """Remember where an observation was made, unless a newer one of its bucket is known."""
        exemplars = self.exemplars
        if exemplars is None:
            exemplars = self.exemplars = {}
        bucket = bisect_left(self.bounds, one.value)
        known = exemplars.get(bucket)
        if known is None or known.at <= one.at:
            exemplars[bucket] = one

    def buckets(self, texts: tuple[str, ...]) -> list[tuple[str, float, Exemplar | None]]:
        """Cumulative counts with the text of their upper bounds, and what each bucket remembers."""
        total, rows = 0, list[tuple[str, float, Exemplar | None]]()
        exemplars = self.exemplars or {}
        for place, (text, count) in enumerate(zip((*texts, "+Inf"), self.counts, strict=True)):
            total += count
            rows.append((text, float(total), exemplars.get(place)))
        return rows


class Cells:
    """What is counted in a process, by series and label values; it outlives every contract.

    Histograms by their boundaries too: those may change, and no count may be lost.
    """

    def __init__(self) -> None:
        self.counters: dict[str, dict[LabelValues, CounterCell]] = {}
        self.histograms: dict[str, dict[Bounds, dict[LabelValues, HistogramCell]]] = {}
        self.settles: dict[str, Callable[[], object]] = {}
        """Called before anything is shown: they count what has happened and was not counted yet."""
        self.together: Callable[[Snapshot], list[Snapshot]] = alone
        """Who is shown together with this process: its own snapshot, which comes first, and those of others."""


def alone(own: Snapshot) -> list[Snapshot]:
    """A process that is shown by itself."""
    return [own]
