"""What lies behind an alert: the series that it rests on, and the requests that failed, by route and when."""

from __future__ import annotations

from decimal import Decimal

from mahavishnu.contract import Contract
from mahavishnu.derived.lookback import DAY, lookback, step
from mahavishnu.derived.panel_places import has_entry, place_of
from mahavishnu.derived.panels import Panel, panel_of
from mahavishnu.derived.series_panels import alone, over
from mahavishnu.derived.service_panels import by_route
from mahavishnu.promql import Call, Expr, Selector, total
from mahavishnu.series import HTTP_DURATION, SLO_REQUESTS
from mahavishnu.signals import Alert, Source
from mahavishnu.units import Duration

_CRUMB = Decimal("0.5")
"""What differences of long sums may leave where nothing was."""


def behind(made: Contract, alert: Alert) -> tuple[Panel, ...]:
    """The series that an alert rests on, each by itself; for recorded ones those that they are made of.

    They are asked for over the longest of its own windows: in a shorter one what it is about may be over.
    """
    _, name = place_of(alert)
    window = lookback(made, alert).window
    bases = dict.fromkeys(one.signal.name for one in made.bases(alert.expr) if _exposed(one))
    if HTTP_DURATION.name in bases or SLO_REQUESTS.name in bases:
        bad = (failed(made, window, _under(made, alert)),) if _of_the_bad(made, alert) else ()
        return (*bad, *(over(window, one) for one in by_route(made, window)))
    return tuple(
        alone(made, base, name if has_entry(made.signals[base], name) else None, window) for base in bases
    )


def began(made: Contract, alert: Alert) -> tuple[Panel, ...]:
    """When the requests were that an alert is about, by route: asked for at every step as far back as it looks."""
    if not _of_the_bad(made, alert):
        return ()
    return (failing(made, max(lookback(made, alert).long, DAY), _under(made, alert)),)


def failed(made: Contract, window: Duration, under: Duration | None = None) -> Panel:
    """The requests of a window that failed, by route and status, or with `under` took longer: most of them first."""
    by = ("http_route", "http_response_status_code") if under is None else ("http_route",)
    title = f"{_fault(under)} in the last {window}, by {'route and status' if under is None else 'route'}"
    return panel_of(made, title, {"": Call("sort_desc", (_bad(made, window, under, by),))}, "short", by)


def failing(made: Contract, long: Duration, under: Duration | None = None) -> Panel:
    """The same between one point and the next of such a time, by route."""
    apart = step(long)
    title = f"{_fault(under)} in each {apart}, by route"
    return panel_of(made, title, {"": _bad(made, apart, under, ("http_route",))}, "short", ("http_route",))


def _fault(under: Duration | None) -> str:
    return "Answered with 5xx" if under is None else f"Took longer than {under}"


def _bad(made: Contract, window: Duration, under: Duration | None, by: tuple[str, ...]) -> Expr:
    http = made.signals[HTTP_DURATION.name]
    every = http.part("_count", **({} if under else {"http_response_status_code_re": "5.."}))
    counted: Expr = total(every.over(window, "increase"), *by)
    if under is not None:
        fast = http.part("_bucket", le=http.boundary(under.seconds))
        counted = counted - total(fast.over(window, "increase"), *by)
    return counted > _CRUMB


def _of_the_bad(made: Contract, alert: Alert) -> bool:
    """Whether it is about requests that an objective calls bad, and not about there being none."""
    return alert.path[0] == "slos" and any(
        base.signal.name == SLO_REQUESTS.name and one.value == "bad"
        for base in made.bases(alert.expr)
        for one in base.matchers
    )


def _under(made: Contract, alert: Alert) -> Duration | None:
    """How fast a request must be for the objective of an alert; None: it must succeed."""
    return made.spec.slos[str(alert.path[1])].under


def _exposed(selector: Selector) -> bool:
    return selector.signal.source is not Source.RULE
