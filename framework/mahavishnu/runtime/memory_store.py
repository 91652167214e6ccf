"""The state of rates inside one process: bounded, without sweeps, forgetting only what says nothing."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any, NamedTuple

from mahavishnu.policy import Claim, Clock, Taken, Verdict

_CAP = 100_000
_SHARED_BUCKETS = 1024


class MemoryStore:
    """States by limit and key: at most `cap` keys per limit, and 1,024 shared ones.

    When a limit is full, new keys share buckets by a keyed hash: stricter for them, never looser for anyone.
    Once there is room again, they go on by themselves from where the shared bucket stood.
    """

    def __init__(self, clock: Clock, cap: int = _CAP) -> None:
        self._clock = clock
        self.cap = cap
        self._seed = secrets.randbits(64)
        self._tables: dict[str, _Table] = {}

    async def take(self, claims: Sequence[Claim]) -> Taken:
        """Decide all claims at once: every enforced one is admitted and consumed, or none is."""
        now = self._clock.now()
        places: list[_Place] = []
        verdicts: list[Verdict[Any]] = []
        admitted = True
        for claim in claims:
            place = self._place(claim, now)
            verdict = claim.algorithm.admit(place.state, now, claim.cost)
            admitted = admitted and (verdict.allowed or not claim.enforced)
            places.append(place)
            verdicts.append(verdict)
        if admitted:
            for place, verdict in zip(places, verdicts, strict=True):
                if verdict.allowed:
                    place.table.put(place.key, verdict.state)
        return Taken(verdicts, [place.key for place in places], now)

    async def give_back(self, claims: Sequence[Claim], taken: Taken) -> None:
        """Return what `take` consumed, for a request that was denied later."""
        now = self._clock.now()
        for claim, verdict, key in zip(claims, taken.verdicts, taken.keys, strict=True):
            table = self._tables[claim.limit]
            state = table.get(key)
            if verdict.allowed and state is not None:
                table.put(key, claim.algorithm.refund(state, verdict.state, taken.at, now, claim.cost))

    def keys(self) -> int:
        """How many keys are held, over all limits."""
        return sum(len(table) for table in self._tables.values())

    def _place(self, claim: Claim, now: int) -> _Place:
        table = self._tables.get(claim.limit)
        if table is None:
            table = self._tables[claim.limit] = _Table(claim.algorithm.horizon, now)
        table.age(now)
        state = table.get(claim.key)
        if state is not None:
            return _Place(table, claim.key, state)
        full = len(table) >= self.cap
        if not (full or table.crowded):
            return _Place(table, claim.key, None)
        table.crowded = True
        shared = f"~{hash((self._seed, claim.key)) % _SHARED_BUCKETS}"
        return _Place(table, shared if full else claim.key, table.get(shared))


class _Place(NamedTuple):
    """Where a claim's state is kept, and the state it starts from."""

    table: _Table
    key: str
    state: Any


class _Table:
    """Two generations of states: what rested for a whole horizon is dropped with its dict, in one step."""

    __slots__ = ("_horizon", "_old", "_since", "_young", "crowded")

    def __init__(self, horizon: int, now: int) -> None:
        self.crowded = False
        self._horizon = horizon
        self._since = now
        self._young: dict[str, Any] = {}
        self._old: dict[str, Any] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def age(self, now: int) -> None:
        if now - self._since < self._horizon:
            return
        self._old = self._young if now - self._since < 2 * self._horizon else {}
        self._young = {}
        self._since = now

    def get(self, key: str) -> Any:
        state = self._young.get(key)
        return self._old.get(key) if state is None else state

    def put(self, key: str, state: Any) -> None:
        self._old.pop(key, None)
        self._young[key] = state
