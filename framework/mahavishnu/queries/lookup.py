"""Whatever has a series' name and labels, found by the selectors that select it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

from mahavishnu.promql import Selector

Thing = TypeVar("Thing")
Pairs = Iterable[tuple[str, str]]


class Lookup(Generic[Thing]):
    """Things by the name of their series and by each of its labels; given as name, labels and thing."""

    def __init__(self, things: Iterable[tuple[str, Pairs, Thing]] = ()) -> None:
        self._things: dict[tuple[str, tuple[str, str] | None], list[tuple[Pairs, Thing]]] = {}
        for series, labels, thing in things:
            for key in (None, *labels):
                self._things.setdefault((series, key), []).append((labels, thing))

    def selected(self, selector: Selector) -> list[Thing]:
        """Those whose series a selector selects, in the order in which they were given."""
        # Any of its equalities leads to all of them; the rarest to the fewest others.
        equal = ((one.label, one.value) for one in selector.matchers if one.op == "=" and one.value)
        found = (self._things.get((selector.series, key), []) for key in (None, *equal))
        return [thing for labels, thing in min(found, key=len) if selector.selects(selector.series, labels)]
