"""How many requests each objective calls good and bad: counted, before it is shown, from what is counted anyway."""

# A series of a status that nobody has had yet is not there, and Prometheus takes its first value for where it began;
# these are there from the start, so that the first failure of a process is seen. What a client can ask as often as it
# likes without any work being done for it is no event: else one that is refused would hide that all others fail.

from __future__ import annotations

from bisect import bisect_right
from threading import Lock

from mahavishnu.policies.slo import Slo
from mahavishnu.policy import Match
from mahavishnu.runtime.telemetry.metrics import Metrics
from mahavishnu.series import HTTP_DURATION, RATE_LIMITED, SLO_REQUESTS, UNMATCHED
from mahavishnu.spec import Spec

_OF_CLIENTS = ("408", str(RATE_LIMITED))


class Objectives:
    """The objectives of one spec that are about HTTP requests; they count from `begin` on."""

    def __init__(self, spec: Spec, metrics: Metrics) -> None:
        counted = {name: one for name, one in spec.slos.items() if one.query is None}
        self._tallies = [_Tally(name, one, metrics) for name, one in counted.items()]
        self._settles = metrics.settles
        self._lock = Lock()

    def begin(self, before: Objectives | None = None) -> None:
        """Count from now on, in the place of those before: what they have counted stays, and nothing counts twice."""
        if before is not None:
            before.settle()
        for tally in self._tallies:
            tally.skip()
        self._settles("objectives", self.settle)

    def settle(self) -> None:
        """Count what has come since."""
        with self._lock:
            for tally in self._tallies:
                tally.settle()


class _Tally:
    """What one objective has counted, and how much there was when it last looked."""

    def __init__(self, name: str, slo: Slo, metrics: Metrics) -> None:
        self._match = slo.match or Match()
        self._under = None if slo.under is None else float(slo.under.seconds)
        self._cells = metrics.cells
        self._good, self._bad = (
            metrics.counter(SLO_REQUESTS, slo=name, outcome=outcome) for outcome in ("good", "bad")
        )
        self._seen = 0, 0

    def skip(self) -> None:
        """What there is by now is not its own."""
        self._seen = self._counted()

    def settle(self) -> None:
        """Count what has come since."""
        good, bad = self._seen
        now_good, now_bad = self._counted()
        self._seen = max(good, now_good), max(bad, now_bad)  # fewer while one is set aside in another thread
        self._good.inc(self._seen[0] - good)
        self._bad.inc(self._seen[1] - bad)

    def _counted(self) -> tuple[int, int]:
        good = bad = 0
        for bounds, family in list(self._cells.histograms.get(HTTP_DURATION.name, {}).items()):
            fast = None if self._under is None else bisect_right(bounds, self._under)
            for (method, route, status), cell in list(family.items()):
                if not _refused(route, status) and self._match.meets(route, method):
                    counts = cell.judged()
                    kept = counts[:fast] if self._under is not None else () if status[0] == "5" else counts
                    good += sum(kept)
                    bad += sum(counts) - sum(kept)
        return good, bad


def _refused(route: str, status: str) -> bool:
    """Whether a rate has refused it, its client was too slow, or there was nothing to be had: neither good nor bad."""
    return status in _OF_CLIENTS or (route == UNMATCHED and status[0] == "4")
