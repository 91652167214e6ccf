"""The rates in Lua, against the Python state machines they mirror, on a real server with a given clock."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from math import gcd
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mahavishnu.algorithms import Gcra, SlidingLog, SlidingWindow
from mahavishnu.protocols import Algorithm, Standing
from mahavishnu.runtime.redis.link import pack
from mahavishnu.runtime.redis.script import GIVE_BACK, TAKE
from mahavishnu.runtime.redis.taken import Answer, Plan
from tests.figures import FULL
from tests.runtime.redis.servers import Charged, server

SECOND = 10**6  # of a server's clock: µs
DAY = 86_400 * SECOND
START = 1_800_000_000 * SECOND
# So long that the real clock lets nothing expire; the test lets it expire by the given one.
_KEPT = 10**12
_SEEN = 10**14
# Of each key that was just written, for how long it is still there; then it is marked as seen.
_NOTE = """
local written = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  if redis.call('PEXPIRETIME', key) ~= tonumber(ARGV[1]) then
    written[#written + 1] = key
    written[#written + 1] = redis.call('PTTL', key)
    redis.call('PEXPIREAT', key, ARGV[1])
  end
end
return written
"""


def timed(text: str) -> str:
    """The script with its clock, and what it would keep a key for, in the hands of the test."""
    clock = "local time = redis.call('TIME')\nlocal now = time[1] * 1000000 + time[2]"
    kept = "math.max(math.ceil(us / 1000), 0) + 1"
    assert clock in text
    assert kept in text
    given = text.replace(clock, "local now = tonumber(table.remove(ARGV))")
    # In thousandths, so that the milliseconds until the test reads it do not count.
    return given.replace(kept, f"({kept}) * 1000 + {_KEPT}")


@pytest.fixture(scope="module")
def redis() -> Iterator[Any]:
    with server() as one, one.client() as client:
        yield client


class Lua:
    """The scripts on the server, at given times."""

    def __init__(self, client: Any) -> None:
        client.flushall()
        self.client = client
        self._take = client.register_script(timed(TAKE.text))
        self._give_back = client.register_script(timed(GIVE_BACK.text))
        self._written = client.register_script(_NOTE)
        self._ends: dict[bytes, int] = {}

    def take(self, plan: Plan, keys: Sequence[str], now: int) -> Answer:
        self._expire(now)
        words = plan.words(keys)
        taken = Answer(plan, keys, self._asked(self._take, words, now))
        self._note(now)
        return taken

    def give_back(self, taken: Answer, now: int) -> None:
        self._expire(now)
        if words := taken.returned():
            self._asked(self._give_back, words, now)
            self._note(now)

    def _asked(self, script: Any, words: Sequence[str], now: int) -> Any:
        many = int(words[0])
        return script(keys=words[1 : 1 + many], args=[*words[1 + many :], now])

    def _note(self, now: int) -> None:
        """When each key that was just written would be let go, by the given clock."""
        written = iter(self._written(args=[_SEEN]))
        for key, left in zip(written, written, strict=True):
            assert left > 0, "a key that is kept for ever"
            if left > _KEPT // 2:  # else it was set by the test itself
                self._ends[key] = now + -(-(left - _KEPT) // 1000) * 1000

    def _expire(self, now: int) -> None:
        for key, end in list(self._ends.items()):
            if end < now:
                self.client.delete(key)
                del self._ends[key]


class Model:
    """What the state machines say, with no server at all: states in ns that never expire."""

    def __init__(self, charges: Sequence[Charged]) -> None:
        self.charges = charges
        self.states: dict[tuple[str, str], Any] = {}

    def take(self, keys: Sequence[str], now: int) -> tuple[bool, list[int], list[Standing], list[Any]]:
        time = now * 1000
        places = [(one.name, key) for one, key in zip(self.charges, keys, strict=True)]
        befores = [self.states.get(place) for place in places]
        afters = [
            one.algorithm.admit(state, time, one.cost)
            for one, state in zip(self.charges, befores, strict=True)
        ]
        denied = [number for number, after in enumerate(afters) if after is None]
        admitted = not any(self.charges[number].enforced for number in denied)
        if admitted:
            self.states |= {at: after for at, after in zip(places, afters, strict=True) if after is not None}
        standings = [
            self._standing(one, self.states.get(place), after, time)
            for one, place, after in zip(self.charges, places, afters, strict=True)
        ]
        return admitted, denied, standings, afters if admitted else [None] * len(afters)

    def give_back(self, keys: Sequence[str], afters: Sequence[Any], at: int, now: int) -> None:
        for one, key, after in zip(self.charges, keys, afters, strict=True):
            if after is not None:
                place = (one.name, key)
                state = self.states[place]
                self.states[place] = one.algorithm.refund(state, after, at * 1000, now * 1000, one.cost)

    def _standing(self, one: Charged, state: Any, after: Any, time: int) -> Standing:
        left, reset = one.algorithm.standing(state, time)
        return Standing(left, reset, one.algorithm.wait(state, time, one.cost) if after is None else 0)


counts = st.sampled_from([1, 2, 3, 5, 7, 60, 1000, 999_999_937, 10**9]) | st.integers(1, 50)
periods = st.sampled_from([SECOND, 60 * SECOND, 97 * SECOND, 3_600 * SECOND, DAY, 97 * DAY, 3_650 * DAY])


@st.composite
def algorithms(draw: st.DrawFn) -> Algorithm:
    """Any algorithm within what a spec may say."""
    kind = draw(st.sampled_from(["gcra", "window", "log"]))
    count, period = draw(counts), draw(periods) * 1000
    if kind == "gcra":
        burst = min(draw(counts), max(1, 3_650 * DAY * 1000 * count // period))
        return Gcra(count, period, burst)
    return SlidingWindow(count, period) if kind == "window" else SlidingLog(min(count, 50), period)


def most(algorithm: Any) -> int:
    return int(algorithm.burst if isinstance(algorithm, Gcra) else algorithm.count)


@st.composite
def charged(draw: st.DrawFn) -> tuple[Charged, ...]:
    """One to three rates, each with a cost that a request could have."""
    found: list[Charged] = []
    for number in range(draw(st.integers(1, 3))):
        algorithm = draw(algorithms())
        fits = most(algorithm)
        cost = draw(st.sampled_from([1, 1, 1, 2, max(1, fits // 3), fits // 2 + 1]))
        if isinstance(algorithm, Gcra):
            cost = min(cost, 2**24 // 30)  # from 2^24 on the one in memory is a tick stricter
        found.append(
            Charged(f"limit{number}", algorithm, min(cost, fits), number == 0 or draw(st.booleans()))
        )
    return tuple(found)


def _step(data: st.DataObject, charges: Sequence[Charged], wait: int) -> int:
    """Some µs, at the places where something happens: at once, just before and after what was told."""
    period = int(charges[0].algorithm.period) // 1000
    count = charges[0].algorithm.count
    return data.draw(
        st.sampled_from(
            [0, 0, 0, 1, wait, max(0, wait - 1), period // count, period // 3, period, 2 * period + 1]
        )
        | st.integers(0, period)
    )


@settings(
    max_examples=2000 if FULL else 120,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(charged(), st.data())
def test_lua_decides_as_the_state_machines_do(
    redis: Any, charges: tuple[Charged, ...], data: st.DataObject
) -> None:
    """Random rates, times, keys and refunds: every decision and every number told is the same, to the ns."""
    lua, model, plan = Lua(redis), Model(charges), Plan(charges, "shop")
    now, wait = START, 0
    taken: list[tuple[Answer, list[str], list[Any], int]] = []
    for _ in range(data.draw(st.integers(1, 25), label="requests")):
        now += _step(data, charges, wait)
        keys = [data.draw(st.sampled_from(["a", "a", "b"]), label="key") for _ in charges]
        said = lua.take(plan, keys, now)
        admitted, denied, standings, afters = model.take(keys, now)
        assert (said.admitted, list(said.denied)) == (admitted, denied)
        assert [said.standing(place) for place in range(len(charges))] == standings
        wait = -(-(standings[0].retry_after or 0) // 1000)
        taken.append((said, keys, afters, now))
        if data.draw(st.booleans(), label="refund"):
            answer, names, states, at = taken.pop(data.draw(st.integers(0, len(taken) - 1), label="whose"))
            lua.give_back(answer, now)
            model.give_back(names, states, at, now)


def test_products_beyond_a_double_are_compared_to_the_last_unit(redis: Any) -> None:
    """400 windows that are full, or one 10^21st part short of it: Lua and Python agree on which."""
    chance = random.Random("products")
    lua, seen = Lua(redis), set[bool]()
    for turn in range(400):
        period = chance.randrange(SECOND, 3_650 * DAY, SECOND)
        before = chance.randrange(10**8, 10**9)
        while gcd(before, period) > 1:
            before += 1
        off = chance.choice([1, -1])
        left = pow(before, -1, period) * off % period
        room = (before * left - off) // period
        algorithm = SlidingWindow(10**9, period * 1000)
        now = START // period * period + period - left
        plan = Plan((Charged(f"limit{turn}", algorithm, 10**9 - room),), "shop")
        index = now // period
        body = f"{index - 1} 0 {before}"
        redis.set(plan.words(["a"])[1], f"{plan.twins[0].take[0]} {now} {len(body)}\n{body}", px=_KEPT)
        fits = algorithm.admit((index - 1, 0, before), now * 1000, 10**9 - room) is not None
        assert lua.take(plan, ["a"], now).admitted == fits
        seen.add(fits)
    assert seen == {True, False}


@pytest.mark.parametrize("kind", [Gcra, SlidingWindow, SlidingLog])
def test_who_waits_as_told_is_admitted_and_who_comes_a_microsecond_earlier_is_not(
    redis: Any, kind: Any
) -> None:
    """150 buckets with crooked numbers, full to the brim: the time that is told is the first at which it fits."""
    chance = random.Random(f"brim {kind.__name__}")
    for turn in range(150):
        lua = Lua(redis)
        count, period = chance.randrange(7, 60), chance.choice([SECOND, 60 * SECOND, DAY]) * 1000
        burst = (chance.randrange(4, 60),) if kind is Gcra else ()
        algorithm = kind(count, period, *burst)
        plan = Plan((Charged(f"limit{turn}", algorithm, chance.choice([1, 1, 3])),), "shop")
        now = START + chance.randrange(10**9)
        said = lua.take(plan, ["a"], now)
        while said.admitted:
            now += chance.randrange(period // count // 2000)
            said = lua.take(plan, ["a"], now)
        there = now + -(-(said.standing(0).retry_after or 0) // 1000)
        assert there > now
        assert not lua.take(plan, ["a"], there - 1).admitted
        assert lua.take(plan, ["a"], there).admitted


HOUR = 3_600 * SECOND


@pytest.mark.parametrize(
    "algorithm",
    [
        Gcra(5, HOUR * 1000, 5),
        Gcra(7, HOUR * 1000, 5),
        SlidingWindow(5, HOUR * 1000),
        SlidingLog(5, HOUR * 1000),
    ],
    ids=["gcra", "crooked gcra", "window", "log"],
)
def test_a_server_whose_clock_goes_back_gives_nothing_and_locks_nobody_out(
    redis: Any, algorithm: Algorithm
) -> None:
    """By seven hours: who has used up his limit gets nothing more, and all of it once it would have been refilled."""
    lua, plan = Lua(redis), Plan((Charged("calls", algorithm),), "shop")
    assert [lua.take(plan, ["k"], START).admitted for _ in range(6)] == [True] * 5 + [False]
    back = START - 7 * HOUR
    assert not lua.take(plan, ["k"], back).admitted
    wait = lua.take(plan, ["k"], back).standing(0).retry_after
    assert wait is not None
    assert 0 < wait <= algorithm.horizon
    for step in range(8):  # he asks all the time
        assert not lua.take(plan, ["k"], back + step * HOUR // 100).admitted
    after = back + algorithm.horizon // 1000 + 1
    assert [lua.take(plan, ["k"], after).admitted for _ in range(6)] == [True] * 5 + [False]


@given(charged(), st.lists(st.text(max_size=9), min_size=9, max_size=9))
def test_a_question_is_the_call_of_the_script_word_for_word(
    charges: tuple[Charged, ...], keys: list[str]
) -> None:
    """What is sent in one piece, most of it packed beforehand, is what the words make."""
    plan = Plan(charges, "shop")
    assert plan.question(keys) == pack("EVALSHA", TAKE.name, *plan.words(keys))
