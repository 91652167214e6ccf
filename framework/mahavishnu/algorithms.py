"""Rates as pure state machines in exact integers: GCRA, a sliding window of two counters, an exact log."""

from __future__ import annotations

from dataclasses import dataclass

from mahavishnu.policy import Verdict


@dataclass(frozen=True, slots=True)
class Gcra:
    """Generic cell rate algorithm (ITU-T I.371): the state is the theoretical arrival time of the next one.

    Times are kept in ticks of 1/count ns, in which the emission interval is the whole number `period`: exact.
    Beside it the state counts the cost ever taken, by which a refund knows how much was taken since.
    """

    count: int
    period: int
    burst: int

    @property
    def horizon(self) -> int:
        return -(-self.period * self.burst // self.count)

    def admit(self, state: tuple[int, int] | None, now: int, cost: int) -> Verdict[tuple[int, int]]:
        ticks, tolerance = now * self.count, self.period * self.burst
        arrival, spent = state or (0, 0)
        base = ticks if state is None or arrival < ticks else arrival
        after = base + cost * self.period
        over = after - tolerance - ticks
        if over > 0:
            wait = None if cost > self.burst else self._ns(over)
            return Verdict(False, (base, spent), self._left(base, ticks), self._ns(base - ticks), wait)
        return Verdict(True, (after, spent + cost), self._left(after, ticks), self._ns(after - ticks), 0)

    def refund(
        self, state: tuple[int, int], after: tuple[int, int], at: int, now: int, cost: int
    ) -> tuple[int, int]:
        """What has refilled by itself meanwhile is not returned again, else quota could be saved up.

        Without the request the state would be that of what came before it, less its cost, or that of what
        came after it alone, whichever is later; the latter is at most its whole cost from now on.
        """
        if now - at >= self.horizon:
            return state
        arrival, spent = state
        later = spent - after[1]
        since = now * self.count + later * self.period
        left = max(arrival - cost * self.period, min(arrival, since))
        return left, spent if later else spent - cost  # nobody has counted the last one yet

    def _left(self, state: int, ticks: int) -> int:
        return (self.period * self.burst - (state - ticks)) // self.period

    def _ns(self, ticks: int) -> int:
        return -(-ticks // self.count)


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

    def admit(self, state: tuple[int, int, int] | None, now: int, cost: int) -> Verdict[tuple[int, int, int]]:
        index, elapsed = divmod(now, self.period)
        before, current = self._counts(state, index)
        used = before * (self.period - elapsed) + current * self.period
        if used + cost * self.period <= self.count * self.period:
            after = used + cost * self.period
            return Verdict(True, (index, before, current + cost), self._left(after), self._reset(elapsed), 0)
        wait = self._wait(before, current, elapsed, cost)
        return Verdict(False, (index, before, current), self._left(used), self._reset(elapsed), wait)

    def refund(
        self, state: tuple[int, int, int], _after: tuple[int, int, int], at: int, _now: int, cost: int
    ) -> tuple[int, int, int]:
        index, before, current = state
        age = index - at // self.period
        return (index, before - cost * (age == 1), current - cost * (age == 0))

    def _counts(self, state: tuple[int, int, int] | None, index: int) -> tuple[int, int]:
        if state is None or index - state[0] > 1:
            return 0, 0
        return (state[1], state[2]) if index == state[0] else (state[2], 0)

    def _left(self, used: int) -> int:
        return max(0, (self.count * self.period - used) // self.period)

    def _reset(self, elapsed: int) -> int:
        return 2 * self.period - elapsed

    def _wait(self, before: int, current: int, elapsed: int, cost: int) -> int | None:
        if cost > self.count:
            return None
        if current + cost <= self.count:
            return self._fade(before, self.count - current - cost) - elapsed
        return self.period - elapsed + self._fade(current, self.count - cost)

    def _fade(self, counted: int, room: int) -> int:
        """How far into the next window `counted` has faded to `room`."""
        return max(0, -(-self.period * (counted - room) // counted))


@dataclass(frozen=True, slots=True)
class SlidingLog:
    """Exact: the state holds the time of every admitted request that is younger than the period."""

    count: int
    period: int

    @property
    def horizon(self) -> int:
        return self.period

    def admit(self, state: tuple[int, ...] | None, now: int, cost: int) -> Verdict[tuple[int, ...]]:
        live = tuple(at for at in state or () if at > now - self.period)
        if len(live) + cost <= self.count:
            after = live + (now,) * cost
            return Verdict(True, after, self.count - len(after), after[-1] + self.period - now, 0)
        wait = None if cost > self.count else live[len(live) + cost - self.count - 1] + self.period - now
        return Verdict(False, live, self.count - len(live), live[-1] + self.period - now if live else 0, wait)

    def refund(
        self, state: tuple[int, ...], _after: tuple[int, ...], at: int, _now: int, cost: int
    ) -> tuple[int, ...]:
        place = state.index(at) if at in state else len(state)
        return state[:place] + state[place + cost :]
