"""A world of series for promtool, sampled, and what must hold in it when."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Context, Decimal
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from mahavishnu.promql import quoted
from mahavishnu.signals import Alert, Feed, Kind
from mahavishnu.units import Duration, plain

_SLACK = 0.15  # of a step: how near to a step a moment may lie before the test looks one step further away
_DIGITS = Context(prec=12)
_EXACT = Context(prec=1000)  # no sum of numbers of twelve digits is as long


class Series(NamedTuple):
    """One input series in promtool's notation."""

    series: str
    values: str


class Check(NamedTuple):
    """Whether an alert fires at a moment after the start."""

    at: Duration
    alert: Alert
    firing: bool

    @property
    def expr(self) -> str:
        """A query that answers 1 when it fires, else 0."""
        return _firing(self.alert.name, self.alert.severity.value)


@lru_cache(maxsize=1024)
def _firing(alert: str, severity: str) -> str:
    labels = {"alertname": alert, "alertstate": "firing", "severity": severity}
    inside = ",".join(f"{name}={quoted(value)}" for name, value in labels.items())
    return f"count(ALERTS{{{inside}}}) or vector(0)"


@dataclass(frozen=True, slots=True)
class Test:
    """One world of series, sampled every `interval`, and what must hold in it when."""

    __test__ = False  # pytest: not yours

    name: str
    interval: Duration
    series: tuple[Series, ...]
    checks: tuple[Check, ...]


class Pace(NamedTuple):
    """How often a test file evaluates, and how often its steady and its burning series are sampled."""

    step: Duration
    burning: Duration
    sample: Duration


MINUTE = Duration.parse("1m")
FAST = Pace(step=MINUTE, burning=MINUTE, sample=MINUTE)
SLOW = Pace(step=Duration.parse("30m"), burning=Duration.parse("10m"), sample=MINUTE)


class Phase(NamedTuple):
    """So many samples at one depth of the fault (0 healthy, 1 faulty; None: the series is gone).

    Where they are not `seen` the series goes on, and nobody scrapes it.
    """

    depth: Fraction | None
    samples: int
    seen: bool = True


class Level(NamedTuple):
    """Where a series is (None: it is gone), for how many samples, and whether they are seen."""

    at: Fraction | None
    samples: int
    seen: bool = True


Levels = Sequence[Level]


def line_of(feed: Feed) -> Callable[[Fraction], Fraction | None]:
    """Where the series of a feed is at a depth of the fault; None: gone."""
    if feed.healthy is None or feed.faulty is None:
        said = [None if one is None else Fraction(one) for one in (feed.healthy, feed.faulty)]
        return lambda depth: said[depth == 1]
    healthy, faulty = Fraction(feed.healthy), Fraction(feed.faulty)
    parts = healthy.denominator * faulty.denominator
    start = healthy.numerator * faulty.denominator
    rise = faulty.numerator * healthy.denominator - start
    # As one fraction: a sum of two takes three times as long, and a search asks a thousand times.
    return lambda depth: Fraction(
        start * depth.denominator + rise * depth.numerator, parts * depth.denominator
    )


def around(since: int, moment: Fraction, early: Fraction, becomes: bool) -> Iterator[tuple[int, bool]]:
    """The last step before a change and the first one after it; `early` is how much sooner it may come."""
    before, after = math.floor(moment * early - Fraction(_SLACK)), math.ceil(moment + Fraction(_SLACK))
    if before >= 0:
        yield since + before, not becomes
    yield since + after, becomes


def moved(
    feeds: Iterable[Feed], phases: Sequence[Phase], minutes: int, *, still: bool = False
) -> Iterator[Series]:
    """The feeds' series through the phases, sampled every so many minutes.

    What tells a point in time stays as old as it is; where that is to stand `still`, it tells the same point.
    """
    for feed in feeds:
        line = line_of(feed)
        levels = [
            Level(None if one.depth is None else line(one.depth), one.samples, one.seen) for one in phases
        ]
        grows = feed.series.signal.kind is not Kind.GAUGE
        dated = feed.since and not still
        parts = _dated(levels, minutes) if dated else _counted(levels, minutes) if grows else _held(levels)
        series = feed.series if feed.series.window is None else replace(feed.series, window=None)
        yield Series(series.render(), " ".join(parts))


def _held(levels: Levels) -> Iterator[str]:
    """A gauge stands where it is."""
    return (
        _gone(samples) if level is None or not seen else f"{_text(level)}+0x{samples - 1}"
        for level, samples, seen in levels
    )


def _dated(levels: Levels, minutes: int) -> Iterator[str]:
    """What tells a point in time is told as much later as time has passed."""
    passed = 0
    for level, samples, seen in levels:
        now = None if level is None or not seen else passed * minutes * 60 - level
        yield _gone(samples) if now is None else f"{_text(now)}+{minutes * 60}x{samples - 1}"
        passed += samples


def _counted(levels: Levels, minutes: int) -> Iterator[str]:
    """A counter grows from where it has arrived, by numbers as they are written."""
    last: Decimal | None = None
    reached = 0.0
    for level, samples, seen in levels:
        if level is None:
            yield _gone(samples)
            continue
        growth = decimal(level * minutes)
        start = Decimal(0) if last is None else _EXACT.add(last, growth)
        # What stands still must not grow by a rounding, and what grows must not seem to begin anew.
        rounded, still = _rounded(start), not growth and last is not None
        last = _EXACT.fma(growth, Decimal(samples - 1), start)
        if seen:
            first = rounded if float(rounded) >= reached and not still else Decimal(reached)
            yield f"{first:f}+{growth:f}x{samples - 1}"
            reached = _added(float(first), float(growth), samples - 1)
        else:
            yield _gone(samples)


def _gone(samples: int) -> str:
    return f"_x{samples}"


def _added(start: float, growth: float, times: int) -> float:
    """Where promtool arrives by adding: a next part that began below it would be a counter's reset."""
    for _ in range(times):
        start += growth
    return start


def _text(number: Fraction) -> str:
    return f"{decimal(number):f}"


def decimal(number: Fraction) -> Decimal:
    """The number, to so many digits as a float holds."""
    return plain(_DIGITS.divide(Decimal(number.numerator), Decimal(number.denominator)))


def _rounded(number: Decimal) -> Decimal:
    return plain(_DIGITS.plus(number))
