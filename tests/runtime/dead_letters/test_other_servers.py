"""Letters on servers that change places: they are kept by whichever takes them, and what is told of the others."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from mahavishnu.runtime.dead_letters.letters import LettersUnreachable
from mahavishnu.runtime.dead_letters.redis import RedisLetters
from tests.runtime.dead_letters.letterboxes import keep, letter, take
from tests.runtime.redis.servers import Cluster, Server, cluster, server

KEYS = "{mahavishnu:shop:letters}"


@pytest.fixture
def nodes() -> Iterator[Cluster]:
    """A cluster of this test, which may end what it wants of it."""
    with cluster() as one:
        yield one


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> list[Server]:
    """The name `letters.example` leads to the last one of these."""
    led, found = list[Server](), socket.getaddrinfo

    def lookup(host: Any, port: Any, *more: Any, **said: Any) -> Any:
        known = ("127.0.0.1", led[-1].port) if host == "letters.example" else (host, port)
        return found(*known, *more, **said)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    return led


def _replica(one: Server) -> None:
    one.client().replicaof("127.0.0.1", 1)


def _alone(one: Server) -> None:
    one.client().config_set("min-replicas-to-write", 1)


def _full(one: Server) -> None:
    one.client().config_set("maxmemory", 1)


@pytest.mark.parametrize(
    ("fault", "told"),
    [(_replica, "READONLY"), (_alone, "NOREPLICAS"), (_full, "OOM")],
    ids=["replica", "alone", "full"],
)
def test_a_server_that_takes_nothing_is_left_when_its_name_leads_to_another(
    named: list[Server], fault: Any, told: str
) -> None:
    """It stays up and keeps its connections; what it says is told by its name."""
    with server() as old, server() as new:
        named.append(old)
        letters = RedisLetters("redis://letters.example", "shop")
        assert keep(letters, letter()) == ["stored"]
        fault(old)
        with pytest.raises(LettersUnreachable, match=rf"^the server of the dead letters: {told}$"):
            keep(letters, letter())
        named.append(new)
        assert [keep(letters, letter()), keep(letters, letter())] == [["stored"]] * 2
        assert (letters.stats().entries, len(letters.some(9)), len(take(letters))) == (2, 2, 2)
        letters.close()


@pytest.mark.proof
@pytest.mark.parametrize("distance", [0, 1], ids=["the node of our keys", "another one"])
def test_letters_on_a_cluster_are_kept_without_the_node_of_the_url(nodes: Cluster, distance: int) -> None:
    """One loss after another, without one letter lost: what a node had its replica has."""
    ours = nodes.of(KEYS)
    named = (ours + distance) % 3
    letters = RedisLetters(nodes.primaries[named].url, "shop")
    assert keep(letters, letter()) == ["stored"]
    nodes.kill(named)
    assert keep(letters, letter()) == ["stored"]
    if distance:
        nodes.kill(ours)
    assert keep(letters, letter()) == ["stored"]
    assert (letters.stats().entries, len(letters.some(9)), len(take(letters))) == (3, 3, 3)
    letters.close()
    assert not [one for one in nodes.primaries[ours].client().client_list() if "evalsha" in one["cmd"]]


def test_a_slot_that_moves_is_followed(nodes: Cluster) -> None:
    """A planned failover: the node that was asked stays up, as a replica."""
    ours = nodes.of(KEYS)
    letters = RedisLetters(nodes.primaries[ours].url, "shop")
    for _ in range(3):
        assert keep(letters, letter()) == ["stored"]
        nodes.fail_over(ours)
    assert (letters.stats().entries, len(take(letters))) == (3, 3)
    letters.close()


def test_a_node_that_hangs_is_left_for_the_next(nodes: Cluster) -> None:
    """Nobody hangs up; its replica has taken its place meanwhile."""
    ours = nodes.of(KEYS)
    hung = nodes.primaries[ours]
    letters = RedisLetters(f"{nodes.primaries[ours - 1].url}?socket_timeout=0.5", "shop")
    assert keep(letters, letter()) == ["stored"]
    hung.send(signal.SIGSTOP)
    nodes.nodes.remove(hung)
    nodes.fail_over(ours, copied=False)
    assert keep(letters, letter()) == ["stored"]
    letters.close()


def test_why_a_server_is_not_there_is_told_without_its_address() -> None:
    """In the system's words."""
    letters = RedisLetters("redis://:hunter2@127.0.0.1:1", "shop")
    with pytest.raises(LettersUnreachable, match=r"^the server of the dead letters: Connection refused$"):
        keep(letters, letter())
    silent = socket.create_server(("127.0.0.1", 0))
    url = f"redis://127.0.0.1:{silent.getsockname()[1]}?socket_timeout=0.05"
    with (
        silent,
        pytest.raises(LettersUnreachable, match=r"^the server of the dead letters: no answer in time$"),
    ):
        keep(RedisLetters(url, "shop"), letter())


def test_a_wrong_password_and_a_missing_right_are_told_in_the_servers_words() -> None:
    """Not by one name for many faults: whoever reads it knows what to give."""
    with server("--requirepass", "s3cret") as one:
        one.client(password="s3cret").execute_command("ACL", "SETUSER", "few", "on", ">s3cret", "~*", "+get")
        told: list[str] = []
        for login in ("", "few:wr0ng@", "few:s3cret@"):
            letters = RedisLetters(one.url.replace("//", f"//{login}"), "shop")
            with pytest.raises(LettersUnreachable) as fault:
                keep(letters, letter())
            told.append(str(fault.value).removeprefix("the server of the dead letters: "))
            letters.close()
    assert told[:2] == ["NOAUTH", "WRONGPASS"]
    assert told[2].startswith("NOPERM ")
    assert "evalsha" in told[2]
    assert not any(word in each for each in told for word in ("s3cret", "wr0ng"))
