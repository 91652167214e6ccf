"""Tests of alerts that count changes: something goes to and fro until they fire, and rests until they do not."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple

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

Over = Callable[[Sequence[bool], Mapping[bool, Fraction], Fraction], Fraction]
"""What is made of samples that are bad or not, of the level of each kind, and of how far off a float may be."""


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


class _Condition(NamedTuple):
    """One of those that must hold together: what is made of the samples within a window, against its bound."""

    over: Over
    samples: int
    level: Mapping[bool, Fraction]
    compare: Callable[[Fraction, Fraction], bool]
    bound: Fraction

    def holds(self, bad: Sequence[bool], closed: bool, off: Fraction) -> bool:
        return self.compare(self.over(bad[-(self.samples + closed) :], self.level, off), self.bound)


def _test(word: str, alert: Alert, bad: Sequence[bool], contract: Contract, pace: Pace) -> Test:
    at = world_of(alert)
    worlds = {worse: Steady(at(Fraction(worse)), contract.recorded) for worse in (False, True)}
    needed = list(_conditions(alert.expr, worlds, pace))
    told = [_answers(needed, bad[: step + 1]) for step in range(len(bad))]
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


def _conditions(expr: Expr, worlds: Mapping[bool, Steady], pace: Pace) -> Iterator[_Condition]:
    match expr:
        case Binary(op="and"):
            yield from _conditions(expr.left, worlds, pace)
            yield from _conditions(expr.right, worlds, pace)
        case Binary(left=Call(args=(Selector() as over,)) as call, right=Number(value=bound)):
            level = {worse: _level(over, world) for worse, world in worlds.items()}
            samples = (over.window or 0) // pace.step
            yield _Condition(_OVER[call.name], samples, level, _COMPARE[expr.op], Fraction(bound))
        case _:
            raise AgreementError(f"no test is known for `{expr}`, which counts changes")


def _answers(needed: Sequence[_Condition], bad: Sequence[bool]) -> set[bool]:
    """What it may answer at the last of these steps: the sample at a window's far end counts in Prometheus 2 alone."""
    return {
        all(one.holds(bad, closed, off) for one in needed)
        for closed in (True, False)
        for off in (-_ROUNDED, _ROUNDED)
    }


def _level(over: Selector, world: Steady) -> Fraction:
    (level,) = world.vector(replace(over, window=None)).values()
    return level


def _changes(bad: Sequence[bool], level: Mapping[bool, Fraction], _: Fraction) -> Fraction:
    return Fraction(sum(map(operator.ne, bad, bad[1:])) if level[False] != level[True] else 0)


def _average(bad: Sequence[bool], level: Mapping[bool, Fraction], off: Fraction) -> Fraction:
    return sum((level[worse] * bad.count(worse) for worse in level), Fraction(0)) / len(bad) + off


_OVER: Mapping[str, Over] = {"changes": _changes, "avg_over_time": _average}
