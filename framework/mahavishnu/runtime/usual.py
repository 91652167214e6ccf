"""A decision in the usual case, in one pass: clients that are known, and rates by GCRA in this process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

from mahavishnu.algorithms import SHIFT, SPENT, Gcra
from mahavishnu.runtime.keys import Key
from mahavishnu.runtime.memory_store import SHARDS, MemoryStore, Shard, Table
from mahavishnu.runtime.rates import RateLimit, longest

if TYPE_CHECKING:
    from mahavishnu.runtime.engine import Admission
    from mahavishnu.runtime.keys import Part
    from mahavishnu.runtime.margin import Margin
    from mahavishnu.runtime.offenders import Refusals

_SECOND = 10**9


class _Place(NamedTuple):
    """One rate: where its states are, the name of a bucket, and its numbers as `Gcra` keeps them."""

    rate: RateLimit
    table: Table
    shards: list[Shard]
    read: Part
    suffix: str
    cost: int
    most: int
    interval: int
    margin: Margin
    told: bool


class _Standing(NamedTuple):
    """What is left of one rate, and in how many ns it is worth coming back."""

    place: _Place
    left: int
    back: int
    denied: bool


class Usual:
    """The rates of one route. What they say is what the store, the algorithms and the fields say, step by step.

    Those are asked when the case is not the usual one, as with a client that is not known.
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
        now, caller = store.now(), admission.caller
        clock = now << SHIFT
        marks: list[tuple[dict[str, int], str, int]] = []
        said: list[int] = []
        low: list[tuple[Margin, int]] | None = None
        for _, table, shards, read, suffix, cost, most, interval, margin, told in self._places:
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
                return self._refuse(admission, now)
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

    def _refuse(self, admission: Admission, now: int) -> bool:
        """Refuse a request that does not fit; nothing is consumed."""
        caller, clock = admission.caller, now << SHIFT
        standings: list[_Standing] = []
        for place in self._places:
            _, _, shards, read, suffix, cost, most, interval, *_ = place
            key = read(caller) + suffix
            state = shards[hash(key) % SHARDS].young.get(key)
            if state is None:
                return False
            before = max(state - clock, state & SPENT)
            if before + cost > most:
                ahead = before >> SHIFT
                left, wait = ((most >> SHIFT) - ahead) // interval, ahead + (cost - most + SPENT >> SHIFT)
                standings.append(_Standing(place, left, wait, denied=True))
            else:
                left = ((most - before - cost) >> SHIFT) // interval + place.rate.cost
                standings.append(_Standing(place, left, before + cost >> SHIFT, denied=False))
        refusing = [one for one in standings if one.denied and one.place.rate.enforced]
        if not refusing:
            return False  # what it is too much for only observes
        admission.refused = longest(one.place.rate.refusal(one.back, lost=False) for one in refusing)
        admission.left = self._noted(standings, caller.client)
        return True

    def _noted(self, standings: Sequence[_Standing], client: str) -> list[int]:
        """What a refused client is told; what refuses him, and what was left, is counted."""
        said: list[int] = []
        for place, left, back, denied in standings:
            if denied:
                place.rate.denied()
                self._refusals.saw(place.rate.name, client)
            if left < place.margin.mark:
                place.margin.lowered(left)
            if place.told:
                said += left, -(-back // _SECOND)
        return said

    def _place(self, rate: RateLimit, key: Key) -> _Place:
        gcra = cast("Gcra", rate.algorithm)
        step, most = cast("tuple[int, int]", gcra.whole)
        table = self._store.table(rate)
        return _Place(
            rate, table, table.shards, *key, rate.cost * step, most, step >> SHIFT, rate.margin, rate.enforced
        )
