"""Rates as state machines, against small references that share nothing with them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mahavishnu.algorithms import SHIFT, Gcra, SlidingLog, SlidingWindow
from mahavishnu.protocols import Algorithm

MS = 10**6
SECOND = 10**9


class Verdict(NamedTuple):
    """Everything an algorithm says of one request; `state` is the next one, or the old one when denied."""

    allowed: bool
    state: Any
    remaining: int
    reset: int
    retry_after: int | None


def judged(algorithm: Algorithm, state: Any, now: int, cost: int) -> Verdict:
    """One request, and where its bucket stands after it."""
    after = algorithm.admit(state, now, cost)
    kept = state if after is None else after
    wait = algorithm.wait(state, now, cost) if after is None else 0
    return Verdict(after is not None, kept, *algorithm.standing(kept, now), wait)


def test_two_numbers_say_what_one_request_does() -> None:
    """What it adds to a state, and how far that may then be ahead, where a tick is a ns; else there are no such two."""
    ten = Gcra(10, SECOND, 3)
    assert ten.whole is not None
    added, ahead = ten.whole
    state: int | None = SECOND << SHIFT
    for _ in range(3):
        assert state is not None
        before, state = state, ten.admit(state, SECOND, 1)
        assert state is not None
        assert state == before + added
        assert state - (SECOND << SHIFT) <= ahead
    assert ten.admit(state, SECOND, 1) is None
    assert state is not None
    assert state + added - (SECOND << SHIFT) > ahead
    assert Gcra(3, SECOND, 3).whole is None


def test_a_bucket_is_full_again_at_its_horizon_and_not_a_moment_before() -> None:
    """Also where a tick is a part of a ns."""
    for rate in (Gcra(10, SECOND, 5), Gcra(3, SECOND, 3)):
        state = None
        for _ in range(rate.burst):
            state = rate.admit(state, SECOND, 1)
        full = SECOND + rate.horizon
        assert rate.horizon == rate.burst * SECOND // rate.count
        assert rate.standing(state, full) == (rate.burst, 0)
        assert rate.standing(state, full - 1) == (rate.burst - 1, 1)


class Bucket:
    """GCRA seen as what it equals: a bucket of tokens that refills evenly, in exact fractions."""

    def __init__(self, count: int, period: int, burst: int) -> None:
        self.pace = Fraction(count, period)
        self.burst = burst
        self.tokens = Fraction(burst)
        self.at = 0

    def take(self, now: int, cost: int) -> bool:
        self.tokens = min(Fraction(self.burst), self.tokens + (now - self.at) * self.pace)
        self.at = now
        if self.tokens < cost:
            return False
        self.tokens -= cost
        return True


class Log:
    """An exact window: every admitted request with its time."""

    def __init__(self, count: int, period: int) -> None:
        self.count, self.period = count, period
        self.seen: list[int] = []

    def take(self, now: int, cost: int) -> bool:
        if sum(at > now - self.period for at in self.seen) + cost > self.count:
            return False
        self.seen += [now] * cost
        return True


class Weighed:
    """Cloudflare's two counters, in exact fractions."""

    def __init__(self, count: int, period: int) -> None:
        self.count, self.period = count, period
        self.windows: dict[int, int] = {}

    def take(self, now: int, cost: int) -> bool:
        index = now // self.period
        share = 1 - Fraction(now % self.period, self.period)
        used = self.windows.get(index - 1, 0) * share + self.windows.get(index, 0)
        if used + cost > self.count:
            return False
        self.windows[index] = self.windows.get(index, 0) + cost
        return True


counts = st.integers(1, 20)
periods = st.sampled_from([7, 10, 97, 1000, SECOND, 60 * SECOND, 3_600 * SECOND + 1])
arrivals = st.lists(st.tuples(st.integers(0, 2000), st.integers(1, 3)), max_size=60)


def at_times(moves: list[tuple[int, int]], period: int) -> Iterator[tuple[int, int]]:
    """Absolute times and costs from steps in thousandths of the period."""
    now = 10 * period
    for step, cost in moves:
        now += step * period // 1000
        yield now, cost


def played(algorithm: Algorithm, requests: Iterator[tuple[int, int]]) -> list[tuple[int, int]]:
    """The admitted requests: time and cost."""
    state: Any = None
    admitted: list[tuple[int, int]] = []
    for now, cost in requests:
        verdict = judged(algorithm, state, now, cost)
        if verdict.allowed:
            state = verdict.state
            admitted.append((now, cost))
    return admitted


