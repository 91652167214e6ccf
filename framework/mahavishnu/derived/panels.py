"""A panel: what it asks, every query a tree, and the lines it draws, every one a number of the spec."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Literal, NamedTuple

from mahavishnu.contract import Contract, scoped
from mahavishnu.promql import Expr

Unit = Literal["reqps", "cps", "Bps", "percentunit", "s", "bytes", "short", "dateTimeFromNow"]
"""Grafana's own names of units."""

QUANTILES = (Decimal("0.5"), Decimal("0.95"), Decimal("0.99"))
"""What is drawn of a duration."""
UNITS: Mapping[str, Unit] = {
    "ratio": "percentunit",
    "seconds": "s",
    "bytes": "bytes",
    "count": "short",
    "events": "short",
}
"""Grafana's names for what ours end with."""


class Query(NamedTuple):
    """One query of a panel; `legend` are the labels by which its answers are told apart."""

    expr: Expr
    legend: tuple[str, ...] = ()
    name: str = ""


class Panel(NamedTuple):
    """One picture: what it asks, in which unit, and the numbers that are drawn as lines.

    `alert` is the name of the alert that it shows: then every query is what the rule itself measures.
    """

    title: str
    queries: tuple[Query, ...]
    unit: Unit = "short"
    text: str = ""
    bounds: tuple[Decimal, ...] = ()
    kind: Literal["timeseries", "stat"] = "timeseries"
    alert: str = ""


def panel_of(
    made: Contract,
    title: str,
    exprs: Mapping[str, Expr],
    unit: Unit,
    legend: tuple[str, ...],
    bounds: Iterable[Decimal] = (),
) -> Panel:
    """A panel of queries by name; those without a name are told apart by the labels."""
    asked = (Query(scoped(expr, made.job), () if name else legend, name) for name, expr in exprs.items())
    return Panel(title, tuple(asked), unit, bounds=tuple(dict.fromkeys(bounds)))
