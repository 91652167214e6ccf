"""What an objective counts by queries of its own, and what they must be for that."""

from __future__ import annotations

from collections.abc import Mapping

from mahavishnu.policies._indicators import Events, Freshness, Indicator
from mahavishnu.policies._written import Query
from mahavishnu.promql import Selector
from mahavishnu.queries.instances import outside
from mahavishnu.queries.written import NoAge, NoEvents, QueryError, read
from mahavishnu.settings import Settings
from mahavishnu.signals import AgreementError, Kind, Signal, Unit
from mahavishnu.units import Duration


class Asked(Settings):
    """Queries of your own, over series that this service shows."""

    total: Query | None = None
    """A counter of all events, like `'mahavishnu_dependency_calls_total{dependency="payment"}'`."""
    bad: Query | None = None
    """The part of them that is bad: a counter too. Of the same series it may count nothing that `total` does not."""
    age: Query | None = None
    """How old something is, in seconds: a gauge, or `time()` minus one that tells a point in time."""


def indicated(name: str, query: Asked, fresh: Duration | None, signals: Mapping[str, Signal]) -> Indicator:
    """What the queries of an objective count; raises QueryError where they ask for what is not there."""
    if fresh is not None:
        return _proved(Freshness(name, read(query.age or "", signals), fresh))
    every, failed = (_counter(text or "", signals) for text in (query.total, query.bad))
    return _part(Events(every, failed))


def _proved(of: Freshness) -> Freshness:
    try:
        of.prove()
    except AgreementError as fault:
        raise NoAge(f"nothing shows that `{of.age}` is an age in seconds: {fault}") from None
    return of


def _part(of: Events) -> Events:
    """Bad events must be among all, as far as what they are events of, and their labels, can say."""
    beyond = outside(of.failed, of.every) if of.alike else None
    if beyond is not None:
        raise QueryError(f"`{of.failed}` is no part of `{of.every}`, which does not count `{beyond}`")
    return of


def _counter(text: str, signals: Mapping[str, Signal]) -> Selector:
    """The counter, or count of a histogram, that a query selects."""
    found = read(text, signals)
    if not isinstance(found, Selector) or found.window is not None:
        raise QueryError(f"`{text}` is more than a selector: its rate is taken over every window")
    if found.signal.kind is Kind.GAUGE:
        raise QueryError(f"{found.series} is a gauge, and events are counted by a counter")
    if found.signal.measured(found.suffix) is Unit.SECONDS:
        raise NoEvents(f"{found.series} adds up seconds, and counts no events")
    if found.suffix == "_bucket" and all(one.label != "le" for one in found.matchers):
        raise NoEvents(f"`{found}` counts an event once for every boundary that it does not exceed")
    return found
