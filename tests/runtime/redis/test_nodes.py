"""Which node of a cluster is asked next, and what is told of those that did not answer."""

from __future__ import annotations

from typing import Any

import pytest

from mahavishnu.clock import SystemClock
from mahavishnu.runtime.redis.address import Address
from mahavishnu.runtime.redis.known import Known
from mahavishnu.runtime.redis.nodes import Nodes

SLOTS: Any = [
    [0, 5460, [b"10.0.0.1", 7001, b"id"], [b"10.0.0.4", 7004, b"id", []]],
    [5461, 9000, [b"10.0.0.2", 7002, b"id"], [b"?", 7005, b"id", []]],
    [9001, 16383, [b"10.0.0.1", 7001, b"id"], [None, 7006, b"id", []]],
]
SEED = Address("redis.example")


def asked(nodes: Nodes, times: int) -> list[str]:
    """Who is asked in so many tries that fail."""
    said: list[str] = []
    for _ in range(times):
        said.append(f"{nodes.at.host}:{nodes.at.port}")
        nodes.failed()
    return said


def test_a_server_that_is_no_cluster_is_asked_again_and_again() -> None:
    """By its name, which may lead elsewhere by now."""
    nodes = Nodes(SEED)
    nodes.learn("ERR This instance has cluster support disabled")
    assert asked(nodes, 3) == ["redis.example:6379"] * 3


def test_the_last_one_that_answered_and_the_seed_are_asked_in_turn() -> None:
    """Where no more is known; being sent on to a node that is dead counts as a try of the one that has sent."""
    nodes = Nodes(SEED)
    assert nodes.moved("MOVED 4139 10.0.0.1:7001")
    nodes.answered()
    assert nodes.at == Address("10.0.0.1", 7001)
    tries: list[str] = []
    for _ in range(4):
        tries.append(nodes.at.host)
        nodes.moved("MOVED 4139 10.0.0.1:7001")
        nodes.failed()
    assert tries == ["10.0.0.1", "redis.example"] * 2


def test_all_nodes_of_a_cluster_are_asked_in_turn_replicas_first() -> None:
    """From the one that answered last; the seed among them, and one without a name at the address that was asked."""
    nodes = Nodes(SEED)
    nodes.moved("MOVED 6000 10.0.0.2:7002")
    nodes.answered()
    nodes.learn(SLOTS)
    ring = ["10.0.0.2:7002", "10.0.0.2:7006", "redis.example:6379", "10.0.0.1:7001", "10.0.0.4:7004"]
    assert asked(nodes, 7) == ring + ring[:2]


@pytest.mark.parametrize(
    "said", [None, 7, [7], [[1, 2, 3]], [[0, 1, ["text", 7001]]], [[0, 1, [b"h", b"x"]]]]
)
def test_what_is_no_answer_teaches_nothing(said: object) -> None:
    """Whatever it is; what was known is known."""
    nodes = Nodes(SEED)
    nodes.learn(SLOTS)
    nodes.learn(said)
    nodes.failed()
    assert nodes.at == Address("10.0.0.1", 7001)


@pytest.mark.parametrize("said", ["MOVED 7 elsewhere", "MOVED", "MOVED 7 host:port", ""])
def test_who_names_no_node_leads_nowhere(said: str) -> None:
    """The same one is asked."""
    nodes = Nodes(SEED)
    assert not nodes.moved(said)
    assert nodes.at == SEED


def test_each_reason_of_an_outage_is_told_once() -> None:
    """However often they take turns: the nodes of a cluster do not all say the same."""
    told: list[tuple[bool, str]] = []
    known = Known(SystemClock(), lambda up, why: told.append((up, why)))
    for why in (
        "CLUSTERDOWN",
        "Connection refused",
        "CLUSTERDOWN",
        "Connection refused",
        "",
        "",
        "CLUSTERDOWN",
    ):
        known.say(why)
    assert told == [(False, "CLUSTERDOWN"), (False, "Connection refused"), (True, ""), (False, "CLUSTERDOWN")]
