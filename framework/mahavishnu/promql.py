"""PromQL as a frozen tree: built by signals, walked by the proofs, rendered last; never pasted together as text."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING

from mahavishnu.units import Duration, plain

if TYPE_CHECKING:
    from mahavishnu.signals import Signal

_STRENGTH = {"or": 1, "and": 2, "unless": 2, ">": 3, "<": 3, ">=": 3, "<=": 3, "==": 3, "!=": 3,
             "+": 4, "-": 4, "*": 5, "/": 5}  # fmt: skip
OPERATORS = frozenset(_STRENGTH)
"""Those that join two trees."""
BOOL = " bool"
"""Ends a comparison that answers 1 or 0, where one without it answers what it compares, or nothing."""


class Expr:
    """A node of the tree; arithmetic and comparison operators build larger trees."""

    __slots__ = ()

    def render(self) -> str:
        """The PromQL text of this tree."""
        raise NotImplementedError

    def children(self) -> tuple[Expr, ...]:
        """The nodes directly below."""
        return ()

    def walk(self) -> Iterator[Expr]:
        """This node and all below it, from the top."""
        ahead: list[Expr] = [self]
        while ahead:
            node = ahead.pop()
            yield node
            ahead.extend(node.children()[::-1])

    def map_selectors(self, change: Callable[[Selector], Selector]) -> Expr:
        """The same tree with every selector replaced by `change(selector)`."""
        return self

    def selectors(self) -> Iterator[Selector]:
        """Every selector of a series in this tree."""
        return (node for node in self.walk() if isinstance(node, Selector))

    def __str__(self) -> str:
        return self.render()

    def __add__(self, other: Operand) -> Binary:
        return Binary("+", self, operand(other))

    def __sub__(self, other: Operand) -> Binary:
        return Binary("-", self, operand(other))

    def __mul__(self, other: Operand) -> Binary:
        return Binary("*", self, operand(other))

    def __truediv__(self, other: Operand) -> Binary:
        return Binary("/", self, operand(other))

    def __gt__(self, other: Operand) -> Binary:
        return Binary(">", self, operand(other))

    def __ge__(self, other: Operand) -> Binary:
        return Binary(">=", self, operand(other))

    def __lt__(self, other: Operand) -> Binary:
        return Binary("<", self, operand(other))

    def __le__(self, other: Operand) -> Binary:
        return Binary("<=", self, operand(other))

    def equals(self, other: Operand) -> Binary:
        """`self == other` in PromQL."""
        return Binary("==", self, operand(other))

    def and_(self, other: Expr) -> Binary:
        """`self and other` in PromQL."""
        return Binary("and", self, other)

    def or_(self, other: Expr) -> Binary:
        """`self or other` in PromQL."""
        return Binary("or", self, other)


Operand = Expr | Decimal | int


@dataclass(frozen=True, slots=True)
class Number(Expr):
    """An exact number; never a float."""

    value: Decimal

    def render(self) -> str:
        return f"{plain(self.value):f}"


@dataclass(frozen=True, slots=True)
class Matcher:
    """One label condition of a selector: `label op value`, with op one of = != =~ !~."""

    label: str
    op: str
    value: str

    def holds(self, value: str) -> bool:
        """Whether a label of this value fulfils it."""
        return _HOLDS[self.op](self.value, value)

    def render(self) -> str:
        return f"{self.label}{self.op}{quoted(self.value)}"


_HOLDS: Mapping[str, Callable[[str, str], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "=~": lambda pattern, value: re.fullmatch(pattern, value) is not None,
    "!~": lambda pattern, value: re.fullmatch(pattern, value) is None,
}


@dataclass(frozen=True, slots=True)
class Selector(Expr):
    """The series of a signal that fulfil every matcher, over a window when one is given."""

    signal: Signal
    suffix: str = ""
    matchers: tuple[Matcher, ...] = ()
    window: Duration | None = None

    @property
    def series(self) -> str:
        """The exposed name, with the suffix of a histogram's part."""
        return self.signal.name + self.suffix

    def selects(self, series: str, labels: Iterable[tuple[str, str]]) -> bool:
        """Whether it selects the series of that exposed name and these labels."""
        values = dict(labels)
        return series == self.series and all(one.holds(values.get(one.label, "")) for one in self.matchers)

    def scoped(self, label: str, value: str) -> Selector:
        """The same selector restricted by one more equality, first in the braces."""
        return replace(self, matchers=(Matcher(label, "=", value), *self.matchers))

    def over(self, window: Duration, function: str) -> Call:
        """What a function says of its samples in a window."""
        return Call(function, (replace(self, window=window),))

    def map_selectors(self, change: Callable[[Selector], Selector]) -> Expr:
        return change(self)

    def render(self) -> str:
        inside = ",".join(matcher.render() for matcher in self.matchers)
        braces = f"{{{inside}}}" if inside else ""
        return f"{self.series}{braces}" + (f"[{self.window}]" if self.window else "")


