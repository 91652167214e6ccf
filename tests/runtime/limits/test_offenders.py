"""Who is refused most is found among many, in little memory, and named by a hash."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from mahavishnu.runtime.limits.offenders import Offenders, Refusals
from mahavishnu.testing import VirtualClock
from tests.figures import figure

SECOND = 10**9
MINUTE = 60 * SECOND
SIZE = 128


@pytest.mark.parametrize("seed", range(40))
def test_frequent_clients_are_found(seed: int) -> None:
    """Against a full count: nobody above one in 129 is missing, no count is too high, or lower than it says."""
    chance = random.Random(seed)
    offenders, full = Offenders(), Counter[str]()
    crowd = chance.choice([1, 50, 127, 128, 129, 1000, 100_000])
    for _ in range(5000):
        client = f"c{int(crowd * chance.random() ** chance.choice([1, 4]))}"
        full[client] += 1
        offenders.saw(client, 0)
    total, missed, found = offenders.counts(0)
    assert total == 5000
    assert missed <= total // (SIZE + 1)
    assert {client for client, count in full.items() if count > total / (SIZE + 1)} <= set(found)
    assert all(full[client] - missed <= count <= full[client] for client, (count, _) in found.items())
    assert len(found) <= SIZE


def test_it_forgets_after_two_periods() -> None:
    """Five minutes are shown for at least five, and at most ten; then as if nothing had been."""
    offenders = Offenders()
    offenders.saw("a", MINUTE)
    assert offenders.counts(4 * MINUTE)[2] == {"a": (1, MINUTE)}
    offenders.saw("a", 7 * MINUTE)
    assert offenders.counts(7 * MINUTE) == (2, 0, {"a": (2, 7 * MINUTE)})
    offenders.saw("b", 13 * MINUTE)
    assert offenders.counts(13 * MINUTE) == (2, 0, {"a": (1, 7 * MINUTE), "b": (1, 13 * MINUTE)})
    assert offenders.counts(40 * MINUTE) == (0, 0, {})


def test_clients_have_no_names() -> None:
    """The same client has one hash in a process and another one in the next; the most refused comes first."""
    one, other = (Refusals(VirtualClock()) for _ in range(2))
    for refusals in (one, other):
        refusals.know(["a"])
        for client in ("203.0.113.7", "u:ann", "203.0.113.7"):
            refusals.saw("a", client)
    total, missed, top = one.top("a", 5)
    assert (total, missed) == (3, 0)
    assert [(seen.hash, seen.refused) for seen in top] == [
        (one.hash("203.0.113.7"), 2),
        (one.hash("u:ann"), 1),
    ]
    assert not {seen.hash for seen in top} & {seen.hash for seen in other.top("a", 5)[2]}


def test_only_the_limits_of_the_spec_are_counted() -> None:
    """Another spec keeps the counts of the limits that it keeps."""
    refusals = Refusals(VirtualClock())
    refusals.know(["a", "b"])
    for limit in ("a", "b", "invented"):
        refusals.saw(limit, "x")
    refusals.know(["b", "c"])
    assert {name: refusals.top(name, 5)[0] for name in refusals.limits} == {"b": 1, "c": 0}


@pytest.mark.proof
def test_a_million_spoofed_clients_cost_nothing() -> None:
    """Among them one that is refused once in a hundred times: it is found, in 256 counters at the most."""
    refusals = Refusals(VirtualClock())
    refusals.know(["a"])
    for number in range(1_000_000):
        refusals.saw("a", "u:ann" if number % 100 == 0 else f"198.51.100.{number}")
    total, missed, top = refusals.top("a", 20)
    place = [one.hash for one in top].index(refusals.hash("u:ann"))
    figure("place of a client with 1 % of a million refusals of others", "1", place + 1)
    figure(
        "its count, and by how much it may be too low", "10,000 between", f"{top[place].refused} + {missed}"
    )
    assert place == 0
    assert top[0].refused <= 10_000 <= top[0].refused + missed
    assert total == 1_000_000
