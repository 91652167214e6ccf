"""How many requests each objective calls good and bad: read, whenever it is asked for, from what is counted anyway.

A series of a status that nobody has had yet is not there, and Prometheus takes its first value for where it began;
these are there from the start, so that the first failure of a process is seen.
"""

from __future__ import annotations

from bisect import bisect_right
from functools import partial
from typing import NamedTuple

from mahavishnu.policies.slo import Slo
from mahavishnu.policy import Match
from mahavishnu.runtime.telemetry.cells import Cells
from mahavishnu.runtime.telemetry.metrics import Metrics
from mahavishnu.series import HTTP_DURATION, SLO_REQUESTS
from mahavishnu.spec import Spec


class Objectives:
    """The objectives of one spec that are about HTTP requests; what they show never goes down by a reload."""

    def __init__(self, spec: Spec, metrics: Metrics) -> None:
        counted = {name: one for name, one in spec.slos.items() if one.query is None}
        self._tallies = {name: _Tally(one, metrics.cells) for name, one in counted.items()}
        for name, tally in self._tallies.items():
            for outcome in _Counts._fields:
                metrics.read_counter(SLO_REQUESTS, partial(tally.read, outcome), slo=name, outcome=outcome)

    def take_over(self, before: Objectives) -> None:
        """Go on where those of the spec before stand: whatever else is counted now, nothing is counted twice."""
        for name, tally in self._tallies.items():
            if name in before._tallies:
                tally.follow(before._tallies[name])


class _Counts(NamedTuple):
    good: int = 0
    bad: int = 0


class _Tally:
    """What one objective has counted: what its requests come to, and what came before it beyond that."""

    def __init__(self, slo: Slo, cells: Cells) -> None:
        self._match = slo.match or Match()
        self._under = None if slo.under is None else float(slo.under.seconds)
        self._cells = cells
        self._beyond = _Counts()

    def read(self, outcome: str) -> int:
        """How many were `good`, or `bad`."""
        return int(getattr(self._shown(), outcome))

    def follow(self, before: _Tally) -> None:
        """From now on be shown from where the one before is."""
        shown, counted = before._shown(), self._counted()
        self._beyond = _Counts(shown.good - counted.good, shown.bad - counted.bad)

    def _shown(self) -> _Counts:
        counted = self._counted()
        return _Counts(counted.good + self._beyond.good, counted.bad + self._beyond.bad)

    def _counted(self) -> _Counts:
        good = bad = 0
        for bounds, family in list(self._cells.histograms.get(HTTP_DURATION.name, {}).items()):
            fast = None if self._under is None else bisect_right(bounds, self._under)
            for (method, route, status), cell in list(family.items()):
                if self._match.meets(route, method):
                    counts = tuple(cell.counts)
                    kept = counts[:fast] if self._under is not None else () if status[0] == "5" else counts
                    good += sum(kept)
                    bad += sum(counts) - sum(kept)
        return _Counts(good, bad)
