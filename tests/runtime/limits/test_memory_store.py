"""The store of rates: bounded, all or nothing, and never forgiving anyone for lack of room."""

from __future__ import annotations

import random
from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mahavishnu.algorithms import Gcra, SlidingLog, SlidingWindow
from mahavishnu.protocols import Algorithm
from mahavishnu.runtime.limits.memory_store import MemoryStore, Taking
from mahavishnu.testing import VirtualClock
from tests.figures import figure

SECOND = 10**9
ALGORITHMS: dict[str, Callable[[], Algorithm]] = {
    "gcra": lambda: Gcra(4, 10 * SECOND, 3),
    "sliding_window": lambda: SlidingWindow(4, 10 * SECOND),
    "sliding_log": lambda: SlidingLog(4, 10 * SECOND),
}
by_name = pytest.mark.parametrize("kind", list(ALGORITHMS))
moves = st.lists(
    st.tuples(
        st.integers(0, 6), st.sampled_from([0, 1, SECOND // 3, SECOND, 7 * SECOND, 12 * SECOND, 21 * SECOND])
    ),
    max_size=80,
)


class Claim(NamedTuple):
    """What a request asks of one rate: the charge, and the key of its bucket."""

    name: str
    key: str
    algorithm: Algorithm
    cost: int = 1
    enforced: bool = True


class Verdict(NamedTuple):
    """What the store says of one claim."""

    allowed: bool
    remaining: int
    retry_after: int | None


class Answer(NamedTuple):
    """What the store says of all claims of a request."""

    taken: Taking
    verdicts: list[Verdict]


def take(store: MemoryStore, *claims: Claim) -> Answer:
    """One decision."""
    taken = store.take(claims, [claim.key for claim in claims])
    standings = [taken.standing(place) for place in range(len(claims))]
    said = [
        (place not in taken.denied, one.remaining, one.retry_after) for place, one in enumerate(standings)
    ]
    assert taken.admitted is all(
        allowed or not claim.enforced for (allowed, *_), claim in zip(said, claims, strict=True)
    )
    return Answer(taken, [Verdict(*one) for one in said])


def give_back(store: MemoryStore, answer: Answer) -> None:
    """Return what was taken."""
    store.give_back(answer.taken)


class Expected(NamedTuple):
    """What an algorithm itself says of one request."""

    allowed: bool
    state: Any
    remaining: int
    retry_after: int | None


def judged(algorithm: Algorithm, state: Any, now: int) -> Expected:
    """One request of cost 1, decided without a store."""
    after = algorithm.admit(state, now, 1)
    kept = state if after is None else after
    wait = algorithm.wait(state, now, 1) if after is None else 0
    return Expected(after is not None, kept, algorithm.standing(kept, now)[0], wait)


def admitted(taken: Answer) -> list[bool]:
    """Which of the claims were admitted."""
    return [verdict.allowed for verdict in taken.verdicts]


@by_name
@given(moves=moves)
def test_generations_decide_as_an_unbounded_table_would(kind: str, moves: list[tuple[int, int]]) -> None:
    """What was dropped carried nothing: each decision, and each number told, equals those of a plain dict."""
    algorithm = ALGORITHMS[kind]()
    clock = VirtualClock(10**12)
    store, states = MemoryStore(clock), dict[int, Any]()
    for client, pause in moves:
        clock.advance(pause)
        verdict = take(store, Claim("a", f"i:{client}", algorithm)).verdicts[0]
        expected = judged(algorithm, states.get(client), clock.now())
        if expected.allowed:
            states[client] = expected.state
        assert (verdict.allowed, verdict.remaining, verdict.retry_after) == (
            expected.allowed,
            expected.remaining,
            expected.retry_after,
        )


@settings(max_examples=200)
@given(moves=moves, cap=st.integers(1, 4))
def test_a_full_store_is_stricter_and_never_looser(moves: list[tuple[int, int]], cap: int) -> None:
    """Whatever is evicted and shared: no client gets more than burst and refill, in any interval."""
    algorithm = Gcra(4, 10 * SECOND, 3)
    clock = VirtualClock(10**12)
    store = MemoryStore(clock, cap)
    seen: dict[int, list[int]] = {}
    for client, pause in moves:
        clock.advance(pause)
        if admitted(take(store, Claim("a", f"i:{client}", algorithm))) == [True]:
            seen.setdefault(client, []).append(clock.now())
        assert store.keys() <= cap + 1024
    for times in seen.values():
        for first in range(len(times)):
            for last in range(first, len(times)):
                assert last - first + 1 <= 3 + Fraction((times[last] - times[first]) * 4, 10 * SECOND)


def test_a_lasting_flood_never_holds_more_than_the_cap() -> None:
    """Shared buckets that live through many turns of the table are counted once, so that there is no more room."""
    clock, cap = VirtualClock(10**12), 100
    store = MemoryStore(clock, cap)
    claim = Claim("a", "", Gcra(10, SECOND, 10))
    for number in range(30_000):
        take(store, claim._replace(key=f"i:{number}"))
        clock.advance(SECOND // 3000)
    held = sum(len(shard.young) + len(shard.old) for shard in store.table(claim).shards)
    assert held == store.keys() <= cap + 1024


@by_name
@pytest.mark.parametrize("phase", range(20))
def test_an_exhausted_client_is_forgotten_no_moment_too_early(kind: str, phase: int) -> None:
    """At whatever point of a table's life it comes, and however the table turns: refused as long as it must be."""
    algorithm = ALGORITHMS[kind]()
    clock, state = VirtualClock(10**12), None
    store = MemoryStore(clock)
    for step in range(80):
        take(store, Claim("a", "i:other", algorithm))
        mine = judged(algorithm, state, clock.now())
        if step >= phase:
            verdict = take(store, Claim("a", "i:mine", algorithm)).verdicts[0]
            assert (verdict.allowed, verdict.retry_after) == (mine.allowed, mine.retry_after)
            state = mine.state if mine.allowed else state
        clock.advance(algorithm.horizon // 20)


def test_a_client_that_shared_a_bucket_is_not_forgiven_when_there_is_room_again() -> None:
    """It goes on from the shared state: a rotation of the table is no fresh start."""
    clock = VirtualClock(10**12)
    algorithm = Gcra(3, 30 * SECOND, 3)
    store = MemoryStore(clock, cap=1)
    take(store, Claim("a", "i:first", algorithm))
    clock.advance(29 * SECOND)
    late = Claim("a", "i:late", algorithm)
    assert [admitted(take(store, late)) for _ in range(4)] == [[True], [True], [True], [False]]
    clock.advance(2 * SECOND)
    take(store, Claim("a", "i:other", algorithm))  # the table turns: the first client is old now
    assert admitted(take(store, late)) == [False]


def test_a_refund_goes_to_the_bucket_that_paid() -> None:
    """Taken from a shared bucket, returned to it: the client's own bucket gains nothing."""
    clock = VirtualClock(10**12)
    algorithm = SlidingWindow(3, 10 * SECOND)
    store = MemoryStore(clock, cap=1)
    take(store, Claim("a", "i:first", algorithm))
    claim = Claim("a", "i:late", algorithm)
    shared = take(store, claim)
    clock.advance(45 * SECOND)
    store.cap = 10  # room again, in whatever way it came
    own = [take(store, claim) for _ in range(3)]
    assert [admitted(one) for one in own] == [[True]] * 3
    give_back(store, shared)
    assert admitted(take(store, claim)) == [False]


def test_one_denial_consumes_nothing_anywhere() -> None:
    """Three rates, the last one exhausted: the others stay as they were, and an observed one too."""
    clock = VirtualClock()
    store = MemoryStore(clock)
    wide, narrow = Gcra(10, SECOND, 10), Gcra(1, SECOND, 1)
    claims = [
        Claim("minute", "", wide),
        Claim("hour", "", wide),
        Claim("seen", "", wide, enforced=False),
        Claim("narrow", "", narrow),
    ]
    assert admitted(take(store, *claims)) == [True] * 4
    for _ in range(50):
        assert admitted(take(store, *claims)) == [True, True, True, False]
    assert take(store, *claims[:3]).verdicts[0].remaining == 8


FOLLOWERS: dict[str, Callable[[], Algorithm]] = ALGORITHMS | {
    "in_parts": lambda: Gcra(7, SECOND, 7),  # of a nanosecond, in which its states are kept
    "more": lambda: Gcra(40, 10 * SECOND, 40),
}


@pytest.mark.parametrize("used", [0, 2])
@pytest.mark.parametrize("old", FOLLOWERS)
@pytest.mark.parametrize("new", FOLLOWERS)
def test_whoever_still_has_the_rate_before_is_decided_by_the_one_that_follows_it(
    old: str, new: str, used: int
) -> None:
    """As everybody else, of a bucket that is there and of one that is not, and given back by it."""
    clock = VirtualClock(10**12 + 1)
    before, after = (Claim("a", "i:1", FOLLOWERS[one]()) for one in (old, new))
    store, reference = MemoryStore(clock), MemoryStore(clock)
    for one in (store, reference):
        for _ in range(used):
            take(one, before)
        one.carry(after)
    for number in range(60):
        said = [take(store, before if number % 3 else after), take(reference, after)]
        assert said[0].verdicts == said[1].verdicts
        assert said[0].taken.left(1) == said[1].taken.left(1)
        if number % 4 == 0:
            give_back(store, said[0])
            give_back(reference, said[1])
        clock.advance(SECOND // 5 if number % 5 else 0)


def test_what_is_set_aside_takes_the_place_of_what_was_there() -> None:
    """Also where nothing was counted: a request of long ago may have left something by that name."""
    store = MemoryStore(VirtualClock(10**12))
    left, aside = Claim("a~", "i:1", SlidingWindow(1, 10 * SECOND)), Claim("a~", "i:1", Gcra(2, SECOND, 2))
    take(store, left)
    store.rename("a", "a~")
    assert [admitted(take(store, aside))[0] for _ in range(3)] == [True, True, False]


def test_an_observed_rate_refuses_nothing() -> None:
    """Exhausted, it says so; the enforced ones are consumed all the same."""
    store = MemoryStore(VirtualClock())
    claims = [Claim("seen", "", Gcra(1, SECOND, 1), enforced=False), Claim("real", "", Gcra(9, SECOND, 9))]
    taken = [take(store, *claims) for _ in range(5)]
    assert [admitted(one) for one in taken] == [[True, True], *[[False, True]] * 4]
    assert taken[-1].verdicts[1].remaining == 4


@by_name
def test_ten_thousand_claims_on_a_frozen_clock(kind: str) -> None:
    """Exactly the burst, or the count, is admitted."""
    store = MemoryStore(VirtualClock(123))
    algorithm = ALGORITHMS[kind]()
    total = sum(sum(admitted(take(store, Claim("a", "i:1", algorithm)))) for _ in range(10_000))
    assert total == (3 if kind == "gcra" else 4)


def test_a_limited_client_stays_limited_under_a_flood_of_keys() -> None:
    """An attacker who invents 50,000 names cannot wash his own state, nor a victim's, out of the table."""
    clock = VirtualClock(10**12)
    store = MemoryStore(clock, cap=1000)
    algorithm = Gcra(5, 60 * SECOND, 5)
    established = [Claim("a", f"i:good{number}", algorithm) for number in range(500)]
    for claim in established:
        take(store, claim)
    attacker = Claim("a", "i:attacker", algorithm)
    assert sum(admitted(take(store, attacker))[0] for _ in range(20)) == 5
    for number in range(50_000):
        take(store, Claim("a", f"i:{number}", algorithm))
    assert store.keys() <= 1000 + 1024
    assert not admitted(take(store, attacker))[0]
    assert all(sum(admitted(take(store, claim))[0] for _ in range(9)) == 4 for claim in established)


def test_after_a_flood_the_store_recovers() -> None:
    """Two horizons later newcomers have buckets of their own again."""
    clock = VirtualClock(10**12)
    store = MemoryStore(clock, cap=10)
    algorithm = Gcra(5, SECOND, 5)
    for number in range(5000):
        take(store, Claim("a", f"i:{number}", algorithm))
    for _ in range(2):
        clock.advance(SECOND)
        take(store, Claim("a", "i:tick", algorithm))
    newcomers = [Claim("a", f"i:new{number}", algorithm) for number in range(5)]
    assert all(sum(admitted(take(store, claim))[0] for _ in range(9)) == 5 for claim in newcomers)


def test_the_store_asks_only_its_clock() -> None:
    """A clock that stands still re-grants nothing, whatever the wall clock says."""
    store = MemoryStore(VirtualClock())
    claim = Claim("a", "", Gcra(7, SECOND, 7))
    assert sum(admitted(take(store, claim))[0] for _ in range(2000)) == 7


def test_what_is_forgotten_is_let_go_within_two_horizons_under_any_traffic() -> None:
    """50,000 clients that do not come back; one that does, a few hundred times, empties the table behind them."""
    clock = VirtualClock(10**12)
    store = MemoryStore(clock)
    algorithm = Gcra(5, SECOND, 5)
    for number in range(50_000):
        take(store, Claim("a", f"i:{number}", algorithm))
    assert store.keys() == 50_000
    for _ in range(512):
        clock.advance(2 * SECOND // 256)
        take(store, Claim("a", "i:alone", algorithm))
    assert store.keys() == 1


def test_no_single_decision_moves_many_keys() -> None:
    """However many clients are held, one decision forgets at most one shard of 256."""
    clock = VirtualClock(10**12)
    store = MemoryStore(clock)
    algorithm = Gcra(5, SECOND, 5)
    for number in range(50_000):
        take(store, Claim("a", f"i:{number}", algorithm))
    most, before = 0, 50_000
    for _ in range(600):
        clock.advance(SECOND)
        take(store, Claim("a", "i:alone", algorithm))
        held = sum(len(one.old) + len(one.young) for one in store._tables["a"].shards)  # pyright: ignore[reportPrivateUsage]
        most, before = max(most, before - held), held
    assert before == 1
    assert 0 < most < 400


@pytest.mark.proof
def test_ten_thousand_sequences_equal_the_unbounded_reference() -> None:
    """10,000 random sequences, three algorithms: evicting generations differ from a plain dict nowhere."""
    chance = random.Random("generations")
    differences = 0
    for turn in range(10_000):
        algorithm = ALGORITHMS[chance.choice(list(ALGORITHMS))]()
        clock, states = VirtualClock(10**12 + turn), dict[int, Any]()
        store = MemoryStore(clock)
        for _ in range(30):
            clock.advance(chance.choice([0, 1, SECOND, 5 * SECOND, chance.randrange(25 * SECOND)]))
            client = chance.randrange(5)
            expected = judged(algorithm, states.get(client), clock.now())
            if expected.allowed:
                states[client] = expected.state
            verdict = take(store, Claim("a", str(client), algorithm)).verdicts[0]
            differences += (verdict.allowed, verdict.retry_after) != (expected.allowed, expected.retry_after)
    figure("eviction against an unbounded reference, 10,000 sequences", "0 differences", differences)
    assert differences == 0
