"""Grafana: a dashboard for each side of the service, and how Grafana finds them and Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from mahavishnu.artifact import Artifact
from mahavishnu.artifact import Query as Asked
from mahavishnu.contract import Contract, scoped
from mahavishnu.derived.dashboards import Dashboard, Row, dashboards
from mahavishnu.derived.panels import Panel, Query
from mahavishnu.promql import Expr, Matcher, Selector
from mahavishnu.series import EXEMPLIFIED, UP
from mahavishnu.signals import Source
from mahavishnu.units import Duration

from ._render import render

_COLUMNS, _WIDTH, _HEIGHT = 24, 8, 8
_SIDES = {
    "service": "Requests, errors, duration, and what the processes use.",
    "resilience": "What the limits let in, and what happens when others fail.",
    "slos": "What is promised, and how much of the error budgets is left.",
    "backups": "What is saved, how old it is, and whether it can be restored.",
}


class _Zoom(Duration):
    """The window that Grafana fits to what is looked at: it reads this name."""

    def __str__(self) -> str:
        return "$__rate_interval"


class Target(NamedTuple):
    """One query as Grafana sends it; `exemplar`: with the traces of single values, which it draws as dots."""

    name: str
    expr: str
    legend: str
    exemplar: bool


class Tile(NamedTuple):
    """A panel, or the heading of a row (no panel), with its number and its place on the page."""

    number: int
    title: str
    place: Mapping[str, int]
    panel: Panel | None = None
    queries: tuple[Target, ...] = ()

    @property
    def lines(self) -> str:
        """Whether bounds are drawn."""
        return "dashed" if self.panel and self.panel.bounds else "off"

    @property
    def soft_max(self) -> object:
        """Up to where the axis reaches at least: the farthest bound is always in sight."""
        return max(self.panel.bounds, default=None) if self.panel else None


def generate(contract: Contract) -> Iterable[Artifact]:
    """A file for each dashboard; the places of Prometheus, Alertmanager and the dashboards."""
    for one in dashboards(contract):
        values = _values(contract, one)
        text = render("grafana/dashboard.json.j2", **values)
        yield Artifact(f"grafana/dashboards/{one.name}.json", text, tuple(_asked(one)))
    for kind, name in (("datasources", "prometheus"), ("dashboards", "dashboards")):
        text = render(f"grafana/{kind}.yaml.j2", job=contract.job)
        yield Artifact(f"grafana/provisioning/{kind}/{name}.yaml", text)


def _asked(one: Dashboard) -> Iterator[Asked]:
    for number, panel in one.numbered():
        if isinstance(panel, Panel):
            name = f"{number} ({panel.title}) of {one.name}"
            yield from (Asked("panels", name, query.expr) for query in panel.queries)


def _values(contract: Contract, one: Dashboard) -> dict[str, object]:
    replicas = scoped(UP.select(), contract.job).render()
    return {
        "uid": one.uid,
        "title": one.title,
        "description": _SIDES[one.name],
        "tags": ["mahavishnu", contract.job],
        "instances": f"label_values({replicas}, instance)",
        "tiles": [*_tiles(one, traced=contract.spec.observability.traces is not None)],
    }


def _tiles(one: Dashboard, *, traced: bool) -> Iterator[Tile]:
    """From left to right, and a new line where the width ends or a row begins."""
    x = y = 0
    for number, shown in one.numbered():
        if isinstance(shown, Row):
            y += _HEIGHT if x else 0
            yield Tile(number, shown.title, {"x": 0, "y": y, "w": _COLUMNS, "h": 1})
            x, y = 0, y + 1
            continue
        place = {"x": x, "y": y, "w": _WIDTH, "h": _HEIGHT}
        yield Tile(number, shown.title, place, shown, tuple(_queries(shown, traced=traced)))
        x, y = (x + _WIDTH, y) if x + 2 * _WIDTH <= _COLUMNS else (0, y + _HEIGHT)


def _queries(panel: Panel, *, traced: bool) -> Iterator[Target]:
    for number, query in enumerate(panel.queries, 1):
        expr = query.expr if panel.alert else query.expr.map_selectors(_looked_at)
        exemplar = traced and panel.unit == "s" and _exemplified(query.expr)
        yield Target(f"Q{number}", expr.render(), _legend(query), exemplar)


def _exemplified(expr: Expr) -> bool:
    """Whether it is computed from values that remember their trace; of several such queries Grafana asks the first."""
    return any(one.suffix == "_bucket" and one.signal.name in EXEMPLIFIED for one in expr.selectors())


def _looked_at(selector: Selector) -> Selector:
    """Only the chosen replicas, over the window that fits the zoom; an alert is shown as its rule measures it."""
    if selector.signal.source is Source.RULE:
        return selector
    (job, *others), window = selector.matchers, selector.window
    chosen = Matcher("instance", "=~", "$instance")
    return replace(selector, matchers=(job, chosen, *others), window=window and _Zoom(window))


def _legend(query: Query) -> str:
    labels = [f"{{{{{label}}}}}" for label in query.legend]
    return " ".join([*labels, *([query.name] if query.name else [])]) or "__auto"
