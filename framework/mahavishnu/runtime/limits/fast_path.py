"""A decision in the usual case, in one pass: rates by GCRA in this process, with a bucket for whoever comes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from mahavishnu.algorithms import SHIFT, SPENT, Gcra
from mahavishnu.runtime.keys import CLIENT, NOBODY, Key
from mahavishnu.runtime.limits.memory_store import MemoryStore, Shard, Table
from mahavishnu.runtime.limits.rates import RateLimit
from mahavishnu.runtime.limits.unrolled import Shape, maker
from mahavishnu.units import SECOND

if TYPE_CHECKING:
    from mahavishnu.runtime.limits.admission import Admission
    from mahavishnu.runtime.limits.offenders import Refusals
    from mahavishnu.runtime.limits.unrolled import Charge

_ALMOST = SECOND - 1

_Place = tuple[RateLimit, Table, int, int, int, bool]
"""One rate: where its states are, its numbers as `Gcra` keeps them (cost, most, interval), whether clients are told.

No named tuple: to take one apart takes four times as long.
"""


class FastPath:
    """The rates of one route. What they say is what the store, the algorithms and the fields say, step by step.

    Those are asked when the case is not the usual one, as with a new client where there is no room for one.
    """

    charge: Charge
    """Decide, and note what is left; False: nothing has happened, and the case is not usual."""

    def __init__(
        self, store: MemoryStore, rates: Sequence[RateLimit], keys: Sequence[Key], refusals: Refusals
    ) -> None:
        self._store = store
        self._refusals = refusals
        self._rates = rates
        self._keys = keys
        self._places: list[_Place] = []
        self.charge = self._anew

    @staticmethod
    def fits(rates: Sequence[RateLimit]) -> bool:
        """Whether such rates can be decided here."""
        return all(isinstance(one.algorithm, Gcra) and one.algorithm.whole for one in rates)

    def _anew(self, admission: Admission) -> bool:
        """The states are kept elsewhere from now on; by other rates, if a reload has come since the request began."""
        self._places = [self._place(one) for one in self._rates]
        if any(table.algorithm != rate.algorithm for rate, table, *_ in self._places):
            return False
        names = {"store": self._store, "edition": self._store.edition, "anew": self._anew}
        names |= {"rested": self._rested, "refuse": self._refuse}
        for number, (place, key) in enumerate(zip(self._places, self._keys, strict=True)):
            names |= {f"{name}{number}": value for name, value in _values(place, key).items()}
        self.charge = maker(self._shapes(), tuple(names))(*names.values())
        return self.charge(admission)

    def _rested(self, table: Table, shard: Shard, key: str) -> int | None:
        """The state of who was not seen lately; 0 for who is new, and gets a bucket; None where it takes more."""
        if shard.heritage is not None:
            return None
        state: int | None = shard.old.pop(key, None)
        if state is not None:
            shard.young[key] = state
            return state
        return None if table.crowded or table.size >= self._store.cap else 0

    def _refuse(self, admission: Admission, aheads: Sequence[int]) -> bool:
        """Refuse a request that does not fit; nothing is consumed. Who waits as long as he is told is let in by all."""
        refusing: RateLimit | None = None
        longest = 0
        for (rate, _, cost, most, _, told), ahead in zip(self._places, aheads):  # noqa: B905 - dearer if `strict`
            if told and ahead > most:
                wait = (ahead - cost >> SHIFT) + (cost - most + SPENT >> SHIFT)
                if refusing is None or wait > longest:
                    refusing, longest = rate, wait
        if refusing is None:
            return False  # what it is too much for only observes
        admission.refused = refusing.refusal(longest, lost=False)
        admission.left = self._noted(aheads, admission.caller.client)
        return True

    def _noted(self, aheads: Sequence[int], client: str) -> tuple[int, ...]:
        """What a refused client is told; what refuses him, and what was left, is counted."""
        said: list[int] = []
        for (rate, _, cost, most, interval, told), ahead in zip(self._places, aheads):  # noqa: B905 - dearer if `strict`
            back = ahead - cost >> SHIFT
            left = ((most >> SHIFT) - back) // interval
            if ahead > most:
                back += cost - most + SPENT >> SHIFT
                rate.denied()
                self._refusals.saw(rate.name, client)
            elif left < rate.margin.mark:
                rate.margin.lowered(left)
            if told:
                said.append(left)
                said.append((back + _ALMOST) // SECOND)
        return (*said,)

    def _shapes(self) -> tuple[Shape, ...]:
        each = zip(self._rates, self._keys, strict=True)
        return tuple((_named(key), self._keys.index(key), rate.enforced) for rate, key in each)

    def _place(self, rate: RateLimit) -> _Place:
        step, most = cast("tuple[int, int]", cast("Gcra", rate.algorithm).whole)
        return rate, self._store.table(rate), rate.cost * step, most, step >> SHIFT, rate.enforced


def _values(place: _Place, key: Key) -> dict[str, object]:
    """What the code calls by these names, and the number of the rate."""
    rate, table, cost, most, interval, _ = place
    read, suffix = key
    return {
        "table": table,
        "shards": table.shards,
        "read": read,
        "suffix": suffix,
        "cost": cost,
        "most": most,
        "interval": interval,
        "margin": rate.margin,
        "allowed": rate.cells.allowed,
    }


def _named(key: Key) -> str:
    """How the code reads the name of a bucket."""
    read, suffix = key
    if read is NOBODY:
        return "suffix#"
    name = "caller.client" if read is CLIENT else "read#(caller)"
    return f"{name} + suffix#" if suffix else name
