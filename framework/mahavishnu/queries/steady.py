"""What a query answers while every series moves steadily: the arithmetic by which alert tests are derived."""

# Rates are those of counters that grow evenly, over windows that lie wholly within the steady time. Where nothing else
# is said now is time zero, so that a series which tells a point in time has the negative of its age. Exact.

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache, reduce
from typing import NamedTuple

from mahavishnu.promql import BOOL, Aggregate, Binary, Call, Expr, Number, Selector
from mahavishnu.queries.recorded import Recorded
from mahavishnu.signals import AgreementError, Kind, Source
from mahavishnu.units import MINUTE

Labels = frozenset[tuple[str, str]]
Vector = dict[Labels, Fraction]
Value = Fraction | Vector
# What a quotient by zero stands for: beyond every threshold.
_INFINITE = Fraction(10**40)


class Moving(NamedTuple):
    """One series and how it moves: the level of a gauge, the growth per minute of a counter."""

    name: str
    labels: Labels
    level: Fraction
    grows: bool


def moving(series: Selector, level: Fraction) -> Moving:
    """The one series that a selector of equalities names, moving so."""
    labels = frozenset((matcher.label, matcher.value) for matcher in series.matchers)
    return Moving(series.series, labels, level, series.signal.kind is not Kind.GAUGE)


class Steady(NamedTuple):
    """A world of steady series and the recording rules over them; everything not in it does not exist.

    `windows` is what windows see where that is not what is now: a part of it, and of what was before.
    """

    series: tuple[Moving, ...]
    recorded: Recorded = Recorded()
    windows: tuple[Moving, ...] | None = None
    now: Fraction = Fraction(0)

    def value(self, expr: Expr) -> Value:
        """A number, or one number per label set; raises AgreementError for what has no steady meaning."""
        match expr:
            case Number(value=number):
                return _exact(number)
            case Selector():
                return self._recorded(expr) if expr.signal.source is Source.RULE else self._instant(expr)
            case Aggregate():
                return _aggregated(expr, self.vector(expr.inner))
            case Binary():
                return _joined(expr.op, self.value(expr.left), self.value(expr.right))
            case Call():
                return self._called(expr)
            case _:
                raise AgreementError(f"no steady meaning is known for {expr}")

    def vector(self, expr: Expr) -> Vector:
        """The answer as one number per label set."""
        found = self.value(expr)
        return found if isinstance(found, dict) else {frozenset(): found}

    def fires(self, expr: Expr) -> bool:
        """Whether an alert with this condition has anything to say."""
        return bool(self.vector(expr))

    def _instant(self, selector: Selector) -> Vector:
        return {one.labels: one.level for one in self.series if selector.selects(one.name, one.labels)}

    def _recorded(self, selector: Selector) -> Vector:
        found: Vector = {}
        for one in self.recorded.of(selector):
            found |= {_with(labels, one.labels): value for labels, value in self.vector(one.expr).items()}
        return found

    def _called(self, call: Call) -> Value:
        if call.name == "time":
            return self.now
        if call.name == "vector":
            return {frozenset(): _number(self.value(call.args[0]))}
        if call.name == "last_over_time" and isinstance(call.args[0], Selector):
            return self._instant(call.args[0])
        if call.name == "absent":
            return {} if self.vector(call.args[0]) else {frozenset(): Fraction(1)}
        if call.name == "histogram_quantile":
            return _quantiles(_number(self.value(call.args[0])), self.vector(call.args[1]))
        if len(call.args) == 1 and isinstance(over := call.args[0], Selector) and over.window is not None:
            if over.signal.source is Source.RULE:
                return self._averaged(call.name, over)
            moved = self._ranged(call.name, over).items()
            return {labels: _OVER[call.name](one, over.window) for labels, one in moved}
        raise AgreementError(f"no steady meaning is known for {call}")

    def _averaged(self, function: str, over: Selector) -> Vector:
        """What is recorded while all is steady never changes."""
        if not function.endswith("_over_time") or function not in _OVER:
            raise AgreementError(f"no steady meaning is known for {function}({over})")
        return self._recorded(over)

    def _ranged(self, function: str, selector: Selector) -> Mapping[Labels, Moving]:
        if function not in _OVER:
            raise AgreementError(f"no steady meaning is known for {function}({selector})")
        seen = self.series if self.windows is None else self.windows
        return {one.labels: one for one in seen if selector.selects(one.name, one.labels)}


