"""A world of series for promtool, sampled, and what must hold in it when."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Context, Decimal
from fractions import Fraction
from typing import NamedTuple

from mahavishnu.promql import quoted
from mahavishnu.signals import Alert, Feed, Kind
from mahavishnu.units import Duration, plain

_SLACK = 0.15  # of a step: how near to a step a moment may lie before the test looks one step further away
_DIGITS = Context(prec=12)


@dataclass(frozen=True, slots=True)
class Series:
    """One input series in promtool's notation."""

    series: str
    values: str


@dataclass(frozen=True, slots=True)
class Check:
    """Whether an alert fires at a moment after the start."""

    at: Duration
    alert: Alert
    firing: bool

    @property
    def expr(self) -> str:
        """A query that answers 1 when it fires, else 0."""
        labels = {"alertname": self.alert.name, "alertstate": "firing", "severity": self.alert.severity.value}
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


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a test file evaluates, and how often its steady and its burning series are sampled."""

    step: Duration
    burning: Duration
    sample: Duration


MINUTE = Duration.parse("1m")
FAST = Pace(step=MINUTE, burning=MINUTE, sample=MINUTE)
SLOW = Pace(step=Duration.parse("30m"), burning=Duration.parse("10m"), sample=MINUTE)


class Phase(NamedTuple):
    """So many samples at one depth of the fault (0 healthy, 1 faulty; None: the series is gone)."""

    depth: Fraction | None
    samples: int


def line_of(feed: Feed) -> Callable[[Fraction], Fraction | None]:
    """Where the series of a feed is at a depth of the fault; None: gone."""
    if feed.healthy is None or feed.faulty is None:
        said = [None if one is None else Fraction(one) for one in (feed.healthy, feed.faulty)]
        return lambda depth: said[depth == 1]
    healthy = Fraction(feed.healthy)
    rise = Fraction(feed.faulty) - healthy
    return lambda depth: healthy + depth * rise


def around(since: int, moment: Fraction, early: Fraction, becomes: bool) -> Iterator[tuple[int, bool]]:
    """The last step before a change and the first one after it; `early` is how much sooner it may come."""
    before, after = math.floor(moment * early - Fraction(_SLACK)), math.ceil(moment + Fraction(_SLACK))
    if before >= 0:
        yield since + before, not becomes
    yield since + after, becomes


def moved(feeds: Iterable[Feed], phases: Sequence[Phase], minutes: int) -> Iterator[Series]:
    """The feeds' series through the phases, sampled every so many minutes."""
    for feed in feeds:
        grows = feed.series.signal.kind is not Kind.GAUGE
        parts: list[str] = []
        last: Fraction | None = None
        reached, since = 0.0, 0
        line = line_of(feed)
        for phase in phases:
            level = None if phase.depth is None else line(phase.depth)
            passed, since = since, since + phase.samples
            if level is None:
                parts.append(f"_x{phase.samples}")
                continue
            if feed.since:
                now = passed * minutes * 60 - level
                parts.append(f"{_text(now)}+{minutes * 60}x{phase.samples - 1}")
                continue
            growth = _text(level * minutes) if grows else "0"
            start = level if not grows else Fraction(0) if last is None else last + Fraction(growth)
            # What stands still must not grow by a rounding, and what grows must not seem to begin anew.
            still = grows and growth == "0" and last is not None
            exact = not grows or (float(_text(start)) >= reached and not still)
            first = _text(start) if exact else f"{Decimal(reached):f}"
            parts.append(f"{first}+{growth}x{phase.samples - 1}")
            last = start + Fraction(growth) * (phase.samples - 1)
            reached = _added(float(first), float(growth), phase.samples - 1)
        yield Series(replace(feed.series, window=None).render(), " ".join(parts))


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
