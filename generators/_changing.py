"""Tests of alerts that count changes: something goes to and fro until they fire, and rests until they do not."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from mahavishnu.contract import Contract
from mahavishnu.promql import Binary, Call, Expr, Number, Selector
from mahavishnu.queries.steady import Steady
from mahavishnu.signals import AgreementError, Alert
from mahavishnu.units import Duration

from ._promtool import MINUTE, Check, Pace, Phase, Test, moved
from ._thresholds import window_of, world_of

_ROUNDED = Fraction(1, 10**9)
"""An average is as far off, to a float: so near its bound nobody knows on which side it is."""
_COMPARE: Mapping[str, Callable[[Fraction, Fraction], bool]] = {
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
}


def changing(alert: Alert) -> bool:
    """Whether an alert counts changes: what moves steadily never raises it."""
    return any(isinstance(node, Call) and node.name == "changes" for node in alert.expr.walk())


def changes(alert: Alert, contract: Contract, pace: Pace) -> Iterator[Test]:
    """Quick changes, one with each sample; and a long one, which by itself is none too many, before quick ones."""
    reach = -(-window_of(alert, contract) // pace.step)
    rest = [False] * (reach + 2)
    quick = [True, False] * (reach // 2)
    long = [True] * (reach // 5)
    yield _test("quick", alert, [*rest, *quick, *rest], contract, pace)
    yield _test("long", alert, [*rest, *long, False, False, False, *quick, *rest], contract, pace)


def _test(word: str, alert: Alert, bad: Sequence[bool], contract: Contract, pace: Pace) -> Test:
    at = world_of(alert)
    worlds = [Steady(at(Fraction(worse)), contract.recorded) for worse in bad]
    told = [_answers(alert.expr, worlds[: step + 1], pace) for step in range(len(bad))]
    sure = [(step, fires) for step, found in enumerate(told) if len(found) == 1 for fires in found]
    checks = [
        Check(Duration(pace.step * step), alert, fires)
        for (before, was), (after, now) in itertools.pairwise(sure)
        for step, fires in ((before, was), (after, now))
        if was is not now
    ]
    if not any(one.firing for one in checks) or sure[-1][1]:
        raise AgreementError(f"the proof of {alert.name} does not show it firing, and silent again")
    phases = [Phase(Fraction(worse), sum(1 for _ in run)) for worse, run in itertools.groupby(bad)]
    series = tuple(moved(alert.proof, phases, pace.step // MINUTE, still=True))
    return Test(f"changes {word}: {alert.name}", pace.step, series, tuple(checks))


def _answers(expr: Expr, worlds: Sequence[Steady], pace: Pace) -> set[bool]:
    """What it may answer at the last of these steps: the sample at a window's far end counts in Prometheus 2 alone."""
    return {
        _holds(expr, worlds, pace, closed, off) for closed in (True, False) for off in (-_ROUNDED, _ROUNDED)
    }


def _holds(expr: Expr, worlds: Sequence[Steady], pace: Pace, closed: bool, off: Fraction) -> bool:
    match expr:
        case Binary(op="and"):
            return all(_holds(one, worlds, pace, closed, off) for one in (expr.left, expr.right))
        case Binary(left=Call(args=(Selector() as over,)) as call, right=Number(value=bound)):
            width = (over.window or 0) // pace.step + closed
            levels = [_level(over, one) for one in worlds[-width:]]
            return _COMPARE[expr.op](_OVER[call.name](levels, off), Fraction(bound))
        case _:
            raise AgreementError(f"no test is known for `{expr}`, which counts changes")


def _level(over: Selector, world: Steady) -> Fraction:
    (level,) = world.vector(replace(over, window=None)).values()
    return level


_OVER: Mapping[str, Callable[[Sequence[Fraction], Fraction], Fraction]] = {
    "changes": lambda levels, _: Fraction(sum(one != other for one, other in itertools.pairwise(levels))),
    "avg_over_time": lambda levels, off: sum(levels, Fraction(0)) / len(levels) + off,
}
