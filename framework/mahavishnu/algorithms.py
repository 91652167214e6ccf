"""Rates as pure state machines in exact integers: GCRA, a sliding window of two counters, an exact log."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import gcd

SHIFT = 24
"""By how much the state of a GCRA is shifted to the left: below it are the bits that count the cost."""
SPENT = (1 << SHIFT) - 1


@dataclass(frozen=True, slots=True)
class Gcra:
    """Generic cell rate algorithm (ITU-T I.371): the state is the theoretical arrival time of the next one.

    Times are kept in ticks of 1/count ns (both in lowest terms), in which the emission interval is the whole number
    `period`: exact. The low 24 bits of the state count the cost ever taken, by which a refund knows how much was
    taken since; when they overflow, the arrival is one tick later: never looser.
    """

    count: int
    period: int
    burst: int
    _ticks: int = field(init=False, repr=False, compare=False)  # in a ns
    _step: int = field(init=False, repr=False, compare=False)  # ticks from one to the next
    _full: int = field(init=False, repr=False, compare=False)  # ticks of a whole burst
    _packed: tuple[int, int, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        common = gcd(self.count, self.period)
        ticks, step = self.count // common, self.period // common
        object.__setattr__(self, "_ticks", ticks)
        object.__setattr__(self, "_step", step)
        object.__setattr__(self, "_full", step * self.burst)
        packed = ticks << SHIFT, (step << SHIFT) + 1, (step * self.burst << SHIFT) | SPENT
        object.__setattr__(self, "_packed", packed)

    @property
    def whole(self) -> tuple[int, int] | None:
        """What one costs and the most that may be ahead, as states are kept, where a tick is a ns; else None."""
        return self._packed[1:] if self._ticks == 1 else None

    @property
    def horizon(self) -> int:
        return -(-self._full // self._ticks)

    @property
    def most(self) -> int:
        return self.burst

    def peak(self, cost: int, lives: int = 1) -> int:
        """A burst, and what refills; reached at the last moment of a period."""
        return (lives * self.burst + self.count) // cost

    def admit(self, state: int | None, now: int, cost: int) -> int | None:
        tick, step, most = self._packed
        ticks = now * tick
        if state is None:
            state = ticks
        elif state < ticks:
            state = ticks | (state & SPENT)
        after = state + cost * step
        return after if after - ticks <= most else None

    def standing(self, state: int | None, now: int) -> tuple[int, int]:
        if state is None:
            return self.burst, 0
        ticks = self._ticks
        # With one tick to the ns, as nearly always, nothing has to be converted.
        ahead = (state >> SHIFT) - (now if ticks == 1 else now * ticks)
        if ahead <= 0:
            return self.burst, 0
        return (self._full - ahead) // self._step, ahead if ticks == 1 else -(-ahead // ticks)

    def wait(self, state: int | None, now: int, cost: int) -> int | None:
        if cost > self.burst:
            return None
        ahead = self.used(state, now)[0]
        return max(0, -(-(ahead + (cost - self.burst) * self._step) // self._ticks))

    def refund(self, state: int, after: int, at: int, now: int, cost: int) -> int:
        """What has refilled by itself meanwhile is not returned again, else quota could be saved up.

        Without the request the state would be that of what came before it, less its cost, or that of what
        came after it alone, whichever is later; the latter is at most its whole cost from now on.
        """
        if now - at >= self.horizon:
            return state
        arrival, spent = state >> SHIFT, state & SPENT
        later = (spent - after) & SPENT
        since = now * self._ticks + later * self._step
        left = max(arrival - cost * self._step, min(arrival, since))
        # When nobody has counted the last one yet, it is as if it had never come.
        return left << SHIFT | (spent if later else (spent - cost) & SPENT)

    def used(self, state: int | None, now: int) -> tuple[int, int]:
        return (0 if state is None else max(0, (state >> SHIFT) - now * self._ticks)), self._step

    def having(self, used: int, of: int, now: int) -> int:
        ahead = min(self._full, -(-used * self._step // of))
        return now * self._ticks + ahead << SHIFT


@dataclass(frozen=True, slots=True)
class SlidingWindow:
    """Two counters weighed by how far the previous window still reaches in: (index, previous, current).

    Exact in integers for an even previous window; for an uneven one the admitted count of any window may be
    off by at most the previous count's unevenness, below `count`. Source: Cloudflare, "How we built rate
    limiting capable of scaling to millions of domains".
    """

    count: int
    period: int

    @property
    def horizon(self) -> int:
        return 2 * self.period

    @property
    def most(self) -> int:
        return self.count

    def peak(self, cost: int, lives: int = 1) -> int:
        """All of it at the end of one window, and as the next one ends all but what still reaches in."""
        return lives * (self.count // cost) + (self.count - 1) // cost

    def admit(self, state: tuple[int, int, int] | None, now: int, cost: int) -> tuple[int, int, int] | None:
        index, elapsed = divmod(now, self.period)
        before, current = self._counts(state, index)
        if before * (self.period - elapsed) + (current + cost) * self.period > self.count * self.period:
            return None
        return index, before, current + cost

    def standing(self, state: tuple[int, int, int] | None, now: int) -> tuple[int, int]:
        index, elapsed = divmod(now, self.period)
        before, current = self._counts(state, index)
        used = before * (self.period - elapsed) + current * self.period
        return max(0, (self.count * self.period - used) // self.period), 2 * self.period - elapsed

    def wait(self, state: tuple[int, int, int] | None, now: int, cost: int) -> int | None:
        if cost > self.count:
            return None
        index, elapsed = divmod(now, self.period)
        before, current = self._counts(state, index)
        if current + cost <= self.count:
            return max(0, self._fade(before, self.count - current - cost) - elapsed)
        return self.period - elapsed + self._fade(current, self.count - cost)

    def refund(
        self, state: tuple[int, int, int], _after: tuple[int, int, int], at: int, _now: int, cost: int
    ) -> tuple[int, int, int]:
        index, before, current = state
        age = index - at // self.period
        return (index, before - cost * (age == 1), current - cost * (age == 0))

    def used(self, state: tuple[int, int, int] | None, now: int) -> tuple[int, int]:
        index, elapsed = divmod(now, self.period)
        before, current = self._counts(state, index)
        return before * (self.period - elapsed) + current * self.period, self.period

    def having(self, used: int, of: int, now: int) -> tuple[int, int, int]:
        """All of it in the current window: it fades later than it may have been meant to, never earlier."""
        return now // self.period, 0, min(self.count, -(-used // of))

    def _counts(self, state: tuple[int, int, int] | None, index: int) -> tuple[int, int]:
        if state is None or index - state[0] > 1:
            return 0, 0
        return (state[1], state[2]) if index == state[0] else (state[2], 0)

    def _fade(self, counted: int, room: int) -> int:
        """How far into the next window `counted` has faded to `room`."""
        return max(0, -(-self.period * (counted - room) // counted)) if counted else 0


@dataclass(frozen=True, slots=True)
class SlidingLog:
    """Exact: the state holds the time of every admitted request that is younger than the period."""

    count: int
    period: int

    @property
    def horizon(self) -> int:
        return self.period

    @property
    def most(self) -> int:
        return self.count

    def peak(self, cost: int, lives: int = 1) -> int:
        return lives * (self.count // cost)

    def admit(self, state: tuple[int, ...] | None, now: int, cost: int) -> tuple[int, ...] | None:
        live = self._live(state, now)
        return live + (now,) * cost if len(live) + cost <= self.count else None

    def standing(self, state: tuple[int, ...] | None, now: int) -> tuple[int, int]:
        live = self._live(state, now)
        return self.count - len(live), live[-1] + self.period - now if live else 0

    def wait(self, state: tuple[int, ...] | None, now: int, cost: int) -> int | None:
        if cost > self.count:
            return None
        live = self._live(state, now)
        over = len(live) + cost - self.count
        return live[over - 1] + self.period - now if over > 0 else 0

    def refund(
        self, state: tuple[int, ...], _after: tuple[int, ...], at: int, _now: int, cost: int
    ) -> tuple[int, ...]:
        place = state.index(at) if at in state else len(state)
        return state[:place] + state[place + cost :]

    def used(self, state: tuple[int, ...] | None, now: int) -> tuple[int, int]:
        return len(self._live(state, now)), 1

    def having(self, used: int, of: int, now: int) -> tuple[int, ...]:
        """All of it at this moment: it is remembered longer than it may have been meant to be, never shorter."""
        return (now,) * min(self.count, -(-used // of))

    def _live(self, state: tuple[int, ...] | None, now: int) -> tuple[int, ...]:
        return tuple(at for at in state or () if at > now - self.period)