@given(counts, periods, counts, arrivals)
def test_gcra_is_an_exact_token_bucket(
    count: int, period: int, burst: int, moves: list[tuple[int, int]]
) -> None:
    """Every single decision is that of a bucket in exact fractions: no token is lost to rounding."""
    reference = Bucket(count, period, burst)
    expected = [(now, cost) for now, cost in at_times(moves, period) if reference.take(now, cost)]
    assert played(Gcra(count, period, burst), at_times(moves, period)) == expected


@given(counts, periods, counts, arrivals)
def test_gcra_admits_at_most_its_burst_and_the_refill_in_any_interval(
    count: int, period: int, burst: int, moves: list[tuple[int, int]]
) -> None:
    """Between any two admitted requests: cost <= burst + elapsed * count / period."""
    admitted = played(Gcra(count, period, burst), at_times(moves, period))
    for first in range(len(admitted)):
        total = 0
        for now, cost in admitted[first:]:
            total += cost
            assert total <= burst + Fraction((now - admitted[first][0]) * count, period)


@given(counts, periods, arrivals)
def test_sliding_log_is_exact_over_every_window(
    count: int, period: int, moves: list[tuple[int, int]]
) -> None:
    """Each decision is the reference's, and no window of any start holds more than the count."""
    reference = Log(count, period)
    expected = [(now, cost) for now, cost in at_times(moves, period) if reference.take(now, cost)]
    admitted = played(SlidingLog(count, period), at_times(moves, period))
    assert admitted == expected
    for start, _ in admitted:
        assert sum(cost for now, cost in admitted if start <= now < start + period) <= count


@given(counts, periods, arrivals)
def test_sliding_window_is_cloudflares_in_exact_arithmetic(
    count: int, period: int, moves: list[tuple[int, int]]
) -> None:
    """Each decision is the reference's, and no window holds twice the count: the stated error."""
    reference = Weighed(count, period)
    expected = [(now, cost) for now, cost in at_times(moves, period) if reference.take(now, cost)]
    admitted = played(SlidingWindow(count, period), at_times(moves, period))
    assert admitted == expected
    for start, _ in admitted:
        assert sum(cost for now, cost in admitted if start <= now < start + period) <= max(1, 2 * count - 1)


KINDS = st.sampled_from(["gcra", "sliding_window", "sliding_log"])


@settings(max_examples=300)
@given(KINDS, st.integers(0, 2**32), st.integers(1, 4), arrivals, st.sets(st.integers(0, 60), max_size=3))
def test_no_period_holds_more_than_the_peak(
    kind: str, seed: int, cost: int, moves: list[tuple[int, int]], lost: set[int]
) -> None:
    """Of requests that come several at once, at any times, and where the state is lost in between."""
    algorithm = _random(kind, random.Random(seed))
    period: int = getattr(algorithm, "period", 0)
    state: Any = None
    admitted: list[int] = []
    losses: list[int] = []
    for number, (now, crowd) in enumerate(at_times(moves, period)):
        if number in lost:
            state, losses = None, [*losses, now]
        for _ in range(20 * crowd):
            if (after := algorithm.admit(state, now, cost)) is not None:
                state, admitted = after, [*admitted, now]
    for start in {*admitted}:
        seen = sum(start <= now < start + period for now in admitted)
        assert seen <= algorithm.peak(cost, 1 + sum(start <= at < start + period for at in losses))


def _random(kind: str, chance: random.Random) -> Algorithm:
    count, period = chance.randint(1, 50), chance.choice([SECOND, 60 * SECOND, 900 * SECOND, 3600 * SECOND])
    if kind == "gcra":
        return Gcra(count, period, chance.randint(1, 50))
    return SlidingWindow(count, period) if kind == "sliding_window" else SlidingLog(count, period)


