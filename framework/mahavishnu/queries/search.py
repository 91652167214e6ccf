"""Under which values a condition is silent, and under which it holds: looked for by trying, where nobody says."""

from __future__ import annotations

import itertools
import re
from decimal import Decimal
from fractions import Fraction

from mahavishnu.promql import Aggregate, Call, Expr, Number, Selector
from mahavishnu.queries.instances import example
from mahavishnu.queries.steady import Moving, Steady, moving
from mahavishnu.signals import AgreementError, Feed, Kind

_MOST = 4
"""So many series, each with a handful of levels, are tried in a moment."""
_SHARE = re.compile(r"(_ratio|_up|^up|_state|_successful)$")
Levels = tuple[Decimal, ...]


def search(condition: Expr) -> tuple[Feed, ...]:
    """Feeds under which a condition is false when healthy and true when faulty, as few as possible of them moving.

    Raises AgreementError when there are none to be found: the condition is always true, never, or beyond this.
    """
    series = list(dict.fromkeys(example(one) for one in condition.selectors()))
    if len(series) > _MOST:
        raise AgreementError(
            f"it asks for {len(series)} series, and a proof of more than {_MOST} is not looked for"
        )
    dated = any(isinstance(node, Call) and node.name == "time" for node in condition.walk())
    choices = [_levels(one, condition) for one in series]
    silent, firing = list[Levels](), list[Levels]()
    for levels in itertools.product(*choices):
        world = Steady(tuple(_moving(one, level, dated) for one, level in zip(series, levels, strict=True)))
        (firing if world.fires(condition) else silent).append(levels)
    if not silent or not firing:
        raise AgreementError(f"no values are found under which it is {'true' if silent else 'false'}")
    good, bad = min(itertools.product(silent, firing), key=_apart)
    return tuple(
        Feed(one, good[place], bad[place], since=dated and one.signal.kind is Kind.GAUGE)
        for place, one in enumerate(series)
    )


def _levels(series: Selector, condition: Expr) -> Levels:
    """Nothing, and what lies around the numbers of the condition; of what grows, per minute."""
    numbers = {abs(node.value) for node in condition.walk() if isinstance(node, Number)}
    around = sorted(
        {Decimal(0), Decimal(1), *(one / 2 for one in numbers), *(2 * one + 1 for one in numbers)}
    )
    if _is_share(series) and not any(_gathers(node) for node in condition.walk()):
        around = [one for one in around if one <= 1]
    grows = series.signal.kind is not Kind.GAUGE
    return tuple(60 * one for one in around[:8]) if grows else tuple(around[:8])


def _is_share(series: Selector) -> bool:
    """Whether it is never more than 1: a share, or something that is so or not."""
    return series.signal.kind is Kind.GAUGE and bool(_SHARE.search(series.signal.name))


def _gathers(node: Expr) -> bool:
    """Whether it adds up what several replicas show."""
    return isinstance(node, Aggregate) and node.op in ("sum", "count")


def _moving(series: Selector, level: Decimal, dated: bool) -> Moving:
    since = dated and series.signal.kind is Kind.GAUGE
    return moving(series, Fraction(-level if since else level))


def _apart(pair: tuple[Levels, Levels]) -> tuple[int, Decimal]:
    """How many levels differ, and by how much."""
    good, bad = pair
    differences = [abs(one - other) for one, other in zip(good, bad, strict=True)]
    return sum(map(bool, differences)), sum(differences, Decimal(0))
