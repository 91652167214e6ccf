"""Whether everything a query names is shown, and used as what it is: every node of its tree is looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import NamedTuple

from mahavishnu.promql import Aggregate, Binary, Call, Expr, Matcher, Number, Selector
from mahavishnu.queries.patterns import alternatives
from mahavishnu.signals import AgreementError, Kind, Signal, Source, boundary_text
from mahavishnu.units import Duration

_BOUND = "le"
_USUAL = Duration.parse("5m")
_SCRAPED = frozenset({"job", "instance"})
_COMPARISONS = frozenset({">", "<", ">=", "<=", "==", "!="})
# What a function over a window may be asked of.
_OF_COUNTERS = frozenset({"rate", "increase", "irate", "resets"})
_OF_GAUGES = frozenset(
    {"avg_over_time", "min_over_time", "max_over_time", "sum_over_time", "last_over_time", "quantile_over_time",
     "stddev_over_time", "changes", "delta", "idelta", "deriv", "predict_linear"}
)  # fmt: skip
_OF_BOTH = frozenset({"count_over_time", "present_over_time", "absent_over_time"})
_OF_VECTORS = frozenset(
    {"absent", "abs", "ceil", "floor", "round", "clamp", "clamp_min", "clamp_max", "time", "vector", "scalar",
     "histogram_quantile", "sort", "sort_desc"}
)  # fmt: skip


class World(NamedTuple):
    """The series that there are, and the job in whose name they are scraped; None: a query has no owner yet."""

    signals: Mapping[str, Signal]
    job: str | None


def resolve(expr: Expr, world: World) -> None:
    """Raise AgreementError at the first thing in a query that is not shown, or not what it is taken for."""
    for fault in faults(expr, world):
        raise AgreementError(fault)


def faults(expr: Expr, world: World) -> Iterator[str]:
    """Everything in a query that is not shown, or not what it is taken for."""
    nodes = [*expr.walk()]
    ranged = {id(one) for node in nodes if isinstance(node, Call) for one in node.args}
    counted = {id(expr), *(id(one) for node in nodes if _asks_no_level(node) for one in node.children())}
    for node in nodes:
        match node:
            case Selector():
                if node.window is not None and id(node) not in ranged:
                    yield f"`{node}` is a range of values where one is wanted"
                if node.window is None and _grows(node) and id(node) not in counted:
                    yield _never_less(node)
                yield from _selector(node, world)
            case Call():
                yield from _call(node)
            case Aggregate():
                yield from _aggregate(node)
            case Binary():
                yield from _binary(node, world)
            case _:
                pass


def _asks_no_level(node: Expr) -> bool:
    """Whether it looks at how something grows, or whether it is there, and never at where it is."""
    return isinstance(node, Call) and (node.name in _KINDS or node.name == "absent")


def _never_less(total: Selector) -> str:
    """What is said of a total that is asked for as if it could sink again."""
    growth = total.over(_USUAL, "increase")
    return (
        f"`{total}` is all that it has counted since the process began, and is never less: ask how it grows, "
        f"like `{growth}`"
    )


def _selector(selector: Selector, world: World) -> Iterator[str]:
    shown = world.signals.get(selector.signal.name)
    if shown is None:
        yield f"no such series: {selector.series}"
        return
    if shown.kind is not selector.signal.kind or selector.suffix not in shown.parts:
        yield f"{selector.series} is no part of a {shown.kind}"
        return
    owner = "service" if shown.source is Source.RULE else "job"
    if world.job is not None and owner not in {matcher.label for matcher in selector.matchers}:
        yield f"`{selector}` asks for the series of every {owner}"
    for matcher in selector.matchers:
        yield from _matcher(matcher, owner, selector, shown, world)


def _matcher(matcher: Matcher, owner: str, selector: Selector, shown: Signal, world: World) -> Iterator[str]:
    if matcher.label == owner and world.job is not None:
        if (matcher.op, matcher.value) != ("=", world.job):
            yield f"`{selector}` asks for {matcher.render()}, and the {owner} is {world.job}"
    elif matcher.label == _BOUND and selector.suffix == "_bucket":
        bounds = {"+Inf", *map(boundary_text, shown.buckets)}
        if matcher.value not in bounds or matcher.op != "=":
            yield f"{matcher.value} is no bucket boundary of {shown.name}"
    else:
        for value in _values(matcher):
            try:
                shown.check_value(matcher.label, matcher.op, value)
            except AgreementError as fault:
                yield str(fault)


def _values(matcher: Matcher) -> tuple[str, ...]:
    """Each alternative of a choice by itself: none of them may be wrong because another is right."""
    return alternatives(matcher.value) if matcher.op.endswith("~") else (matcher.value,)


def _call(call: Call) -> Iterator[str]:
    over = [one for one in call.args if isinstance(one, Selector)]
    kind = _KINDS.get(call.name)
    if kind is None:
        if call.name not in _OF_VECTORS:
            yield f"no proof knows the function {call.name}"
        elif any(one.window is not None for one in over):
            yield f"{call.name} takes values, and not a range of them"
    elif len(over) != 1 or over[0].window is None:
        yield f"{call.name} takes a range of values: `{call}`"
    elif not kind(over[0]):
        yield f"{call.name} of {over[0].series}: {over[0].signal.name} is a {over[0].signal.kind}"
    if call.name == "histogram_quantile":
        yield from _quantile(call)


def _grows(selector: Selector) -> bool:
    return selector.signal.kind is not Kind.GAUGE


_KINDS: Mapping[str, Callable[[Selector], bool]] = {
    **dict.fromkeys(_OF_COUNTERS, _grows),
    **dict.fromkeys(_OF_GAUGES, lambda one: not _grows(one)),
    **dict.fromkeys(_OF_BOTH, lambda _: True),
}


def _quantile(call: Call) -> Iterator[str]:
    share, over = call.args
    if isinstance(share, Number) and not 0 <= share.value <= 1:
        yield f"{share} is no quantile: one lies between 0 and 1"
    for one in over.selectors():
        if one.suffix != "_bucket" or any(matcher.label == _BOUND for matcher in one.matchers):
            yield f"histogram_quantile needs every bucket of a histogram, and not `{one}`"
    for node in over.walk():
        if isinstance(node, Aggregate) and _BOUND not in node.by:
            yield f"histogram_quantile needs the label le, which `{node}` drops"


def _aggregate(node: Aggregate) -> Iterator[str]:
    for label in node.by:
        for one in node.inner.selectors():
            given = {"service"} if one.signal.source is Source.RULE else _SCRAPED
            known = {*given, *(each.name for each in one.signal.labels)}
            if label not in known and not (label == _BOUND and one.suffix == "_bucket"):
                yield f"series {one.series} has no label {label}"


def _binary(node: Binary, world: World) -> Iterator[str]:
    """A measured quantile jumps from one boundary to the next: only at one can it be compared."""
    for asked, other in ((node.left, node.right), (node.right, node.left)):
        measured = isinstance(asked, Call) and asked.name == "histogram_quantile"
        if measured and isinstance(other, Number) and node.op in _COMPARISONS:
            yield from _threshold(asked, other.value, world)


def _threshold(asked: Expr, value: Decimal, world: World) -> Iterator[str]:
    for one in asked.selectors():
        shown = world.signals.get(one.signal.name, one.signal)
        if value not in shown.buckets:
            yield f"{value} is no bucket boundary of {shown.name}"
