"""One generated file with the queries in it, and what a generator is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from mahavishnu.contract import Contract
from mahavishnu.promql import Expr


class Query(NamedTuple):
    """A query that a file holds: what kind of thing asks it (`alerts`, `panels`, `runbooks` …), and which one."""

    kind: str
    name: str
    expr: Expr


@dataclass(frozen=True, slots=True, order=True)
class Artifact:
    """A file to be written: its path below the output folder, with `/`, its whole text, and every query in it."""

    path: str
    text: str
    queries: tuple[Query, ...] = field(default=(), compare=False)


class Generator(Protocol):
    """A module of `mahavishnu.generators`, or an entry point of that group: a pure function of the contract."""

    def generate(self, contract: Contract) -> Iterable[Artifact]: ...
