"""How many series a service can show at the most, whatever its clients do: worked out from the contract."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

from mahavishnu.contract import Contract
from mahavishnu.series import HTTP_DURATION, ROUTES_SHOWN, STATUSES_OWN, STATUSES_SHOWN
from mahavishnu.signals import Kind, Signal, Source


class Bound(NamedTuple):
    """At most so many series of a replica, and so many more for each route: of at most `routes`, where it is said."""

    fixed: int
    per_route: int
    routes: int | None = ROUTES_SHOWN

    def of(self, routes: int) -> int:
        """The bound for an app that registers so many routes; what matches none of them is one route more."""
        return self.fixed + self.per_route * (min(routes, self.routes or routes) + 1)


def bound(contract: Contract) -> Bound:
    """The product of the values that each label can take, summed over all series the process shows.

    A status is one of 500, but of one route and method each worker shows `STATUSES_OWN` and those of the classes.
    Routes that an objective names are shown beside as many others as are shown of any app.
    """
    workers = contract.spec.service.workers
    shown = [one for one in contract.signals.values() if one.source is Source.RUNTIME]
    fixed = sum(_combinations(one, workers) * _parts(one) for one in shown if one.name != HTTP_DURATION.name)
    http = contract.signals[HTTP_DURATION.name]
    methods = len(http.label("http_request_method").values or ())
    statuses = min(workers * STATUSES_OWN + STATUSES_SHOWN - STATUSES_OWN, 500)
    named = {
        slo.match.path for slo in contract.spec.slos.values() if slo.match is not None and slo.match.path
    }
    wild = any("*" in path for path in named)
    return Bound(fixed, methods * statuses * _parts(http), None if wild else ROUTES_SHOWN + len(named))


def _combinations(signal: Signal, workers: int) -> int:
    """How many label sets it can have; a label without listed values is the hash of the spec, each worker has one."""
    return prod(workers if label.values is None else len(label.values) for label in signal.labels)


def _parts(signal: Signal) -> int:
    """The series of one label set: a histogram has its buckets, that of all, the count and the sum."""
    return len(signal.buckets) + 3 if signal.kind is Kind.HISTOGRAM else 1
