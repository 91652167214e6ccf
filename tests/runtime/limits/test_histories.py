"""Calls made at the same time are answered as if they had come one after the other; planted bugs are seen."""

from __future__ import annotations

import inspect
import random
import textwrap
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import pairwise
from typing import Any, NamedTuple

import pytest

from mahavishnu import limits
from mahavishnu.algorithms import Gcra, SlidingLog, SlidingWindow
from mahavishnu.runtime.limits import engine, unrolled
from mahavishnu.runtime.limits.fast_path import FastPath
from mahavishnu.runtime.limits.memory_store import MemoryStore, Shard, Taking
from mahavishnu.runtime.redis.link import Link
from tests.figures import FULL, figure
from tests.runtime.limits.histories import (
    CALLERS,
    CALLS,
    CLIENTS,
    DAY,
    SECOND,
    Call,
    Rate,
    excess,
    explained,
    in_tasks,
    in_threads,
    on_redis,
    some_rates,
)
from tests.runtime.redis.servers import server

HISTORIES = 500 if FULL else 10
TRIES, FEW = 100, 6
"""How many histories of how many calls by each caller a bug has to hide: to see that none explains one takes long."""


def threads(dice: random.Random, calls: int = CALLS) -> tuple[Sequence[Rate], list[Call]]:
    """What a tool's callers see, whatever the algorithms."""
    rates = some_rates(dice)
    return rates, in_threads(rates, dice, calls)


def tasks(dice: random.Random, calls: int = CALLS) -> tuple[Sequence[Rate], list[Call]]:
    """What requests see, decided in one pass."""
    rates = some_rates(dice, usual=True)
    return rates, in_tasks(rates, dice, calls)


History = Callable[[random.Random, int], tuple[Sequence[Rate], list[Call]]]


def sound(made: tuple[Sequence[Rate], list[Call]]) -> bool:
    """Whether some order explains a history, and no window of it is too full."""
    return explained(*made) and excess(*made) <= 0


def overlapping(calls: Sequence[Call]) -> int:
    """How many began before the one before them had ended."""
    return sum(after.began < before.ended for before, after in pairwise(calls))


@pytest.mark.proof
def test_every_history_has_an_order_that_explains_it() -> None:
    """Eight callers at once, two hundred calls: what each is answered, and how full any window of any beginning is."""
    overlaps = admitted = 0
    for seed in range(HISTORIES):
        for history in (threads, tasks):
            rates, calls = history(random.Random(seed), CALLS)
            assert len(calls) == CALLERS * CALLS
            assert explained(rates, calls), (history.__name__, seed, rates)
            assert excess(rates, calls) <= 0, (history.__name__, seed, rates)
            overlaps += overlapping(calls)
            admitted += sum(call.wait is None for call in calls)
    every = 2 * HISTORIES * CALLERS * CALLS
    assert overlaps > HISTORIES  # else nothing has happened at the same time
    assert 0.1 < admitted / every < 0.9
    figure(
        "histories of 200 calls by 8 callers: explained, no window too full",
        f"{2 * HISTORIES} of {2 * HISTORIES}",
        f"{2 * HISTORIES}, {admitted / every:.0%} let in, {overlaps:,} overlaps",
    )


@pytest.mark.proof
@pytest.mark.judge
def test_a_shared_store_answers_in_some_order_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the server's clock, in a day in which hardly anything comes back: who is let in, of those who ask together."""
    number = 2 * HISTORIES // 3
    with server() as one:
        url, overlaps = f"{one.url}?socket_timeout=5", 0
        for seed in range(number):
            rates, calls = shared(random.Random(seed), url, f"shop{seed}")
            assert explained(rates, calls), (seed, rates)
            overlaps += overlapping(calls)
        monkeypatch.setattr(Link, "_answered", _with(CROSSED))
        assert not all(
            explained(*shared(random.Random(seed), url, f"crossed{seed}")) for seed in range(TRIES)
        )
    assert overlaps > number * CALLERS
    figure("histories on Redis: explained", f"{number} of {number}", f"{number}, {overlaps:,} overlaps")


def shared(dice: random.Random, url: str, name: str) -> tuple[Sequence[Rate], list[Call]]:
    """What requests see, whatever the algorithms, in the name of this service."""
    rates = [one._replace(quota=60, burst=30) for one in some_rates(dice, period=DAY)]
    return rates, on_redis(rates, dice, url, name)


class Bug(NamedTuple):
    """What is written instead of what, in which function; and who shall see it."""

    owner: Any
    name: str
    right: str
    wrong: str
    seen_by: History = threads

    def __str__(self) -> str:
        return f"{self.owner.__name__}.{self.name}: {self.wrong}"


