"""Recording rules, found by what asks for them: which of them a selector means, and what a query rests on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mahavishnu.promql import Expr, Selector
from mahavishnu.queries.lookup import Lookup
from mahavishnu.signals import Recording, Source


class Recorded:
    """The recording rules of a contract."""

    def __init__(self, rules: Iterable[Recording] = ()) -> None:
        self._rules = Lookup((one.signal.name, one.labels, one) for one in rules)

    def of(self, selector: Selector) -> list[Recording]:
        """The rules that record what a selector asks for."""
        return self._rules.selected(selector)

    def bases(self, expr: Expr) -> Iterator[Selector]:
        """What a query rests on, recorded series resolved; a window over one is kept beside what that is made of."""
        for selector in expr.selectors():
            if selector.signal.source is not Source.RULE or selector.window is not None:
                yield selector
            for one in self.of(selector):
                yield from self.bases(one.expr)
