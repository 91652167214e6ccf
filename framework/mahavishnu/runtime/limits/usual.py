"""A decision in the usual case, in one pass: rates by GCRA in this process, with a bucket for whoever comes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from mahavishnu.algorithms import SHIFT, SPENT, Gcra
from mahavishnu.runtime.keys import CLIENT, Key
from mahavishnu.runtime.limits.memory_store import LAST, MemoryStore, Shard, Table
from mahavishnu.runtime.limits.rates import RateLimit

if TYPE_CHECKING:
    from mahavishnu.runtime.keys import Caller, Part
    from mahavishnu.runtime.limits.engine import Admission
    from mahavishnu.runtime.limits.margin import Margin
    from mahavishnu.runtime.limits.offenders import Refusals

    _Place = tuple[Table, list[Shard], Part, str, int, int, int, Margin, bool, RateLimit]
    """One rate: where its states are, how the name of a bucket is read and how it ends, its numbers as `Gcra` keeps
    them (cost, most, interval), who notes what is left, and whether clients are told.

    No named tuple: to take one apart takes four times as long.
    """

_SECOND = 10**9
_ALMOST = _SECOND - 1


class Usual:
    """The rates of one route. What they say is what the store, the algorithms and the fields say, step by step.

    Those are asked when the case is not the usual one, as with a new client where there is no room for one.
    """

    def __init__(
        self, store: MemoryStore, rates: Sequence[RateLimit], keys: Sequence[Key], refusals: Refusals
    ) -> None:
        self._store = store
        self._refusals = refusals
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
        """Decide, and note what is left; False: nothing has happened, and the case is not usual."""
        store = self._store
        if store.edition != self._edition:
            self._places = [self._place(one, key) for one, key in zip(self._rates, self._keys, strict=True)]
            self._edition = store.edition
        now, caller = admission.entered, admission.caller
        client = caller.client
        clock = now << SHIFT
        states: list[int] = []
        said: list[int] = []
        low: list[tuple[Margin, int]] | None = None
        for table, shards, read, suffix, cost, most, interval, margin, told, _ in self._places:
            if now >= table.due:
                table.turn(now)
            key = client if read is CLIENT else read(caller)
            if suffix:
                key += suffix
            shard = shards[hash(key) & LAST]
            young = shard.young
            state = young.get(key)
            if state is None:
                state = self._rested(table, shard, key)
                if state is None:
                    self._undo(states, caller)
                    return False
            ahead = cost + (state - clock if state >= clock else state & SPENT)
            if ahead > most:
                self._undo(states, caller)
                return self._refuse(admission, now)
            young[key] = clock + ahead
            states.append(state)
            left = ((most - ahead) >> SHIFT) // interval
            if left < margin.mark:
                low = [*(low or ()), (margin, left)]
            if told:
                said.append(left)
                said.append(((ahead >> SHIFT) + _ALMOST) // _SECOND)
        for cell in self._allowed:
            cell.value += 1
        if low is not None:
            for margin, left in low:
                margin.left(left)
        admission.left = said
        return True

    def _rested(self, table: Table, shard: Shard, key: str) -> int | None:
        """The state of who was not seen lately; 0 for who is new, and gets a bucket; None where it takes more."""
        if shard.heritage is not None:
            return None
        state: int | None = shard.renewed(key)
        if state is None and self._has_room(table):
            table.size += 1
            return 0
        return state

    def _has_room(self, table: Table) -> bool:
        return not table.crowded and table.size < self._store.cap

    def _undo(self, states: Sequence[int], caller: Caller) -> None:
        """One of the rates does not let the request in: what it has consumed of those before is given back."""
        for (_, shards, read, suffix, *_), state in zip(self._places, states):  # noqa: B905 - fewer states
            key = read(caller) + suffix
            shards[hash(key) & LAST].restore(key, state or None)

    def _refuse(self, admission: Admission, now: int) -> bool:
        """Refuse a request that does not fit; nothing is consumed. Who waits as long as he is told is let in by all."""
        caller, clock = admission.caller, now << SHIFT
        spent: list[int] = []
        refusing: RateLimit | None = None
        longest = 0
        for table, shards, read, suffix, cost, most, _, _, told, rate in self._places:
            key = read(caller) + suffix
            shard = shards[hash(key) & LAST]
            state: int = shard.get(key) or 0
            if shard.heritage is not None or not (state or self._has_room(table)):
                return False
            before = state - clock if state >= clock else state & SPENT
            spent.append(before)
            if told and before + cost > most:
                wait = (before >> SHIFT) + (cost - most + SPENT >> SHIFT)
                if refusing is None or wait > longest:
                    refusing, longest = rate, wait
        if refusing is None:
            return False  # what it is too much for only observes
        admission.refused = refusing.refusal(longest, lost=False)
        admission.left = self._noted(spent, caller.client)
        return True

    def _noted(self, spent: Sequence[int], client: str) -> list[int]:
        """What a refused client is told; what refuses him, and what was left, is counted."""
        said: list[int] = []
        for (_, _, _, _, cost, most, interval, margin, told, rate), before in zip(self._places, spent):  # noqa: B905 - dearer if `strict`
            left, back = ((most >> SHIFT) - (before >> SHIFT)) // interval, before >> SHIFT
            if before + cost > most:
                back += cost - most + SPENT >> SHIFT
                rate.denied()
                self._refusals.saw(rate.name, client)
            elif left < margin.mark:
                margin.lowered(left)
            if told:
                said.append(left)
                said.append((back + _ALMOST) // _SECOND)
        return said

    def _place(self, rate: RateLimit, key: Key) -> _Place:
        gcra = cast("Gcra", rate.algorithm)
        step, most = cast("tuple[int, int]", gcra.whole)
        table = self._store.table(rate)
        shards, cost, interval = table.shards, rate.cost * step, step >> SHIFT
        return table, shards, *key, cost, most, interval, rate.margin, rate.enforced, rate
