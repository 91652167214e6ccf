"""Under which values a condition is silent, and under which it holds: looked for by trying, where nobody says."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

from mahavishnu.promql import Aggregate, Binary, Call, Expr, Matcher, Number, Selector
from mahavishnu.queries.instances import example
from mahavishnu.queries.steady import Moving, Steady, moving
from mahavishnu.signals import AgreementError, Feed, Kind, Unit, boundary_text

_MOST = 4
"""So many series, each with a handful of levels, are tried in a moment."""
_NONE, _SOME = Decimal(0), Decimal(60)
_SCRAPED = (Matcher("job", "=", "x"), Matcher("instance", "=", "x"))
"""What every series has besides its own labels, so that one which is added up meets none that is not."""
_TIMES = (Fraction(0), Fraction(10**9))
Levels = tuple[Decimal, ...]


def search(condition: Expr) -> tuple[Feed, ...]:
    """Feeds under which a condition is false when healthy and true when faulty, as few as possible of them moving.

    Raises AgreementError when there are none to be found: the condition is always true, never, or beyond this.
    """
    choices = dict(one for selector in condition.selectors() for one in _choices(selector, condition))
    several = sum(len(levels) > 1 for levels in choices.values())
    if several > _MOST:
        raise AgreementError(
            f"it asks for {several} series, and a proof of more than {_MOST} is not looked for"
        )
    if any(one.window is not None and _dates(one) for one in condition.selectors()):
        raise AgreementError("no steady meaning is known for a window over what tells a point in time")
    silent, firing = list[Levels](), list[Levels]()
    for levels in itertools.product(*choices.values()):
        world = Steady(tuple(_moving(one, level) for one, level in zip(choices, levels, strict=True)))
        (firing if world.fires(condition) else silent).append(levels)
    if not silent or not firing:
        never = f"no values are found under which it is {'true' if silent else 'false'}"
        raise AgreementError(misdated(condition) or never)
    good, bad = min(itertools.product(silent, firing), key=_apart)
    feeds = tuple(Feed(one, good[place], bad[place]) for place, one in enumerate(choices))
    if not shows(condition, feeds):
        raise AgreementError(misdated(condition) or "what it answers now it does not answer at another time")
    return feeds


def shows(condition: Expr, feeds: tuple[Feed, ...]) -> bool:
    """Whether a condition is false while these series are healthy and true while they are faulty, whenever that is."""

    def fires(now: Fraction, *, faulty: bool) -> bool:
        levels = ((one, one.faulty if faulty else one.healthy) for one in feeds)
        series = (_moving(one.series, level, now) for one, level in levels if level is not None)
        return Steady(tuple(series), now=now).fires(condition)

    return all(fires(now, faulty=True) and not fires(now, faulty=False) for now in _TIMES)


def misdated(expr: Expr) -> str | None:
    """What is taken for a time that has passed and is a point in time, or the other way round; None: nothing."""
    timed = any(isinstance(node, Call) and node.name == "time" for node in expr.walk())
    dated = [one for one in expr.selectors() if _dates(one)]
    if dated and not timed:
        return f"`{dated[0]}` tells a point in time; how long that is ago tells `time() - {dated[0]}`"
    if timed and not dated:
        return "`time()` is a point in time, and no series that it asks for tells another one"
    return None


def _choices(selector: Selector, condition: Expr) -> Iterator[tuple[Selector, Levels]]:
    """The series that stand for a selector, each with the levels at which it is tried.

    Of a histogram that is compared with one of its boundaries everything lies within that, or just beyond.
    """
    bound = _compared(selector, condition)
    if bound is None:
        one = example(selector)
        yield one, _levels(one, condition)
        return
    beyond = [one for one in selector.signal.buckets if one > bound][:1]
    yield _bucket(selector, boundary_text(bound)), (_NONE, _SOME)
    yield from ((_bucket(selector, le), (_SOME,)) for le in (*map(boundary_text, beyond), "+Inf"))


def _compared(selector: Selector, condition: Expr) -> Decimal | None:
    """The boundary with which a quantile of these buckets is compared; None: with none."""
    for node in condition.walk():
        match node:
            case (
                Binary(left=asked, right=Number(value=bound)) | Binary(left=Number(value=bound), right=asked)
            ) if bound in selector.signal.buckets and _quantile(asked, selector):
                return bound
            case _:
                pass
    return None


def _quantile(asked: Expr, selector: Selector) -> bool:
    calls = (node for node in asked.walk() if isinstance(node, Call) and node.name == "histogram_quantile")
    return any(selector in one.selectors() for one in calls)


def _bucket(selector: Selector, le: str) -> Selector:
    return example(replace(selector, matchers=(*selector.matchers, Matcher("le", "=", le))))


def _levels(series: Selector, condition: Expr) -> Levels:
    """Nothing, and what lies around the numbers of the condition; of what grows, per minute."""
    numbers = {abs(node.value) for node in condition.walk() if isinstance(node, Number)}
    around = sorted(
        {Decimal(0), Decimal(1), *(one / 2 for one in numbers), *(2 * one + 1 for one in numbers)}
    )
    if series.signal.kind is not Kind.GAUGE:
        return tuple(60 * one for one in around[:8])
    can_be = _RANGES.get(series.signal.unit)
    if can_be is None or any(map(_gathers, condition.walk())):
        return tuple(around[:8])
    whole = not any(map(_averages, condition.walk()))
    return tuple(one for one in around if can_be(one, whole))[:8]


_RANGES: Mapping[Unit, Callable[[Decimal, bool], bool]] = {
    Unit.SHARE: lambda level, _: level <= 1,
    Unit.FLAG: lambda level, whole: level in (0, 1) if whole else level <= 1,
    Unit.ONE: lambda level, _: level == 1,
}
"""What a gauge of such a unit can be, as one series and `whole`, where no average is taken of it."""


def _gathers(node: Expr) -> bool:
    """Whether it adds up what several replicas show."""
    return isinstance(node, Aggregate) and node.op in ("sum", "count")


def _averages(node: Expr) -> bool:
    """Whether it may answer what lies between two values."""
    match node:
        case Aggregate(op="avg") | Call(name="avg_over_time" | "quantile_over_time"):
            return True
        case _:
            return False


def _dates(series: Selector) -> bool:
    """Whether it tells a point in time."""
    return series.signal.unit is Unit.POINT


def _moving(series: Selector, level: Decimal | int, now: Fraction = _TIMES[0]) -> Moving:
    scraped = replace(series, matchers=(*series.matchers, *_SCRAPED))
    return moving(scraped, now - Fraction(level) if _dates(series) else Fraction(level))


def _apart(pair: tuple[Levels, Levels]) -> tuple[int, Decimal]:
    """How many levels differ, and by how much."""
    good, bad = pair
    differences = [abs(one - other) for one, other in zip(good, bad, strict=True)]
    return sum(map(bool, differences)), sum(differences, Decimal(0))