BUGS = (
    Bug(Gcra, "admit", "after - ticks <= most", "after - ticks <= most + step"),
    Bug(Gcra, "admit", "after - ticks <= most", "after - ticks <= most - step"),
    Bug(Gcra, "admit", "state < ticks", "state < 0"),
    Bug(Gcra, "admit", "cost * step", "step"),
    Bug(Gcra, "wait", "max(0, ", "max(1, 1 + "),
    Bug(Gcra, "used", "- now * self._ticks", "- now"),
    Bug(SlidingWindow, "admit", "> self.count * self.period", ">= self.count * self.period"),
    Bug(SlidingWindow, "admit", "(self.period - elapsed)", "elapsed"),
    Bug(SlidingWindow, "_counts", "index - state[0] > 1", "index != state[0]"),
    Bug(SlidingWindow, "wait", "self.period - elapsed + self._fade", "self._fade"),
    Bug(SlidingLog, "admit", "<= self.count", "< self.count"),
    Bug(SlidingLog, "_live", "at > now - self.period", "at >= now - self.period"),
    Bug(SlidingLog, "wait", "live[over - 1]", "live[-1]"),
    Bug(Taking, "deny", "shard.restore(key, state)", "pass"),
    Bug(Shard, "restore", "self.young[key] = state", "pass"),
    Bug(MemoryStore, "take", "shard.young[key] = after", "shard.young[key + str(now)] = after"),
    Bug(engine, "longest", "max(", "min("),
    Bug(unrolled, "_JUDGE", "{beyond}", "False", tasks),
    Bug(unrolled, "_LOOK", "if state# >= clock else", "if state# < clock else", tasks),
    Bug(unrolled, "_LOOK", "cost# + ", "", tasks),
    Bug(unrolled, "_NAME", "{name}", "''", tasks),
    Bug(unrolled, "_TAKE", "clock + ahead#", "clock + state#", tasks),
    Bug(FastPath, "_refuse", "wait > longest", "wait < longest", tasks),
    Bug(FastPath, "_rested", "shard.old.pop(key, None)", "None", tasks),
)  # fmt: skip


CROSSED = Bug(Link, "_answered", "calls.popleft()", "calls.pop()")
"""Of those who asked in the same write each gets another's answer."""


@pytest.mark.proof
def test_every_planted_bug_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the histories would prove nothing; the last one is a lock that is not there."""
    missed: list[str] = []
    for bug in BUGS:
        with monkeypatch.context() as patch:
            patch.setattr(bug.owner, bug.name, _with(bug))
            unrolled.maker.cache_clear()
            if not _seen(bug.seen_by):
                missed.append(str(bug))
    unrolled.maker.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(limits, "_charging", nullcontext())
        if not _seen(threads):
            missed.append("no lock")
    assert not missed
    figure("planted bugs that a history shows", f"{len(BUGS) + 1} of {len(BUGS) + 1}", len(BUGS) + 1)


def _seen(history: History) -> bool:
    for seed in range(TRIES):
        try:
            if not sound(history(random.Random(seed), FEW)):
                return True
        except Exception:  # noqa: BLE001 - the bug itself may raise
            return True
    return False


def _with(bug: Bug) -> Any:
    right: Any = getattr(bug.owner, bug.name)
    source = right if isinstance(right, str) else textwrap.dedent(inspect.getsource(right))
    assert source.count(bug.right) >= 1, bug
    if isinstance(right, str):  # code that is written out
        return source.replace(bug.right, bug.wrong, 1)
    names = dict(right.__globals__)
    exec(source.replace(bug.right, bug.wrong, 1), names)
    return names[bug.name]


def made(*answers: tuple[int, int, str, int | None]) -> list[Call]:
    """Calls all at the same time of the clock."""
    return [Call(began, ended, 0, client, wait) for began, ended, client, wait in answers]


def test_the_search_knows_what_has_no_order() -> None:
    """One at a time of a client: overlapping calls may be either way round, one after the other may not."""
    rates = [Rate("gcra", 1, 1, 1, "client", SECOND)]
    ann, ben = CLIENTS[:2]
    assert explained(rates, made((0, 3, ann, SECOND), (1, 2, ann, None)))
    assert not explained(rates, made((0, 1, ann, SECOND), (2, 3, ann, None)))
    assert not explained(rates, made((0, 3, ann, None), (1, 2, ann, None)))
    assert explained(rates, made((0, 3, ann, None), (1, 2, ben, None)))
    assert not explained(rates, made((0, 3, ann, SECOND + 1), (1, 2, ann, None)))


def test_a_window_that_is_too_full_is_seen() -> None:
    """Of any length and beginning."""
    ann = CLIENTS[0]
    rates = [Rate("sliding_log", 2, 0, 1, "client", SECOND)]
    times = [0, SECOND - 1, SECOND, 2 * SECOND - 1, 2 * SECOND - 1]
    calls = [Call(at, at + 1, at, ann, None) for at in times]
    assert excess(rates, calls[:4]) == 0
    assert excess(rates, calls) == 1
