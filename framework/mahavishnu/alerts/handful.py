"""An alert on a share waits for more than a handful of bad events: half of two requests wakes nobody."""

# A share does not say of how many: in a quiet night two slow requests are more than 1% of all. The bad ones are counted
# over a longer time than the share, for where few come, no short time holds as many. It makes no alert blind: whatever
# the traffic, a share that stays above its bound has a bad event in each of its windows. In the longer time that makes
# `LONGER` of them, more than `LEAST`. So what lasts is told of when that time is over, or sooner.

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from mahavishnu.promql import Aggregate, Binary, Call, Expr, Number, Selector
from mahavishnu.signals import Alert
from mahavishnu.units import Duration

LEAST = 10
"""On fewer bad events no share raises an alert."""
LONGER = 12
"""They are counted over so many times the window of the share, as a burn rate has its short window in a long one."""


class Enough(NamedTuple):
    """For how many bad events an alert waits: how they are counted, over which time, and the least number."""

    counted: Expr
    window: Duration
    least: int


def waiting(alert: Alert) -> Alert:
    """The same alert; on a share only where there are more than a handful of bad events, which its meaning says."""
    if alert.bad is None:
        return alert
    first = next(alert.bad.selectors())
    long = Duration(LONGER * _window(first))
    noun, *_ = first.signal.unit.value.split()
    return replace(
        alert,
        expr=alert.expr.and_(_counted(alert.bad, long) >= LEAST),
        meaning=f"{alert.meaning} It waits for at least {LEAST} such {noun} in {long}.",
    )


def parts(alert: Alert) -> tuple[Expr, Enough | None]:
    """The condition of an alert as its policy says it, and for how many bad events it waits; None: for none."""
    match alert:
        case Alert(
            bad=Expr(), expr=Binary(left=share, right=Binary(left=counted, right=Number(value=least)))
        ):
            return share, Enough(counted, _window(next(counted.selectors())), int(least))
        case _:
            return alert.expr, None


def _window(selector: Selector) -> Duration:
    assert selector.window is not None  # noqa: S101 (a rate is one over a window)
    return selector.window


def _counted(rates: Expr, window: Duration) -> Expr:
    """How many of what grows by these rates there are in a window."""
    match rates:
        case Call(args=(Selector() as one,)):
            return one.over(window, "increase")
        case Aggregate(inner=inner):
            return replace(rates, inner=_counted(inner, window))
        case Binary(left=left, right=right):
            return replace(rates, left=_counted(left, window), right=_counted(right, window))
        case _:
            return rates
