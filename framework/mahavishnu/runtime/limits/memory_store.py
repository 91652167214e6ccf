"""The state of rates inside one process: bounded, without sweeps, forgetting only what says nothing."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from mahavishnu.protocols import Algorithm, Charge, Clock, Meter, Standing
from mahavishnu.runtime.limits.carried import carried

_CAP = 100_000
_SHARED_BUCKETS = 1024
_STEPS = 8  # so many changes of a rate are put off until a shard is needed
_ROWS = 10_000  # more routes and methods than any app has
SHARDS = 256  # a power of 2; so that neither growing nor forgetting ever moves many keys at once
LAST = SHARDS - 1  # a key is in the shard that these bits of its hash say


class MemoryStore:
    """States by limit and key: at most `cap` keys per limit, and 1,024 shared ones.

    When a limit is full, new keys share buckets by a keyed hash: stricter for them, never looser for anyone.
    Once there is room again, they go on by themselves from where the shared bucket stood.
    """

    waits = False

    def __init__(self, clock: Clock, cap: int = _CAP) -> None:
        self.now = clock.now
        self.edition = 0
        """Another one whenever the states of a rate are kept elsewhere."""
        self.cap = cap
        self.shared = 0
        """How many decisions fell on a shared bucket."""
        self._seed = secrets.randbits(64)
        self._tables: dict[str, Table] = {}
        self._rows: dict[int, _Row] = {}

    @property
    def memory(self) -> MemoryStore:
        """All that is counted here is this process's own."""
        return self

    def take(self, charges: Sequence[Charge], keys: Sequence[str]) -> Taking:
        """Decide all charges at once: every enforced one is admitted and consumed, or none is.

        This is the hottest loop of all: what fits is consumed on the way, and restored if a charge denies.
        """
        now = self.now()
        row = self._rows.get(id(charges))
        if row is None or row.charges is not charges:
            row = self._row(charges)
        seats: list[_Seat] = []
        afters: list[Any] = []
        for (table, shards, admit, cost), key in zip(row.places, keys):  # noqa: B905 - dearer if `strict`
            if now >= table.due:
                table.turn(now)
            shard = shards[hash(key) & LAST]
            state = shard.young.get(key)
            if state is None:
                shard, key, state = self._older(table, shard, key)  # noqa: PLW2901 - the same key, elsewhere
            after = admit(state, now, cost)
            seats.append((shard, key, state))
            afters.append(after)
            if after is not None:
                if state is None:
                    table.size += 1
                shard.young[key] = after
        taking = Taking(row, seats, afters, now)
        if None in afters:
            taking.deny()
        return taking

    def give_back(self, taken: Taking) -> None:
        """Return what `take` consumed, for a request that was denied later."""
        taken.give_back(self.now())

    def show(self, meter: Meter) -> None:
        """Its numbers are read by whoever shows them."""

    def carry(self, charge: Charge) -> None:
        """A rate of this name follows another one: what every client has used of that is used of this."""
        # Also where none was yet: a request that has waited would bring the old rate back.
        table = self.table(charge)
        if table.algorithm != charge.algorithm:
            self._tables[charge.name] = table.heir(charge.algorithm, self.now())
            self._moved()

    def rename(self, name: str, other: str) -> None:
        """What is counted by this name is counted by another one from now on; nothing else is."""
        table = self._tables.pop(name, None)
        self._tables.pop(other, None)
        if table is not None:
            self._tables[other] = table
        self._moved()

    def forget(self, name: str) -> None:
        """Nobody counts by this name any more."""
        self._tables.pop(name, None)
        self._moved()

    def keys(self) -> int:
        """How many keys are held, over all limits; and a shard of each may let go of old ones."""
        now = self.now()
        for table in [*self._tables.values()]:
            table.turn(now)
        return sum(table.size for table in [*self._tables.values()])

    def table(self, charge: Charge) -> Table:
        """Where the states of a rate are kept, until this is another `edition`."""
        if charge.name not in self._tables:
            self._tables[charge.name] = Table(charge.algorithm, self.now())
        return self._tables[charge.name]

    def _moved(self) -> None:
        self._rows.clear()
        self.edition += 1

    def _row(self, charges: Sequence[Charge]) -> _Row:
        """What the charges of one route need, worked out once: until a table of theirs is another."""
        if len(self._rows) >= _ROWS:
            self._rows.clear()
        tables = [self.table(one) for one in charges]
        places = tuple(
            (table, table.shards, table.algorithm.admit, one.cost)
            for table, one in zip(tables, charges, strict=True)
        )
        row = _Row(charges, tuple(table.algorithm for table in tables), places)
        self._rows[id(charges)] = row
        return row

    def _older(self, table: Table, shard: Shard, key: str) -> _Seat:
        """The seat of a key that was not seen lately; a new one gets its own, or shares one if all are taken."""
        shard.inherit()
        state = shard.renewed(key)
        if state is None and (table.crowded or table.size >= self.cap):
            return self._crowded(table, shard, key)
        return shard, key, state

    def _crowded(self, table: Table, shard: Shard, key: str) -> _Seat:
        """A new key where there is, or was, no room: its shared bucket, or its own that goes on from there."""
        table.crowded = True
        shared = f"~{hash((self._seed, key)) % _SHARED_BUCKETS}"
        home = table.shards[hash(shared) & LAST]
        home.inherit()
        state = home.renewed(shared)
        if table.size < self.cap:
            if state is not None:
                table.size += 1
                shard.young[key] = state
            return shard, key, state
        self.shared += 1
        return home, shared, state


