"""Panels of alerts: what each measures, and the bound beyond which it fires."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from functools import lru_cache

from mahavishnu.alerts.handful import parts
from mahavishnu.contract import Contract
from mahavishnu.derived.panel_places import BOARDS, entries, place_of
from mahavishnu.derived.panels import UNITS, Panel, Query
from mahavishnu.promql import Aggregate, Binary, Call, Expr, Number
from mahavishnu.signals import Alert


def alert_panels(made: Contract, section: str, name: str | None) -> Iterator[Panel]:
    """Those of an entry, or of the section itself."""
    return map(_watched, _homes(made).get((section, name), ()))


@lru_cache(maxsize=4)
def _homes(made: Contract) -> dict[tuple[str, str | None], list[Alert]]:
    """The alerts of each entry of a section, and of the section itself where they are of no entry."""
    known = {section: {*entries(made, section)} for section in BOARDS}
    found: dict[tuple[str, str | None], list[Alert]] = {}
    for alert in made.alerts:
        section, entry = place_of(alert)
        found.setdefault((section, entry if entry in known[section] else None), []).append(alert)
    return found


def _watched(alert: Alert) -> Panel:
    """What an alert measures, and its bound."""
    condition, _ = parts(alert)
    compared = [*_measured(condition)]
    bound = compared[0][1]
    exprs = dict.fromkeys(expr for expr, other in compared if other == bound)
    hold = f"for {alert.hold}" if alert.hold else "at once"
    return Panel(
        alert.name,
        tuple(Query(expr) for expr in exprs),
        UNITS[alert.unit],
        f"{alert.severity} {hold}. {alert.meaning}",
        () if bound is None else (bound,),
        alert=alert.name,
    )


def _measured(expr: Expr) -> Iterator[tuple[Expr, Decimal | None]]:
    """Each value that a condition compares, with the number it is compared with."""
    match expr:
        case Binary(op="and" | "or"):
            yield from (*_measured(expr.left), *_measured(expr.right))
        case Binary(op="unless"):
            yield from _measured(expr.left)
        case Binary(op=">" | "<" | ">=" | "<=" | "==" | "!=", left=left, right=Number(value=bound)):
            yield left, bound
        case Binary(op=">" | "<" | ">=" | "<=" | "==" | "!="):
            yield from ((expr.left, None), (expr.right, None))
        case Call(name="absent", args=(inner,)):
            yield inner, None
        case Aggregate(inner=Binary(op="or", left=Call(name="absent")) as either):
            yield from _measured(either)
        case _:
            yield expr, None
