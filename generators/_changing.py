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

Over = Callable[[Sequence[bool], Mapping[bool, Fraction]], Fraction]
"""What is made of samples that are bad or not, and of the level of each kind."""


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
    """One of those that must hold together: what is made of the samples within a window, against its bound.

    A float may be a little off, so the bound is two: the highest and the lowest that it may seem to be.
    """

    over: Over
    samples: int
    level: Mapping[bool, Fraction]
    compare: Callable[[Fraction, Fraction], bool]
    bounds: tuple[Fraction, Fraction]

    def holds(self, bad: Sequence[bool], closed: bool) -> tuple[bool, bool]:
        found = self.over(bad[-(self.samples + closed) :], self.level)
        high, low = self.bounds
        return self.compare(found, high), self.compare(found, low)


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
            made, off = _OVER[call.name]
            bounds = Fraction(bound) + off, Fraction(bound) - off
            yield _Condition(made, samples, level, _COMPARE[expr.op], bounds)
        case _:
            raise AgreementError(f"no test is known for `{expr}`, which counts changes")


def _answers(needed: Sequence[_Condition], bad: Sequence[bool]) -> set[bool]:
    """What it may answer at the last of these steps: the sample at a window's far end counts in Prometheus 2 alone."""
    return {
        all(told)
        for closed in (True, False)
        for told in zip(*(one.holds(bad, closed) for one in needed), strict=True)
    }


def _level(over: Selector, world: Steady) -> Fraction:
    (level,) = world.vector(replace(over, window=None)).values()
    return level


def _changes(bad: Sequence[bool], level: Mapping[bool, Fraction]) -> Fraction:
    return Fraction(sum(map(operator.ne, bad, bad[1:])) if level[False] != level[True] else 0)


def _average(bad: Sequence[bool], level: Mapping[bool, Fraction]) -> Fraction:
    worse = bad.count(True)
    return (level[True] * worse + level[False] * (len(bad) - worse)) / len(bad)


_OVER: Mapping[str, tuple[Over, Fraction]] = {
    "changes": (_changes, Fraction(0)),
    "avg_over_time": (_average, _ROUNDED),
}
