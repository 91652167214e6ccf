"""Trees of PromQL: what they render, judged by Prometheus' own grammar, and what cannot be built."""

from __future__ import annotations

import itertools
from decimal import Decimal

import promql_parser
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mahavishnu.promql import Binary, Expr, Number, Selector, highest, quoted, total
from mahavishnu.signals import AgreementError, Kind, Label, Signal
from mahavishnu.units import Duration

WINDOW = Duration.parse("5m")
REQUESTS = Signal(
    "requests_total", Kind.COUNTER, "Requests.", (Label("limit"), Label("outcome", ("allowed", "refused")))
)
LEVEL = Signal("level", Kind.GAUGE, "A level.", (Label("limit"),))
SECONDS = Signal("seconds", Kind.HISTOGRAM, "Durations.", (Label("route"),), (Decimal("0.5"), Decimal(1)))

leaves = st.sampled_from([LEVEL.select(), total(REQUESTS.rate(WINDOW)), highest(LEVEL.select(limit="a"))])
numbers = st.decimals("0.001", "1000", places=3).map(Number)
arithmetic = st.recursive(
    leaves | numbers,
    lambda inner: st.builds(Binary, st.sampled_from(["+", "-", "*", "/"]), inner, inner),
    max_leaves=8,
)


def shape(node: Expr | promql_parser.Expr) -> object:
    """The tree without parentheses, alike for ours and the parser's."""
    if isinstance(node, promql_parser.ParenExpr):
        return shape(node.expr)
    if isinstance(node, promql_parser.BinaryExpr):
        return (str(node.op), shape(node.lhs), shape(node.rhs))
    if isinstance(node, Binary):
        return (node.op, shape(node.left), shape(node.right))
    if isinstance(node, Number | promql_parser.NumberLiteral):
        return float(node.value if isinstance(node, Number) else node.val)
    return promql_parser.parse(str(node)).prettify() if isinstance(node, Expr) else node.prettify()


@given(arithmetic)
def test_what_is_rendered_parses_to_the_same_tree(tree: Expr) -> None:
    """Parentheses stand where precedence needs them, by Prometheus' grammar."""
    assert shape(promql_parser.parse(tree.render())) == shape(tree)


@pytest.mark.parametrize(
    ("outer", "inner"), list(itertools.product(["+", "-", "*", "/", ">", "and", "or"], repeat=2))
)
def test_operators_nest_on_both_sides(outer: str, inner: str) -> None:
    """Every pair of operators keeps its nesting."""
    a, b, c = LEVEL.select(limit="a"), LEVEL.select(limit="b"), LEVEL.select(limit="c")
    for tree in (Binary(outer, Binary(inner, a, b), c), Binary(outer, a, Binary(inner, b, c))):
        assert shape(promql_parser.parse(tree.render())) == shape(tree)


@given(st.text(st.characters(codec="utf-8"), max_size=30))
def test_any_text_is_one_string(text: str) -> None:
    """A label's value cannot leave its quotes."""
    parsed = promql_parser.parse(f"level{{limit={quoted(text)}}}")
    assert isinstance(parsed, promql_parser.VectorSelector)
    assert [one.value for one in parsed.matchers.matchers] == [text]


def test_a_tree_is_scoped_everywhere() -> None:
    """Every selector of a tree gets the matcher, and nothing else changes."""
    tree = total(REQUESTS.rate(WINDOW, outcome="refused")) / total(REQUESTS.rate(WINDOW)) > Decimal("0.05")
    assert tree.map_selectors(lambda one: one.scoped("job", "shop")).render() == (
        'sum(rate(requests_total{job="shop",outcome="refused"}[5m]))'
        ' / sum(rate(requests_total{job="shop"}[5m])) > 0.05'
    )


@pytest.mark.parametrize(
    "build",
    [
        lambda: REQUESTS.select(limt="a"),
        lambda: REQUESTS.select(outcome="denied"),
        lambda: REQUESTS.select(outcome_re="denied|gone"),
        lambda: LEVEL.rate(WINDOW),
        lambda: REQUESTS.count_rate(WINDOW),
        lambda: SECONDS.bucket_rate(WINDOW, Decimal("0.75")),
        lambda: REQUESTS.closed(limt="a"),
        lambda: REQUESTS.select(le="1"),
    ],
)
def test_what_the_runtime_does_not_show_cannot_be_asked(build: object) -> None:
    """An unknown label or value, the wrong kind, no boundary: an error before there is a query."""
    assert callable(build)
    with pytest.raises(AgreementError):
        build()


def test_the_neighbours_can_be_asked() -> None:
    """The same questions, asked rightly."""
    assert isinstance(REQUESTS.select(limit="a", outcome_re="allowed|refused"), Selector)
    assert SECONDS.bucket_rate(WINDOW, Decimal(1)).render() == 'rate(seconds_bucket{le="1.0"}[5m])'
