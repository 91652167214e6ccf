"""Who gets a place, who waits, who goes without: by rank, and never more than there are."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from mahavishnu.policies._codel import INTERVAL, TARGET, Codel
from mahavishnu.policies._places import CRITICAL, NORMAL, SHEDDABLE, Places, Waiter, bounds

MILLISECOND = 10**6


class Crowd:
    """Places, and what those who asked for one were told, by number."""

    def __init__(self, limit: int, queue: int, *, ranked: bool = True) -> None:
        self.places = Places(limit, queue, critical=ranked, sheddable=ranked)
        self.now = 0
        self.inside: list[int] = []
        self.refused: list[int] = []
        self.waiters: dict[int, Waiter] = {}
        self._next = 0

    def come(self, rank: int = NORMAL) -> int:
        number, self._next = self._next, self._next + 1
        if self.places.take(rank):
            self.inside.append(number)
            return number
        waiter = self.places.wait(rank, self.now, lambda given: self._told(number, given=given))
        if waiter is None:
            self.refused.append(number)
        else:
            self.waiters[number] = waiter
        return number

    def go(self) -> None:
        self.places.leave(self.now)

    def _told(self, number: int, *, given: bool) -> bool:
        del self.waiters[number]
        (self.inside if given else self.refused).append(number)
        return True


@given(st.integers(1, 1000), st.booleans(), st.booleans())
def test_each_rank_has_a_place_and_the_higher_never_less(limit: int, critical: bool, sheddable: bool) -> None:
    """Without ranks all are equal; nothing is kept from critical ones."""
    high, normal, low = bounds(limit, critical, sheddable)

    assert 1 <= low <= normal <= high == limit
    assert (normal == limit) == (not critical or limit == 1)
    assert (low == normal) == (not sheddable or normal == 1)


def test_the_last_places_are_kept_for_what_matters() -> None:
    """Of ten: eight for anyone, one more for normal, one more for critical ones."""
    crowd = Crowd(10, 0)

    for rank, fit in ((SHEDDABLE, 8), (NORMAL, 9), (CRITICAL, 10)):
        while crowd.places.take(rank):
            pass
        assert crowd.places.running == fit


def test_the_queue_is_served_by_rank_then_in_order() -> None:
    """Whoever came first among the most important ones."""
    crowd = Crowd(1, 9)
    crowd.come()
    for rank in (SHEDDABLE, NORMAL, CRITICAL, NORMAL, CRITICAL, SHEDDABLE):
        crowd.come(rank)
    for _ in range(6):
        crowd.go()

    assert crowd.inside == [0, 3, 5, 2, 4, 1, 6]


def test_a_critical_newcomer_takes_the_spot_of_a_lower_one() -> None:
    """The last of the lowest goes; none of the same rank ever does."""
    crowd = Crowd(1, 3)
    crowd.come()
    for rank in (SHEDDABLE, NORMAL, SHEDDABLE):
        crowd.come(rank)

    crowd.come(CRITICAL)
    assert crowd.refused == [3]
    crowd.come(NORMAL)
    assert crowd.refused == [3, 1]
    crowd.come(NORMAL)
    assert crowd.refused == [3, 1, 6]
    crowd.come(CRITICAL)
    assert crowd.refused == [3, 1, 6, 5]


def test_critical_ones_may_wait_where_nobody_else_may() -> None:
    """As many as there are places."""
    crowd = Crowd(2, 0)
    for _ in range(5):
        crowd.come(CRITICAL)
    crowd.come(NORMAL)

    assert (crowd.inside, sorted(crowd.waiters), crowd.refused) == ([0, 1], [2, 3], [4, 5])


def test_more_places_let_those_in_who_wait() -> None:
    """A limit that grows does not wait for somebody to leave; one that shrinks stops nobody."""
    crowd = Crowd(1, 9, ranked=False)
    for _ in range(5):
        crowd.come()
    crowd.places.resize(4, 0)
    assert crowd.inside == [0, 1, 2, 3]
    crowd.places.resize(1, 0)
    for _ in range(3):
        crowd.go()
    assert (crowd.inside, crowd.places.running) == ([0, 1, 2, 3], 1)
    crowd.go()
    assert (crowd.inside, crowd.places.running) == ([0, 1, 2, 3, 4], 1)


def test_all_who_wait_are_let_in_where_nobody_is_held_back() -> None:
    """By rank, and within a rank in order; no queue stands afterwards."""
    crowd = Crowd(1, 9)
    crowd.come()
    low, normal, other, high = (crowd.come(rank) for rank in (SHEDDABLE, NORMAL, NORMAL, CRITICAL))

    crowd.places.let_in()

    assert crowd.inside == [0, high, normal, other, low]
    assert (crowd.places.running, crowd.places.waiting, crowd.places.standing) == (5, 0, False)


def test_a_drained_limit_does_not_drain_what_is_critical() -> None:
    """They keep all the places."""
    crowd = Crowd(20, 0)
    crowd.places.resize(10, 0, whole=20)
    while crowd.places.take(NORMAL):
        pass
    assert crowd.places.running == 9
    while crowd.places.take(CRITICAL):
        pass
    assert crowd.places.running == 20


def standing() -> Crowd:
    """One place, and a queue in which everyone has waited for 20 ms, for more than 100 ms."""
    crowd = Crowd(1, 100)
    for _ in range(20):
        crowd.come()
    for _ in range(8):
        crowd.now += 20 * MILLISECOND
        crowd.go()
        crowd.come()
    return crowd


def test_a_queue_that_never_empties_is_cut_and_turned_round() -> None:
    """Who has waited for more than 5 ms is refused, and the newest goes first."""
    crowd = standing()
    assert crowd.places.standing
    served = len(crowd.inside)

    crowd.now += 6 * MILLISECOND
    first, last = crowd.come(), crowd.come()
    crowd.go()

    assert crowd.inside[served:] == [last]
    assert set(crowd.waiters) == {first}
    crowd.go()
    assert crowd.inside[-1] == first
    crowd.go()
    assert not crowd.places.standing


def test_a_standing_queue_keeps_its_critical_ones_in_order() -> None:
    """They wait as long as they may, first come first served."""
    crowd = standing()
    numbers = [crowd.come(CRITICAL) for _ in range(3)]
    crowd.now += 50 * MILLISECOND
    served = len(crowd.inside)
    for _ in range(3):
        crowd.go()

    assert crowd.inside[served:] == numbers


def test_a_burst_is_no_standing_queue() -> None:
    """It waits long, once: nobody is refused for it."""
    crowd = Crowd(1, 100)
    for _ in range(30):
        crowd.come()
    for _ in range(30):
        crowd.now += 3 * MILLISECOND
        crowd.go()

    assert not crowd.places.standing
    assert crowd.refused == []


def test_codel_judges_by_the_least_wait_of_an_interval() -> None:
    """One short wait in it, and the queue is as it should be."""
    for shortest, stands in ((TARGET, False), (TARGET + 1, True)):
        codel = Codel()
        for step in range(12):
            wait = shortest if step == 5 else 10 * TARGET
            codel.waited(wait, step * INTERVAL // 10)
        assert codel.standing is stands
        codel.empty()
        assert not codel.standing


@given(st.integers(0, 10_000))
def test_random_crowds_keep_every_promise(seed: int) -> None:
    """Never more than the limit, no place idle that a waiting one may have, none lost, no lower before a higher."""
    chance = random.Random(seed)
    limit, queue = chance.randint(1, 12), chance.randint(0, 6)
    crowd = Crowd(limit, queue, ranked=chance.random() < 0.7)
    left = 0
    for _ in range(200):
        crowd.now += chance.randrange(20 * MILLISECOND)
        what = chance.random()
        if what < 0.6:
            crowd.come(chance.choice((CRITICAL, NORMAL, NORMAL, SHEDDABLE)))
        elif what < 0.7 and crowd.waiters:
            number = chance.choice(sorted(crowd.waiters))
            crowd.places.withdraw(crowd.waiters.pop(number))
        elif crowd.places.running:
            crowd.go()
            left += 1
        assert crowd.places.running == len(crowd.inside) - left <= limit
        assert crowd.places.waiting == len(crowd.waiters) <= max(queue, limit)
        for waiter in crowd.waiters.values():
            assert crowd.places.running >= crowd.places.bounds[waiter.rank]
    while crowd.places.running:
        crowd.now += MILLISECOND
        crowd.go()
    assert crowd.places.waiting == len(crowd.waiters) == 0
