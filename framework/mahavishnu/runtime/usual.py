"""A decision in the usual case, in one pass: clients that are known, GCRA in this process, and everything fits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

from mahavishnu.algorithms import SHIFT, SPENT, Gcra
from mahavishnu.runtime.keys import Key
from mahavishnu.runtime.memory_store import SHARDS, MemoryStore, Shard, Table
from mahavishnu.runtime.rates import RateLimit

if TYPE_CHECKING:
    from mahavishnu.runtime.engine import Admission
    from mahavishnu.runtime.keys import Part
    from mahavishnu.runtime.margin import Margin

_SECOND = 10**9


class _Place(NamedTuple):
    """One rate: where its states are, the name of a bucket, and its numbers as `Gcra` keeps them."""

    table: Table
    shards: list[Shard]
    read: Part
    suffix: str
    cost: int
    most: int
    interval: int
    margin: Margin
    told: bool


class Usual:
    """The rates of one route. What they say is what the store, the algorithms and the fields say, step by step.

    Those are asked when the case is not the usual one: a client that is not known, or that is refused.
    """

    def __init__(self, store: MemoryStore, rates: Sequence[RateLimit], keys: Sequence[Key]) -> None:
        self._store = store
        self._rates = rates
        self._keys = keys
        self._allowed = [one.cells.allowed for one in rates]
        self._edition = -1
        self._places: list[_Place] = []

    @staticmethod
    def fits(rates: Sequence[RateLimit]) -> bool:
        """Whether such rates can be decided here."""
        return all(isinstance(one.algorithm, Gcra) and one.algorithm.whole for one in rates)

    def charge(self, admission: Admission) -> bool:  # noqa: C901 - the busiest loop of all is one
        """Admit a request, and note what is left to it; False: nothing has happened, and the case is not usual."""
        store = self._store
        if store.edition != self._edition:
            self._places = [self._place(one, key) for one, key in zip(self._rates, self._keys, strict=True)]
            self._edition = store.edition
        now, caller = store.now(), admission.caller
        clock = now << SHIFT
        marks: list[tuple[dict[str, int], str, int]] = []
        said: list[int] = []
        low: list[tuple[Margin, int]] | None = None
        for table, shards, read, suffix, cost, most, interval, margin, told in self._places:
            if now >= table.due:
                table.turn(now)
            key = read(caller) + suffix
            young = shards[hash(key) % SHARDS].young
            state = young.get(key)
            if state is None:
                return False
            after = cost + (state if state >= clock else clock | (state & SPENT))
            ahead = after - clock
            if ahead > most:
                return False
            marks.append((young, key, after))
            left = ((most - ahead) >> SHIFT) // interval
            if left < margin.mark:
                low = [*(low or ()), (margin, left)]
            if told:
                said += left, -(-(ahead >> SHIFT) // _SECOND)
        for young, key, after in marks:
            young[key] = after
        for cell in self._allowed:
            cell.value += 1
        for margin, left in low or ():
            margin.left(left)
        admission.left = said
        return True

    def _place(self, rate: RateLimit, key: Key) -> _Place:
        gcra = cast("Gcra", rate.algorithm)
        step, most = cast("tuple[int, int]", gcra.whole)
        table = self._store.table(rate)
        return _Place(
            table, table.shards, *key, rate.cost * step, most, step >> SHIFT, rate.margin, rate.enforced
        )
