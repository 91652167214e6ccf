"""Tests of burn rates and budgets: which share of failures raises them, from how many events on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from mahavishnu.contract import Contract
from mahavishnu.errors import Path
from mahavishnu.promql import Binary, Expr, Number, Selector
from mahavishnu.signals import Alert, Feed, Recording, Source
from mahavishnu.units import Duration

from ._promtool import (
    FAST,
    MINUTE,
    Check,
    Pace,
    Phase,
    Series,
    Test,
    around,
    decimal,
    moved,
)
from ._thresholds import MARGIN, conditions, depth, fault

_GUARD = Fraction(1, 1000)  # of the events that a burn rate waits for


class Burn(NamedTuple):
    """A burn-rate alert as its query says it: two recorded shares above one threshold, over two windows.

    `events`: so many are needed in the long window; `timed`: the shares are of time.
    """

    alert: Alert
    threshold: Fraction
    long: Duration
    short: Duration
    ratios: tuple[Selector, Selector]
    events: Fraction | None
    timed: bool


@lru_cache(maxsize=4)
def burns_of(contract: Contract) -> list[Burn]:
    """The burn-rate alerts among all of a contract."""
    return [burn for alert in contract.alerts if (burn := _burn(alert, contract)) is not None]


def _burn(alert: Alert, contract: Contract) -> Burn | None:
    match conditions(alert.expr):
        case [
            Binary(op=">", left=Selector() as long, right=Number(value=threshold)),
            Binary(op=">", left=Selector() as short, right=Number()),
            *guard,
        ] if long.signal.source is short.signal.source is Source.RULE:
            (longest,), (shortest,) = ({one.window for one in contract.bases(each) if one.window}
                                       for each in (long, short))  # fmt: skip
            timed = _timed(long, contract)
            events = next((Fraction(one.right.value) for one in guard if isinstance(one.right, Number)), None)
            return Burn(alert, Fraction(threshold), longest, shortest, (long, short), events, timed)
        case _:
            return None


def kin_of(burns: Iterable[Burn]) -> Iterable[list[Burn]]:
    """Those of one objective together."""
    found: dict[Path, list[Burn]] = {}
    for burn in burns:
        found.setdefault(burn.alert.path, []).append(burn)
    return found.values()


def levels(burn: Burn, kin: Sequence[Burn], contract: Contract) -> Iterator[Test]:
    """Ten minutes of one share of failures: a share does not depend on how much of its window has passed."""
    above = min(burn.threshold * (1 + MARGIN), (burn.threshold + 1) / 2)
    for word, share in (("below", burn.threshold * (1 - MARGIN)), ("above", above)):
        phases = [Phase(share, 11)]
        series = _recorded(kin, phases) if burn.timed else moved(burn.alert.proof, phases, 1)
        checks = tuple(Check(Duration.parse("10m"), one.alert, share > one.threshold) for one in kin)
        yield Test(f"level {word}: {burn.alert.name}", FAST.sample, tuple(series), checks)
    if burn.timed:
        yield from _bound(burn, contract)


def _recorded(burns: Sequence[Burn], phases: Sequence[Phase]) -> Iterator[Series]:
    """The shares themselves, as if they had been recorded."""
    ratios = dict.fromkeys(ratio for one in burns for ratio in one.ratios)
    return moved([Feed(one, healthy=0, faulty=1) for one in ratios], phases, 1)


def _bound(burn: Burn, contract: Contract) -> Iterator[Test]:
    """What is measured stands just within, and just beyond, what is called bad."""
    found = fault(burn.alert, contract.recorded)
    for word, steps, fires in (("within", found.within, False), ("beyond", found.beyond, True)):
        series = tuple(moved(burn.alert.proof, [Phase(depth(steps), 11)], 1))
        checks = (Check(Duration.parse("10m"), burn.alert, fires),)
        yield Test(f"bound {word}: {burn.alert.name}", FAST.sample, series, checks)


def guards(burns: Iterable[Burn], pace: Pace) -> Iterator[Test]:
    """Just too few events, and just enough, for those that wait for a number of them."""
    for burn in burns:
        if burn.events is not None:
            few, enough = (burn.events * (1 + sign * _GUARD) for sign in (-1, 1))
            yield _guard(burn, few, False, pace)
            yield _guard(burn, enough, True, pace)


def _guard(burn: Burn, events: Fraction, fires: bool, pace: Pace) -> Test:
    """All events bad, and so many of them in every long window; asked when one is full."""
    steps = -(-burn.long // pace.step) + 1
    failing = _failing(burn.alert, events * MINUTE / burn.long)
    series = moved(
        failing, [Phase(Fraction(1), steps * (pace.step // pace.burning) + 1)], pace.burning // MINUTE
    )
    word = "enough" if fires else "too few"
    checks = (Check(Duration(pace.step * steps), burn.alert, fires),)
    return Test(f"guard {word}: {burn.alert.name}", pace.burning, tuple(series), checks)


def _failing(alert: Alert, events: Fraction) -> list[Feed]:
    """What it asks for, where so many events a minute come, and every one is bad."""
    part = events / max(Fraction(feed.faulty or 0) for feed in alert.proof)
    return [
        replace(feed, healthy=0, faulty=decimal(Fraction(feed.faulty or 0) * part)) for feed in alert.proof
    ]


def budget_behind(alert: Alert, contract: Contract) -> Fraction | None:
    """The budget behind an alert that is raised when nothing is left of it; None: it is another kind of alert."""
    match conditions(alert.expr):
        case [Binary(op="<=", left=Selector() as left), *_] if left.signal.source is Source.RULE:
            return next((found for one in contract.recorded.of(left) if (found := _spent(one))), None)
        case _:
            return None


def _spent(one: Recording) -> Fraction | None:
    """The budget by which a recording says what is left: 1 - share / budget; None: it says something else."""
    match one.expr:
        case Binary(op="-", left=Number(), right=Binary(op="/", left=Selector(), right=Number(value=budget))):
            return Fraction(budget)
        case _:
            return None


def budget_test(alert: Alert, contract: Contract) -> Test:
    """Of the very first ten minutes some are lost: twice the budget for as long as they last, then it is won back.

    With h steps of health, a fault of twice the budget spends all of it after h more, and after a steps of that it is
    there again a - h steps later. Where time is counted the shares are given.
    """
    budget = budget_behind(alert, contract) or Fraction(0)
    if any(feed.since or feed.faulty is None for feed in alert.proof) or _timed(alert.expr, contract):
        return _given(alert, contract, budget)
    health, rest, deep = 10, 10, min(Fraction(1), 2 * budget)
    spent = health * budget / (deep - budget)
    fault = math.ceil(spent) + 5
    back = fault * deep / budget - health - fault
    phases = [Phase(Fraction(0), health + 1), Phase(deep, fault), Phase(Fraction(0), math.ceil(back) + rest)]
    moments = [(health, False), *around(health, spent, Fraction(1), True)]
    moments += [*around(health + fault, back, Fraction(1), False)]
    checks = tuple(Check(Duration(MINUTE * step), alert, fires) for step, fires in moments)
    return Test(f"budget: {alert.name}", FAST.sample, tuple(moved(alert.proof, phases, 1)), checks)


def budget_guards(alert: Alert) -> Iterator[Test]:
    """The first ten minutes, in which all fails: just too few events, and just enough, of those that it waits for."""
    match conditions(alert.expr):
        case [_, Binary(right=Number(value=least))]:
            for word, sign in (("too few", -1), ("enough", 1)):
                failing = _failing(alert, Fraction(least) * (1 + sign * _GUARD) / 10)
                series = moved(failing, [Phase(Fraction(1), 11)], 1)
                checks = (Check(Duration.parse("10m"), alert, sign > 0),)
                yield Test(f"budget, {word}: {alert.name}", FAST.sample, tuple(series), checks)
        case _:
            return


def _timed(expr: Expr, contract: Contract) -> bool:
    """Whether it rests on an average of something recorded."""
    return any(one.signal.source is Source.RULE for one in contract.bases(expr))


def _given(alert: Alert, contract: Contract, budget: Fraction) -> Test:
    """The recorded share just below the budget, just above it, and below it again."""
    left = next(iter(alert.expr.selectors()))
    recording = next(one for one in contract.recorded.of(left) if _spent(one))
    share = next(iter(recording.expr.selectors()))
    depths = [budget * (1 + sign * MARGIN) for sign in (-1, 1, -1)]
    series = moved([Feed(share, healthy=0, faulty=1)], [Phase(depth, 5) for depth in depths], 1)
    checks = tuple(
        Check(Duration(MINUTE * at), alert, fires) for at, fires in ((4, False), (9, True), (14, False))
    )
    return Test(f"budget: {alert.name}", FAST.sample, tuple(series), checks)