@dataclass(frozen=True, slots=True)
class Call(Expr):
    """A function applied to arguments."""

    name: str
    args: tuple[Expr, ...]

    def children(self) -> tuple[Expr, ...]:
        return self.args

    def map_selectors(self, change: Callable[[Selector], Selector]) -> Expr:
        return replace(self, args=tuple(arg.map_selectors(change) for arg in self.args))

    def render(self) -> str:
        return f"{self.name}({', '.join(arg.render() for arg in self.args)})"


@dataclass(frozen=True, slots=True)
class Aggregate(Expr):
    """An aggregation over all labels, or keeping those named by `by`."""

    op: str
    inner: Expr
    by: tuple[str, ...] = ()

    def children(self) -> tuple[Expr, ...]:
        return (self.inner,)

    def map_selectors(self, change: Callable[[Selector], Selector]) -> Expr:
        return replace(self, inner=self.inner.map_selectors(change))

    def render(self) -> str:
        by = f" by ({', '.join(self.by)}) " if self.by else ""
        return f"{self.op}{by}({self.inner.render()})"


@dataclass(frozen=True, slots=True)
class Binary(Expr):
    """Two trees joined by an operator."""

    op: str
    left: Expr
    right: Expr

    def children(self) -> tuple[Expr, ...]:
        return (self.left, self.right)

    def map_selectors(self, change: Callable[[Selector], Selector]) -> Expr:
        return replace(self, left=self.left.map_selectors(change), right=self.right.map_selectors(change))

    def render(self) -> str:
        return f"{self._side(self.left, 0)} {self.op} {self._side(self.right, 1)}"

    def _side(self, side: Expr, tighter: int) -> str:
        weaker = isinstance(side, Binary) and _strength(side.op) < _strength(self.op) + tighter
        return f"({side.render()})" if weaker else side.render()


def _strength(op: str) -> int:
    return _STRENGTH[op.removesuffix(BOOL)]


def operand(value: Operand) -> Expr:
    """A number as a tree; a tree as it is."""
    return value if isinstance(value, Expr) else Number(Decimal(value))


def total(inner: Expr, *by: str) -> Aggregate:
    """`sum(inner)`, or `sum by (…) (inner)`."""
    return Aggregate("sum", inner, by)


def highest(inner: Expr, *by: str) -> Aggregate:
    """`max(inner)`, or `max by (…) (inner)`."""
    return Aggregate("max", inner, by)


def lowest(inner: Expr, *by: str) -> Aggregate:
    """`min(inner)`, or `min by (…) (inner)`."""
    return Aggregate("min", inner, by)


def absent(inner: Expr) -> Call:
    """`absent(inner)`: 1 when no such series exists."""
    return Call("absent", (inner,))


def quantile(q: Decimal, inner: Expr) -> Call:
    """`histogram_quantile(q, inner)`; inner must keep the label `le`."""
    return Call("histogram_quantile", (Number(q), inner))


def quoted(text: str) -> str:
    """A PromQL string: double quotes, with backslash, quote and newline escaped."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
