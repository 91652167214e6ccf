"""A query that the spec itself writes, read into the tree that ours are; the only door to promql-parser."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from mahavishnu.promql import BOOL, OPERATORS, Aggregate, Binary, Call, Expr, Matcher, Number, Selector
from mahavishnu.queries import closure
from mahavishnu.signals import AgreementError, Signal, exposed
from mahavishnu.units import SECOND, Duration

_COMPARE = frozenset({"rate", "increase", "irate", "delta", "idelta", "deriv", "resets"})
_SHORTEST = Duration.parse("2m")
_AGGREGATES = frozenset({"sum", "min", "max", "avg", "count"})


class QueryError(AgreementError):
    """A query of the spec that cannot be read, or asks for what is not there; `help` says what to do."""

    help = "ask for what `/metrics` of the service shows"


class Unproved(QueryError):
    """A query of which no test can show that it holds."""

    help = (
        "ask in another way; what cannot be proved belongs into rules of your own, in a folder of your own, and in a "
        "group that is not named `<service>-…` as those of the generated ones are"
    )


class NoAge(Unproved):
    """What is promised to be fresh, and is no age in seconds."""

    help = (
        "ask in another way: an age is `time()` minus a series that ends in `_timestamp_seconds`, or a series that "
        "ends in `_age_seconds`"
    )


class NoEvents(QueryError):
    """What is promised to be good, and is no event, or none that stands there once."""

    help = "ask for a counter, for the `_count` of a histogram, or for its `_bucket` with one `le`"


class NoQuery(QueryError):
    """What is no PromQL at all."""

    help = "write it as Prometheus reads it"


class ParserMissing(QueryError):
    """promql-parser is not installed, so that nothing can be said of a query."""

    help = "install it, where this command runs"

    def __init__(self) -> None:
        super().__init__(
            "a query can only be read with promql-parser: `pip install 'mahavishnu[promql]'`, or write the "
            "condition without PromQL"
        )


def read(text: str, signals: Mapping[str, Signal], job: str | None = None) -> Expr:
    """The tree of a query over these series, which names its job itself, or is still to be given one.

    Raises QueryError where it is none, or asks for what nothing shows.
    """
    try:
        import promql_parser
    except ImportError:
        raise ParserMissing from None
    try:
        parsed: Any = promql_parser.parse(text)
    except ValueError as fault:
        raise NoQuery(f"this is no query: {fault}") from None
    tree = _Reader(signals).tree(parsed)
    for wrong in closure.faults(tree, closure.World(signals, job)):
        raise QueryError(wrong)
    return tree


class _Reader:
    """Turns the parser's nodes into ours; what has no meaning here is refused by name."""

    def __init__(self, signals: Mapping[str, Signal]) -> None:
        self._signals = exposed(signals.values()) | dict(signals)

    def tree(self, node: Any) -> Expr:
        match type(node).__name__:
            case "ParenExpr":
                return self.tree(node.expr)
            case "NumberLiteral":
                return _number(node.val)
            case "VectorSelector":
                return self._selector(node)
            case "MatrixSelector":
                window = Duration(round(node.range.total_seconds() * SECOND))
                return replace(self._selector(node.vector_selector), window=window)
            case "Call":
                return _seen(Call(node.func.name, tuple(self.tree(one) for one in node.args)))
            case "AggregateExpr":
                return self._aggregate(node)
            case "BinaryExpr":
                return self._binary(node)
            case other:
                raise Unproved(
                    f"`{node.prettify()}`: {_PLAIN.get(other, other)} cannot be proved, and is refused"
                )

    def _selector(self, node: Any) -> Selector:
        if node.offset is not None or node.at is not None or node.matchers.or_matchers:
            raise Unproved(f"`{node.prettify()}`: `offset`, `@` and `or` cannot be proved, and are refused")
        if node.name is None:
            raise QueryError(f"`{node.prettify()}` names no series")
        signal, part = self._known(str(node.name))
        return Selector(signal, part, tuple(map(_matcher, node.matchers.matchers)))

    def _known(self, name: str) -> tuple[Signal, str]:
        signal = self._signals.get(name)
        if signal is None:
            raise QueryError(f"no such series: {name}")
        return signal, name.removeprefix(signal.name)

    def _aggregate(self, node: Any) -> Expr:
        op, modifier = str(node.op), node.modifier
        if op not in _AGGREGATES or node.param is not None:
            raise Unproved(f"`{op}` cannot be proved, and is refused; there are sum, min, max, avg and count")
        if modifier is not None and str(modifier.type).endswith("Without"):
            raise Unproved("`without` cannot be proved, and is refused; write `by`")
        return Aggregate(op, self.tree(node.expr), tuple(modifier.labels) if modifier is not None else ())

    def _binary(self, node: Any) -> Expr:
        modifier = node.modifier
        if modifier is not None and (modifier.matching is not None or modifier.group_labels is not None):
            raise Unproved(
                "`on`, `ignoring` and `group_left` cannot be proved, and are refused; write `sum by`"
            )
        op = str(node.op)
        if op not in OPERATORS:
            raise Unproved(f"`{op}` cannot be proved, and is refused")
        op += BOOL if modifier is not None and modifier.return_bool else ""
        return Binary(op, self.tree(node.lhs), self.tree(node.rhs))


def _matcher(one: Any) -> Matcher:
    """A condition on a label; of a pattern, one that means to Python what it means to Prometheus."""
    matcher = Matcher(one.name, _OPS[str(one.op)], one.value)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of what is a class of characters there, and a set of them here
            matcher.holds("")
    except (re.error, FutureWarning):
        raise Unproved(f"the pattern of `{matcher.render()}` cannot be proved, and is refused") from None
    return matcher


def _seen(call: Call) -> Call:
    """The call itself, when its window holds what it compares, also where a scrape or two have failed."""
    windows = [one.window for one in call.args if isinstance(one, Selector) and one.window is not None]
    if call.name in _COMPARE and min(windows, default=_SHORTEST) < _SHORTEST:
        what = f"`{call.name}` over {min(windows)}: Prometheus looks every 15s, and there must be two values in it"
        raise QueryError(f"{what}; write {_SHORTEST} or more")
    return call


def _number(value: float) -> Number:
    number = Decimal(str(value))
    if not number.is_finite():
        raise Unproved(f"`{value}` cannot be proved, and is refused")
    return Number(number)


_OPS = {
    "MatchOp.Equal": "=",
    "MatchOp.NotEqual": "!=",
    "MatchOp.Re": "=~",
    "MatchOp.NotRe": "!~",
}
_PLAIN = {"SubqueryExpr": "a subquery", "UnaryExpr": "a sign", "StringLiteral": "a text"}