class Taking:
    """The charges of one request: where the state of each is kept, what it was, and what it has become."""

    __slots__ = ("admitted", "afters", "at", "denied", "row", "seats", "spent")

    lost = False

    def __init__(self, row: _Row, seats: list[_Seat], afters: list[Any], at: int) -> None:
        self.row = row
        self.seats = seats
        self.afters = afters
        self.at = at
        self.admitted = self.spent = True
        self.denied: Sequence[int] = ()

    def deny(self) -> None:
        """Some do not fit: if one of them is enforced, nothing has been consumed."""
        self.denied = [place for place, after in enumerate(self.afters) if after is None]
        self.admitted = not any(self.row.charges[place].enforced for place in self.denied)
        if not self.admitted:
            self.spent = False
            for (shard, key, state), after in zip(self.seats, self.afters, strict=True):
                if after is not None:
                    shard.restore(key, state)

    def give_back(self, now: int) -> None:
        """Undo it all, at a later time."""
        if not self.spent:
            return
        self.spent = False
        for place, ((shard, key, _), after) in enumerate(zip(self.seats, self.afters, strict=True)):
            state = shard.get(key)
            if after is not None and state is not None:
                algorithm, cost = self.row.algorithms[place], self.row.charges[place].cost
                shard.put(key, algorithm.refund(state, after, self.at, now, cost))

    def standing(self, place: int) -> Standing:
        """Where the bucket of one charge stood after the decision: as before it, where nothing was consumed."""
        algorithm, after, before = self.row.algorithms[place], self.afters[place], self.seats[place][2]
        wait = algorithm.wait(before, self.at, self.row.charges[place].cost) if after is None else 0
        held = before if after is None or not self.spent else after
        return Standing(*algorithm.standing(held, self.at), wait)

    def left(self, places: int) -> Sequence[tuple[int, int]]:
        """What a client is told of the first so many."""
        if self.denied or not self.spent:
            return [self.standing(place).told for place in range(places)]
        told = zip(self.row.algorithms, self.afters, strict=True)
        return [algorithm.standing(after, self.at) for algorithm, after in told]


