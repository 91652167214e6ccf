"""A fleet that rolls from one rule to another: both at work on one server, and each counts what the other lets in."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from itertools import combinations, permutations
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mahavishnu.algorithms import Gcra, SlidingLog, SlidingWindow
from mahavishnu.protocols import Algorithm
from mahavishnu.runtime.limits.carried import carried
from mahavishnu.runtime.redis.taken import Plan
from tests.runtime.redis.servers import Charged, Server, server
from tests.runtime.redis.test_script import DAY, SECOND, START, Lua, algorithms, most
from tests.runtime.redis.test_store import fleet

MINUTE, HOUR = 60 * SECOND, 3_600 * SECOND
RULES: dict[str, Algorithm] = {
    "20/day": Gcra(20, DAY * 1000, 20),
    "40/day": Gcra(40, DAY * 1000, 40),
    "7/day, by crooked numbers": Gcra(7, DAY * 1000, 7),
    "20/hour": Gcra(20, HOUR * 1000, 20),
    "20/day, burst 5": Gcra(20, DAY * 1000, 5),
    "20/day in a window": SlidingWindow(20, DAY * 1000),
    "50/day in a window": SlidingWindow(50, DAY * 1000),
    "20/hour in a window": SlidingWindow(20, HOUR * 1000),
    "20/day in a log": SlidingLog(20, DAY * 1000),
    "30/hour in a log": SlidingLog(30, HOUR * 1000),
}
NOON = START // DAY * DAY + DAY // 2
"""Not near the end of a window."""


@pytest.fixture(scope="module")
def one() -> Iterator[Server]:
    with server() as running:
        yield running


@pytest.fixture
def lua(one: Server) -> Iterator[Lua]:
    with one.client() as client:
        yield Lua(client)


def version(algorithm: Algorithm, cost: int = 1, *, enforced: bool = True) -> Plan:
    """The rate `calls`, as processes with this rule charge it."""
    return Plan((Charged("calls", algorithm, cost, enforced),), "shop")


def admitted(lua: Lua, plan: Plan, now: int, times: int) -> int:
    return sum(lua.take(plan, ["k"], now).admitted for _ in range(times))


@pytest.mark.parametrize(("old", "new"), list(permutations(RULES, 2)), ids=lambda name: name)
def test_who_has_nothing_left_of_the_old_rule_has_nothing_left_of_the_new_one(
    lua: Lua, old: str, new: str
) -> None:
    """Up, down, another period, burst or algorithm: at once, whoever asks first; nobody else is the worse for it."""
    before, after = version(RULES[old]), version(RULES[new])
    assert admitted(lua, before, NOON, 99) == most(RULES[old])
    assert admitted(lua, after, NOON, 5) == 0
    assert admitted(lua, before, NOON, 1) == 0
    other = lua.take(after, ["another"], NOON)
    assert other.standing(0).remaining == most(RULES[new]) - 1


class Both:
    """Two versions as state machines: each counts every request that either has let in, by its own rule."""

    def __init__(self) -> None:
        self.states: dict[Algorithm, Any] = {}
        self.last: Algorithm | None = None

    def take(self, rule: Algorithm, now: int) -> bool:
        """Whether one with this rule lets a request in."""
        if not any(one.used(state, now)[0] for one, state in self.states.items()):
            self.states, self.last = {}, None
        if rule not in self.states:
            self.states[rule] = self.last and carried(self.states[self.last], self.last, rule, now)
        if rule.admit(self.states[rule], now, 1) is None:
            return False
        self.states = {one: filled(one, state, now) for one, state in self.states.items()}
        self.last = rule
        return True


def filled(rule: Any, state: Any, now: int) -> Any:
    """What follows from one more request, which is there whether it fits or not."""
    after = rule.admit(state, now, 1)
    if after is not None:
        return after
    if isinstance(rule, Gcra):
        return rule.having(rule.most, 1, now)
    if isinstance(rule, SlidingLog):
        live = (at for at in state if at > now - rule.period)
        return (*live, now)[-rule.count :]
    index = now // rule.period
    before, current = {0: state[1:], 1: (state[2], 0)}.get(index - state[0], (0, 0))
    return index, before, min(rule.count, current + 1)


@pytest.mark.parametrize(("old", "new"), list(combinations(RULES, 2)), ids=lambda name: name)
def test_side_by_side_each_counts_what_both_let_in(lua: Lua, old: str, new: str) -> None:
    """Requests that go now to the one, now to the other, for days: each is decided as if all had come to it."""
    rules, chance = [RULES[old], RULES[new]], random.Random(old + new)
    plans, both, now, said = [version(one) for one in rules], Both(), NOON, list[bool]()
    for turn in (0, 1, *chance.choices((0, 1), k=300)):
        said.append(lua.take(plans[turn], ["k"], now).admitted)
        assert said[-1] == both.take(rules[turn], now * 1000)
        step = chance.choice([0, 0, 0, 0, 0, 0, SECOND, MINUTE, 20 * MINUTE, HOUR])
        now += step and step + chance.randrange(1, MINUTE)
    assert len(set(said)) == 2


def test_a_number_that_is_raised_admits_that_number_and_no_more(lua: Lua) -> None:
    """20 a day by the old processes, then by the new ones 40: half used is half used, and 20 again are left."""
    old, new = version(RULES["20/day"]), version(RULES["40/day"])
    assert admitted(lua, old, NOON, 10) == 10
    assert admitted(lua, new, NOON, 99) == 20
    assert admitted(lua, old, NOON, 9) == 0
    assert admitted(lua, new, NOON + DAY // 40, 9) == 1


def test_a_number_that_is_lowered_counts_what_was_used_of_the_larger_one(lua: Lua) -> None:
    """12 of 40 used: 8 of 20 are left, for both versions together."""
    old, new = version(RULES["40/day"]), version(RULES["20/day"])
    assert admitted(lua, old, NOON, 12) == 12
    assert admitted(lua, new, NOON, 3) == 3
    assert admitted(lua, old, NOON, 2) == 2
    assert admitted(lua, new, NOON, 99) == 3
    assert admitted(lua, old, NOON, 99) == 20


def test_going_to_and_fro_costs_nobody_more_than_his_requests(lua: Lua) -> None:
    """A roll that lasts for long, or is undone: what is converted once is not converted again and again."""
    plans = version(RULES["20/day"]), version(SlidingWindow(1000, HOUR * 1000)), version(RULES["20/hour"])
    for plan in plans:
        lua.take(plan, ["k"], NOON)
    now = NOON
    for turn in range(60):  # a request in 80 minutes: all of them have room for that
        now += 80 * MINUTE
        assert lua.take(plans[turn % 3], ["k"], now).admitted


def test_what_is_refilled_by_the_new_rule_is_not_taken_from_the_old_one_again(lua: Lua) -> None:
    """The old one remembers for a day, the new one for an hour: who has paused for that has all of it."""
    old, new = version(RULES["20/day"]), version(RULES["20/hour"])
    assert admitted(lua, old, NOON, 20) == 20
    assert admitted(lua, new, NOON, 1) == 0
    for pause in (1, 2, 9):
        later = lua.take(new, ["k"], NOON + pause * HOUR + 1 + MINUTE)
        assert later.admitted
        assert later.standing(0).remaining == 19


def test_a_rule_that_nobody_has_any_more_is_forgotten(lua: Lua) -> None:
    """After its own time, also of who never pauses; and a bucket never holds more than four rules."""
    for count in range(20, 30):
        lua.take(version(Gcra(count, DAY * 1000, count)), ["k"], NOON)
    assert len(_rules(lua)) == 4
    assert _rules(lua)[0] == b"g29.86400000000.29"
    new, now = version(RULES["20/hour"]), NOON
    while now < NOON + 2 * DAY:
        now += HOUR
        assert lua.take(new, ["k"], now).admitted
    assert _rules(lua) == [b"g20.3600000000.20"]


def _rules(lua: Lua) -> list[bytes]:
    (key,) = lua.client.scan_iter()
    text, found = lua.client.get(key), list[bytes]()
    while text:
        head, _, rest = text.partition(b"\n")
        name, _, size = head.split(b" ")
        found.append(name)
        text = rest[int(size) :]
    return found


@pytest.mark.parametrize("name", RULES)
def test_what_is_given_back_during_a_roll_is_given_back_by_its_rule(lua: Lua, name: str) -> None:
    """The other one keeps it, until it is refilled there."""
    old, new = version(RULES[name]), version(Gcra(60, DAY * 1000, 60))

    def left(plan: Plan) -> int:
        taken = lua.take(plan, ["k"], NOON)
        lua.give_back(taken, NOON)
        return taken.standing(0).remaining

    before, other = left(old), left(new)
    assert [left(old) for _ in range(3)] == [before - 1] * 3
    assert left(new) == other - 3


@pytest.mark.parametrize(
    ("old", "new"), list(permutations(["20/day", "20/day in a window", "20/day in a log"], 2))
)
def test_a_clock_that_goes_back_in_a_roll_gives_nothing_and_locks_nobody_out(
    lua: Lua, old: str, new: str
) -> None:
    """By seven days, with both at work."""
    plans = version(RULES[old]), version(RULES[new])
    assert admitted(lua, plans[0], NOON, 99) == 20
    assert admitted(lua, plans[1], NOON, 1) == 0
    back = NOON - 7 * DAY
    assert [admitted(lua, plan, back, 1) for plan in plans] == [0, 0]
    after = back + 2 * DAY + 1
    assert sum(admitted(lua, plan, after, 1) for plan in plans) == 2


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(algorithms(), algorithms(), st.integers(1, 30), st.floats(0, 1))
def test_the_server_carries_over_what_a_process_would(
    lua: Lua, old: Algorithm, new: Algorithm, times: int, pause: float
) -> None:
    """Any rule to any other: never more is left than `carried` says, and less only by rounding: by one request, and by
    what a microsecond refills, the smallest time that the server knows."""
    lua = Lua(lua.client)
    now, state, plan = START, None, version(old)
    for _ in range(times):
        if not lua.take(plan, ["k"], now).admitted:
            break
        state = old.admit(state, now * 1000, 1)
    now += int(pause * old.horizon / 1000)
    right = carried(state, old, new, now * 1000)
    said = lua.take(version(new, enforced=False), ["k"], now)
    left = said.standing(0).remaining + (1 if 0 not in said.denied else 0)
    expected, _ = new.standing(right, now * 1000)
    assert expected - 1 - refilled(new) <= left <= expected


def refilled(by: Any) -> int:
    """What a microsecond does."""
    return int(1000 * by.count // by.period)


@pytest.mark.parametrize("numbers", [(20, 21), (20, 10), (20, 40)])
def test_processes_of_both_versions_share_what_a_client_may(one: Server, numbers: tuple[int, int]) -> None:
    """On the real clock, over two stores: the old version, the new one, the old one again."""
    charges = [(Charged("quota", Gcra(count, DAY * 1000, count)),) for count in numbers]

    async def story() -> list[int]:
        async with fleet(one.unix) as old, fleet(one.unix) as new:
            return [
                await _let_in(*turn) for turn in ((old, charges[0]), (new, charges[1]), (old, charges[0]))
            ]

    with one.client() as client:
        client.flushall()
    assert asyncio.run(story()) == [20, 0, 0]


async def _let_in(store: Any, charges: Sequence[Charged]) -> int:
    return sum([(await store.take(charges)).admitted for _ in range(50)])
