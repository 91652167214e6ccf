"""The proof that files and process agree: every query of every file is resolved, and every series is judged."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from typing import NamedTuple

from mahavishnu.artifact import Artifact, Query
from mahavishnu.contract import Contract
from mahavishnu.signals import Source

_LOOKED_AT = frozenset({"panels", "runbooks"})
"""What only people read: every series is there by itself, which says nothing of whether anybody is woken."""


class Agreement(NamedTuple):
    """What was looked at: how many things of each kind there are and how many of them agree, and what does not.

    `series`: how many the process shows, how many of those some rule asks for, and how many are waived.
    """

    kinds: Mapping[str, tuple[int, int]]
    series: tuple[int, int, int]
    faults: tuple[str, ...]


def agreement(made: Contract, artifacts: Iterable[Artifact]) -> Agreement:
    """Resolve every query of every file against the contract, and look for each of its series in the rules."""
    queries = [query for one in artifacts for query in one.queries]
    exprs = {id(query.expr): query.expr for query in queries}  # many ask the very same
    wrong = {key: found for key, expr in exprs.items() if (found := made.faults(expr))}
    faults = [f"{_name(query)}: {fault}" for query in queries for fault in wrong.get(id(query.expr), ())]
    judged = {id(query.expr): query.expr for query in queries if query.kind not in _LOOKED_AT}.values()
    asked = {one.signal.name for expr in judged for one in expr.selectors()}
    shown = [one for one in made.signals.values() if one.source is not Source.SCRAPE]
    idle = [one for one in shown if one.name not in asked]
    faults += [f"series {one.name} is shown, and no rule asks for it" for one in idle if not one.waived]
    kinds = dict(_counted(queries, wrong))
    waived = sum(bool(one.waived) for one in idle)
    return Agreement(kinds, (len(shown), len(shown) - len(idle), waived), tuple(faults))


def _counted(queries: list[Query], wrong: Container[int]) -> Iterator[tuple[str, tuple[int, int]]]:
    """Of each kind how many things agree with all their queries, and how many there are."""
    for kind in dict.fromkeys(query.kind for query in queries):
        every = {query.name for query in queries if query.kind == kind}
        bad = {query.name for query in queries if query.kind == kind and id(query.expr) in wrong}
        yield kind, (len(every) - len(bad), len(every))


def _name(query: Query) -> str:
    return f"{query.kind} {query.name}"