class Table:
    """The states of one limit, in shards that turn one after the other."""

    __slots__ = ("_hand", "algorithm", "crowded", "due", "shards", "size")

    def __init__(self, algorithm: Algorithm, now: int) -> None:
        horizon = algorithm.horizon
        self.algorithm = algorithm
        self.crowded = False
        self.size = 0
        self.shards = [Shard(self, now - horizon + place * horizon // SHARDS) for place in range(SHARDS)]
        self._hand = 0
        self.due = now

    def heir(self, algorithm: Algorithm, now: int) -> Table:
        """A table of another rate, which takes over the states of this one, each shard when it is first needed."""
        made = Table(algorithm, now)
        made.size, made.crowded = self.size, self.crowded
        for shard, old in zip(made.shards, self.shards, strict=True):
            shard.heritage = old.bequeath(algorithm, now)
        return made

    def turn(self, now: int) -> None:
        """Let the next shard forget what has rested for a whole horizon, if its time has come."""
        shard = self.shards[self._hand]
        self.due = shard.since + self.algorithm.horizon
        if now < self.due:
            return
        shard.inherit()
        self.size -= len(shard.old)
        shard.old, shard.young, shard.since = shard.young, {}, now
        self._hand = (self._hand + 1) % SHARDS


class Shard:
    """Two generations of states: what rested for a whole horizon is dropped with its dict, in one step.

    `heritage` is what it has still to take over from the rate before: nothing of that is in it yet.
    """

    __slots__ = ("_table", "heritage", "old", "since", "young")

    def __init__(self, table: Table, since: int) -> None:
        self._table = table
        self.since = since
        self.young: dict[str, Any] = {}
        self.old: dict[str, Any] = {}
        self.heritage: _Heritage | None = None

    def bequeath(self, algorithm: Algorithm, now: int) -> _Heritage:
        """What a shard takes over whose rate follows this one's now."""
        if self.heritage is not None and len(self.heritage.steps) == _STEPS:
            self.inherit()
        step = self._table.algorithm, algorithm, now
        if self.heritage is None:
            return _Heritage(self, (step,))
        return _Heritage(self.heritage.shard, (*self.heritage.steps, step))

    def inherit(self) -> None:
        """Take over what is still to be; who comes back later to the shard before finds nothing to return to."""
        if self.heritage is None:
            return
        (before, steps), self.heritage = self.heritage, None
        found = {**before.old, **before.young}
        before.young, before.old = {}, {}
        for key, state in found.items():
            mine = state
            for old, new, now in steps:
                mine = None if mine is None else carried(mine, old, new, now)
            if mine is not None:
                self.young[key] = mine
        self._table.size -= len(found) - len(self.young)

    def get(self, key: str) -> Any:
        state = self.young.get(key)
        return self.old.get(key) if state is None else state

    def renewed(self, key: str) -> Any:
        """As `get`; the key has been seen lately from now on, and is in one generation only."""
        state = self.young.get(key)
        if state is None:
            state = self.old.pop(key, None)
            if state is not None:
                self.young[key] = state
        return state

    def put(self, key: str, state: Any) -> None:
        self.old.pop(key, None)
        self.young[key] = state

    def restore(self, key: str, state: Any) -> None:
        """Undo what was written a moment ago."""
        if state is None:
            del self.young[key]
            self._table.size -= 1
        else:
            self.young[key] = state


class _Row(NamedTuple):
    """The charges of one route, and for each of them where its states are, who decides, and what it costs.

    The `algorithms` are those of the states. A charge may say another one: that of a request which began before a
    reload.
    """

    charges: Sequence[Charge]
    algorithms: tuple[Algorithm, ...]
    places: tuple[tuple[Table, list[Shard], Callable[[Any, int, int], Any], int], ...]


class _Heritage(NamedTuple):
    """The shard whose states are to be taken over, and each rate that followed another since, and when (ns)."""

    shard: Shard
    steps: tuple[tuple[Algorithm, Algorithm, int], ...]


_Seat = tuple[Shard, str, Any]
"""Where a charge's state is kept: the shard, the key in it, and the state it found (None: none)."""