def _refused(algorithm: Algorithm, chance: random.Random) -> tuple[Any, int, int, int] | None:
    """A state that refuses, the time, the cost, and how long to wait."""
    state: Any = None
    now = chance.randrange(10**15)
    for _ in range(300):
        cost = chance.choice([1, 1, 1, 2, 3])
        verdict = judged(algorithm, state, now, cost)
        if not verdict.allowed and verdict.retry_after is not None and chance.random() < 0.3:
            return state, now, cost, verdict.retry_after
        if verdict.allowed:
            state = verdict.state
        if chance.random() < 0.3:
            now += chance.randrange(algorithm.horizon // 4)
    return None


@pytest.mark.parametrize("kind", ["gcra", "sliding_window", "sliding_log"])
def test_who_waits_as_told_is_admitted_and_who_comes_earlier_is_not(kind: str) -> None:
    """1,000 random refusals: admitted after exactly `retry_after`; refused 1 ns, and 1 ms, before."""
    chance = random.Random(f"retry after {kind}")
    shown = 0
    while shown < 1000:
        algorithm = _random(kind, chance)
        found = _refused(algorithm, chance)
        if found is None:
            continue
        state, now, cost, wait = found
        assert wait > 0
        assert judged(algorithm, state, now + wait, cost).allowed
        assert not judged(algorithm, state, now + wait - 1, cost).allowed
        assert not judged(algorithm, state, now + max(0, wait - MS), cost).allowed
        shown += 1


@pytest.mark.parametrize(
    "algorithm",
    [Gcra(10, SECOND, 5), SlidingWindow(5, SECOND), SlidingLog(5, SECOND)],
    ids=["gcra", "window", "log"],
)
def test_a_cost_that_never_fits_is_told_so(algorithm: Algorithm) -> None:
    """Waiting does not help, so no time is named; and a cost of all is admitted at once."""
    assert judged(algorithm, None, SECOND, 6).retry_after is None
    assert judged(algorithm, None, SECOND, 5).allowed


@pytest.mark.parametrize("kind", ["gcra", "sliding_window", "sliding_log"])
def test_everything_at_once_has_its_wait_too(kind: str) -> None:
    """None at all where nothing was used; after all of it was, until all of it is there again."""
    chance = random.Random(f"everything {kind}")
    for _ in range(100):
        algorithm, now = _random(kind, chance), chance.randrange(10**15)
        assert algorithm.wait(None, now, algorithm.most) == 0
        assert algorithm.wait(None, now, algorithm.most + 1) is None
        state = algorithm.admit(None, now, algorithm.most)
        wait = algorithm.wait(state, now, algorithm.most)
        assert wait is not None
        assert algorithm.admit(state, now + wait, algorithm.most) is not None
        assert algorithm.admit(state, now + wait - 1, algorithm.most) is None
        assert algorithm.wait(state, now + wait, algorithm.most) == 0
        assert algorithm.wait(state, now + 9 * algorithm.horizon, algorithm.most) == 0


@given(st.sampled_from(["gcra", "sliding_window", "sliding_log"]), st.integers(0, 2**32), arrivals)
def test_what_is_left_is_true(kind: str, seed: int, moves: list[tuple[int, int]]) -> None:
    """A client that now asks for `remaining` gets it, and for one more does not."""
    algorithm = _random(kind, random.Random(seed))
    state: Any = None
    for now, cost in at_times(moves, algorithm.horizon):
        verdict = judged(algorithm, state, now, cost)
        state = verdict.state if verdict.allowed else state
        assert verdict.remaining >= 0
        if verdict.remaining:
            assert judged(algorithm, state, now, verdict.remaining).allowed
        assert not judged(algorithm, state, now, verdict.remaining + 1).allowed


@given(st.sampled_from(["gcra", "sliding_window", "sliding_log"]), st.integers(0, 2**32), arrivals)
def test_after_its_horizon_a_state_says_nothing(kind: str, seed: int, moves: list[tuple[int, int]]) -> None:
    """What is forgotten then does nobody good: each later decision is that of no state at all."""
    algorithm = _random(kind, random.Random(seed))
    state: Any = None
    now = 0
    for now, cost in at_times(moves, algorithm.horizon):
        verdict = judged(algorithm, state, now, cost)
        state = verdict.state if verdict.allowed else state
    later = now + algorithm.horizon
    for cost in (1, 2, 50, 51):
        old, new = judged(algorithm, state, later, cost), judged(algorithm, None, later, cost)
        assert (old.allowed, old.remaining, old.retry_after) == (new.allowed, new.remaining, new.retry_after)


@given(st.sampled_from(["gcra", "sliding_window", "sliding_log"]), st.integers(0, 2**32), arrivals)
def test_what_is_used_is_what_is_not_left(kind: str, seed: int, moves: list[tuple[int, int]]) -> None:
    """As a fraction, before and after every decision; `most` of nothing used is left of no state."""
    algorithm = _random(kind, random.Random(seed))
    state: Any = None
    assert algorithm.used(None, 0)[0] == 0
    assert algorithm.standing(None, 0)[0] == algorithm.most
    for now, cost in at_times(moves, algorithm.horizon):
        state = algorithm.admit(state, now, cost) or state
        used, of = algorithm.used(state, now)
        assert algorithm.standing(state, now)[0] == max(0, (algorithm.most * of - used) // of)


@given(st.sampled_from(["gcra", "sliding_window", "sliding_log"]), st.integers(0, 2**32), arrivals)
def test_it_is_whole_again_when_it_says_so(kind: str, seed: int, moves: list[tuple[int, int]]) -> None:
    """At the told time everything fits at once; a nanosecond before it does not (a window may say so late)."""
    algorithm = _random(kind, random.Random(seed))
    state: Any = None
    for now, cost in at_times(moves, algorithm.horizon):
        state = algorithm.admit(state, now, cost) or state
        reset = algorithm.standing(state, now)[1]
        assert 0 <= reset <= algorithm.horizon
        assert algorithm.standing(state, now + reset)[0] == algorithm.most
        if reset and kind != "sliding_window":
            used, of = algorithm.used(state, now + reset - 1)
            assert used > 0
            assert of > 0


@pytest.mark.parametrize("kind", ["gcra", "sliding_window", "sliding_log"])
def test_a_state_can_be_made_of_what_was_used(kind: str) -> None:
    """Of any fraction: at least so much is used then, less than one more, and never more than there is."""
    chance = random.Random(f"having {kind}")
    for _ in range(300):
        algorithm, now, of = _random(kind, chance), chance.randrange(10**15), chance.randint(1, 1000)
        used = chance.randrange(2 * algorithm.most * of)
        state = algorithm.having(used, of, now)
        found, per = algorithm.used(state, now)
        # The window counts by whole requests, and by how much of itself has passed: both against the client.
        left = algorithm.standing(state, now)[0]
        assert left in (max(0, algorithm.most - -(-used // of)), max(0, algorithm.most - used // of))
        assert 0 <= found <= algorithm.most * per
        assert found * of >= min(used, algorithm.most * of) * per
        assert (found - per) * of <= used * per


def _tokens(algorithm: Algorithm, state: Any, now: int) -> int:
    """How much the state would still admit at once."""
    free = 0
    while True:
        verdict = judged(algorithm, state, now, 1)
        if not verdict.allowed:
            return free
        state, free = verdict.state, free + 1


def _refund(algorithm: Algorithm, state: Any, after: Any, at: int, now: int, cost: int) -> Any:
    return algorithm.refund(state, after, at, now, cost)


@settings(max_examples=300)
@given(st.sampled_from(["gcra", "sliding_window", "sliding_log"]), st.integers(0, 2**32), arrivals, st.data())
def test_a_refund_never_gives_more_than_was_taken(
    kind: str, seed: int, moves: list[tuple[int, int]], data: st.DataObject
) -> None:
    """Any requests are denied later, at any time: the state is never looser than if they had never come.

    Sliding windows and logs are exact; GCRA may keep a little of what was taken.
    """
    algorithm = _random(kind, random.Random(seed))
    state: Any = None
    taken: list[tuple[Any, int, int]] = []
    removed: list[int] = []
    requests = list(at_times(moves, algorithm.horizon))
    for now, cost in requests:
        verdict = judged(algorithm, state, now, cost)
        if verdict.allowed:
            state = verdict.state
            taken.append((state, now, cost))
        if taken:
            place = data.draw(st.integers(0, 2 * len(taken)), label="which is denied later")
            if place < len(taken) and place not in removed:
                removed.append(place)
                after, at, paid = taken[place]
                state = _refund(algorithm, state, after, at, now, paid)
        without: Any = None
        for place, (_, at, paid) in enumerate(taken):
            if place not in removed:
                without = _forced(algorithm, without, at, paid)
        loose, true = _tokens(algorithm, state, now), _tokens(algorithm, without, now)
        assert loose <= true
        assert kind == "gcra" or loose == true


def _forced(algorithm: Algorithm, state: Any, at: int, cost: int) -> Any:
    """The state with a request that was admitted at `at`; removing others can only have made room for it."""
    verdict = judged(algorithm, state, at, cost)
    assert verdict.allowed
    return verdict.state


@given(st.sampled_from(["gcra", "sliding_window", "sliding_log"]), st.integers(0, 2**32), arrivals)
def test_a_refund_at_once_leaves_no_trace(kind: str, seed: int, moves: list[tuple[int, int]]) -> None:
    """A full queue or an announced body: what was taken in this moment is returned to the last token."""
    algorithm = _random(kind, random.Random(seed))
    state: Any = None
    for now, cost in at_times(moves, algorithm.horizon):
        before = _tokens(algorithm, state, now)
        verdict = judged(algorithm, state, now, cost)
        if verdict.allowed:
            returned = _refund(algorithm, verdict.state, verdict.state, now, now, cost)
            assert _tokens(algorithm, returned, now) == before
            assert _tokens(algorithm, returned, now + algorithm.horizon // 7) == _tokens(
                algorithm, state, now + algorithm.horizon // 7
            )
            state = verdict.state


def test_at_its_horizon_a_request_is_no_longer_refunded() -> None:
    """A moment before, what it cost is no longer counted as spent; from then on nothing is as much as touched."""
    gcra = Gcra(1, 10, 3)
    state = gcra.admit(None, 0, 1)
    assert state is not None
    assert gcra.refund(state, state, 0, gcra.horizon, 1) == state
    assert gcra.refund(state, state, 0, gcra.horizon - 1, 1) == state - 1


def test_a_sliding_window_forgets_what_is_two_windows_old() -> None:
    """At its horizon, to the nanosecond: before that some of it still counts."""
    window = SlidingWindow(5, 1000)
    state = window.admit(None, 0, 1)
    assert window.used(state, window.horizon - 1)[0] > 0
    assert window.used(state, window.horizon)[0] == 0


def test_quota_cannot_be_saved_up_by_late_refunds() -> None:
    """Requests that stall for minutes and are then refused add nothing: burst stays the most."""
    algorithm = Gcra(5, 60 * SECOND, 5)
    state: Any = None
    stalled: list[tuple[Any, int]] = []
    for turn in range(100):
        now = turn * 12 * SECOND
        state = judged(algorithm, state, now, 1).state
        stalled.append((state, now))
    now = 2000 * SECOND
    admitted = 0
    for after, at in stalled:
        verdict = judged(algorithm, state, now, 1)
        if verdict.allowed:
            admitted += 1
            state = verdict.state
        state = _refund(algorithm, state, after, at, now, 1)
    assert admitted == 5


def test_refunds_in_any_order_are_never_looser_by_a_tick() -> None:
    """3,000 short stories of takes and refunds, compared to the tick with those that never happened."""
    chance = random.Random("stories")
    algorithm = Gcra(1, 10, 5)
    exact = 0
    for _ in range(3000):
        now, state, taken = 0, None, list[tuple[int, int]]()
        kept: list[int] = []
        true = 0
        for _ in range(chance.randint(3, 8)):
            now += chance.choice([0, 0, 3, 9, 10, 19])
            verdict = judged(algorithm, state, now, 1)
            if chance.random() < 0.5 and verdict.allowed:
                state = verdict.state
                kept.append(len(taken))
                taken.append((state, now))
            elif kept and state is not None:
                place = kept.pop(chance.randrange(len(kept)))
                state = algorithm.refund(state, taken[place][0], taken[place][1], now, 1)
            true = 0
            for place in kept:
                true = max(true, taken[place][1]) + 10
            assert state is None or max(state >> 24, now) >= max(true, now)
        exact += state is None or max(state >> 24, now) == max(true, now)
    assert exact > 2500


def test_those_that_waited_together_are_refunded_exactly() -> None:
    """Five come at once, one runs, four give up two seconds later: it is as if only one had come."""
    algorithm = Gcra(5, 60 * SECOND, 5)
    state: Any = None
    taken: list[Any] = []
    for _ in range(5):
        state = judged(algorithm, state, 0, 1).state
        taken.append(state)
    for after in taken[1:]:
        state = _refund(algorithm, state, after, 0, 2 * SECOND, 1)
    alone = judged(algorithm, None, 0, 1).state
    assert judged(algorithm, state, 2 * SECOND, 1)[2:] == judged(algorithm, alone, 2 * SECOND, 1)[2:]