_OVER: Mapping[str, Callable[[Moving, int], Fraction]] = {
    "rate": lambda one, _: one.level / 60,
    "increase": lambda one, window: one.level * Fraction(window, MINUTE),
    "delta": lambda one, window: one.level * Fraction(window, MINUTE) if one.grows else Fraction(0),
    "avg_over_time": lambda one, _: one.level,
    "min_over_time": lambda one, _: one.level,
    "max_over_time": lambda one, _: one.level,
}
_COMPARE: Mapping[str, Callable[[Fraction, Fraction], bool]] = {
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}
_ARITHMETIC: Mapping[str, Callable[[Fraction, Fraction], Fraction]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": lambda left, right: left / right,
}
_GATHER: Mapping[str, Callable[[list[Fraction]], Fraction]] = {
    "sum": lambda values: reduce(operator.add, values),
    "max": max,
    "min": min,
    "avg": lambda values: reduce(operator.add, values) / len(values),
    "count": lambda values: Fraction(len(values)),
}


@lru_cache(maxsize=1024)
def _exact(number: Decimal) -> Fraction:
    return Fraction(number)


def _with(labels: Labels, more: Iterable[tuple[str, str]]) -> Labels:
    return frozenset((dict(labels) | dict(more)).items())


def _number(value: Value) -> Fraction:
    if isinstance(value, dict):
        raise AgreementError("a number is wanted here, and there is a vector")
    return value


def _aggregated(expr: Aggregate, inner: Vector) -> Vector:
    groups: dict[Labels, list[Fraction]] = {}
    for labels, value in inner.items():
        groups.setdefault(frozenset(pair for pair in labels if pair[0] in expr.by), []).append(value)
    return {labels: _GATHER[expr.op](values) for labels, values in groups.items()}


def _joined(op: str, left: Value, right: Value) -> Value:
    if op in ("and", "or", "unless"):
        return _sets(op, left, right)
    if not isinstance(left, dict) and not isinstance(right, dict):
        return _arithmetic(op, left, right) or Fraction(0)
    pairs = _pairs(left, right)
    if op in _COMPARE:
        kept = _vector(left if isinstance(left, dict) else right)
        return {labels: kept[labels] for labels, pair in pairs.items() if _COMPARE[op](*pair)}
    results = {labels: _arithmetic(op, *pair) for labels, pair in pairs.items()}
    return {labels: value for labels, value in results.items() if value is not None}


def _pairs(left: Value, right: Value) -> dict[Labels, tuple[Fraction, Fraction]]:
    """What stands on both sides, by the labels that it has on either."""
    if not isinstance(right, dict):
        return {labels: (value, right) for labels, value in _vector(left).items()}
    if not isinstance(left, dict):
        return {labels: (left, value) for labels, value in right.items()}
    return {labels: (value, right[labels]) for labels, value in left.items() if labels in right}


def _sets(op: str, left: Value, right: Value) -> Vector:
    one, other = _vector(left), _vector(right)
    if op == "or":
        return other | one
    return {labels: value for labels, value in one.items() if (labels in other) is (op == "and")}


def _vector(value: Value) -> Vector:
    if not isinstance(value, dict):
        raise AgreementError("a vector is wanted here, and there is a number")
    return value


def _arithmetic(op: str, left: Fraction, right: Fraction) -> Fraction | None:
    """None: not a number, which no comparison lets through."""
    if op.endswith(BOOL):
        return Fraction(_COMPARE[op.removesuffix(BOOL)](left, right))
    if op == "/" and not right:
        return _INFINITE if left > 0 else None
    return _ARITHMETIC[op](left, right)


def _quantiles(q: Fraction, buckets: Vector) -> Vector:
    groups: dict[Labels, dict[str, Fraction]] = {}
    for labels, value in buckets.items():
        rest = frozenset(pair for pair in labels if pair[0] != "le")
        groups.setdefault(rest, {})[dict(labels)["le"]] = value
    found = {labels: _quantile(q, counts) for labels, counts in groups.items()}
    return {labels: value for labels, value in found.items() if value is not None}


def _quantile(q: Fraction, counts: Mapping[str, Fraction]) -> Fraction | None:
    """Prometheus' own interpolation: linear within the bucket, never beyond the last finite boundary."""
    bounds = sorted((Fraction(le), count) for le, count in counts.items() if le != "+Inf")
    every = counts.get("+Inf")
    if not every or not bounds:
        return None
    start, below = Fraction(0), Fraction(0)
    for bound, count in bounds:
        if count >= q * every:
            return start + (bound - start) * (q * every - below) / (count - below) if count > below else bound
        start, below = bound, count
    return start
