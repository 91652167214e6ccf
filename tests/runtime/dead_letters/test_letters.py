"""What keeps dead letters: the same steps in a file and on a server, each of them whole."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import redis.exceptions

from mahavishnu.clock import SystemClock
from mahavishnu.errors import MahavishnuError
from mahavishnu.runtime.dead_letters import sqlite
from mahavishnu.runtime.dead_letters.letters import (
    LEFT_BEHIND,
    Bounds,
    Letters,
    LettersSilent,
    LettersUnreachable,
    Standing,
)
from mahavishnu.runtime.dead_letters.queue import letters_of, queue_of
from mahavishnu.runtime.dead_letters.redis import RedisLetters
from mahavishnu.runtime.dead_letters.sqlite import SqliteLetters
from mahavishnu.runtime.dead_letters.writer import LetterWriter
from mahavishnu.spec import Spec
from tests.runtime.dead_letters.letterboxes import (
    LEASE,
    ROOM,
    STORES,
    Time,
    held_up,
    keep,
    letter,
    stored,
    take,
)
from tests.runtime.redis.servers import Server, server


@pytest.fixture
def now() -> Time:
    """The time of day."""
    return Time()


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    """One server for all tests of this file."""
    with server() as one:
        yield one


@pytest.fixture(params=STORES)
def letters(request: pytest.FixtureRequest, tmp_path: Path, now: Time, running: Server) -> Iterator[Letters]:
    """Each of the stores."""
    with stored(request.param, tmp_path, now, running) as one:
        yield one


def test_a_letter_comes_back_as_it_was_put(letters: Letters, now: Time) -> None:
    """Every field, bytes that are no text included."""
    one = letter(payload=bytes(range(256)))
    assert keep(letters, one, pause=500) == ["stored"]

    found = letters.find(one.id)

    assert found is not None
    assert found.payload == one.payload
    assert (found.operation, found.key, found.request, found.error) == ("charge", one.key, "r1", "no answer")
    assert (found.created, found.due, found.attempts) == (now.ms, now.ms + 500, 0)
    assert not found.quarantined


def test_a_key_is_kept_once_for_each_dependency(letters: Letters) -> None:
    """Who asks twice is told of the one that is there."""
    first, second, other = letter("order-1"), letter("order-1"), letter("order-1", dependency="stripe")
    assert keep(letters, first, second, other) == ["stored", "known", "stored"]
    with letters.together():
        assert letters.put(second, 0, ROOM) == ("known", first.id, 0)
    assert letters.stats().entries == 2


def quarantined(letters: Letters, key: str) -> str:
    """A letter of this key that waits for a person: its id."""
    keep(letters, one := letter(key, payload=b"x" * 10))
    (taken,) = take(letters)
    with letters.together():
        letters.back(taken, 0, "status 422", attempted=True, quarantine=True)
    return one.id


def test_a_new_call_takes_the_place_of_a_quarantined_one(letters: Letters) -> None:
    """Its caller is told that it will be made again, and it would not be by a letter that nobody takes up."""
    wrong, right = quarantined(letters, "order-1"), letter("order-1", payload=b"right")
    assert keep(letters, right) == ["stored"]
    assert letters.find(wrong) is None
    assert [(one.payload, one.attempts, one.error) for one in take(letters)] == [(b"right", 1, "no answer")]
    assert (letters.stats().entries, letters.stats().size) == (1, 5)


def test_another_operation_takes_nobodys_place(letters: Letters) -> None:
    """Two functions that have the same key are a mistake, and the letter of one would be lost by it."""
    wrong = quarantined(letters, "order-1")
    with letters.together():
        assert letters.put(replace(letter("order-1"), operation="refund"), 0, ROOM) == ("known", wrong, 0)
    assert letters.find(wrong) is not None


def test_the_place_of_a_quarantined_one_is_room_enough_for_the_new_one(letters: Letters) -> None:
    """One that does not fit into it leaves it as it was."""
    wrong, full = quarantined(letters, "order-1"), Bounds(2, 20, displace=False)
    keep(letters, letter(payload=b"x" * 10))
    assert keep(letters, letter("order-1", payload=b"x" * 11), bounds=full) == ["full"]
    assert letters.find(wrong) is not None
    assert keep(letters, letter("order-1", payload=b"x" * 9), bounds=full) == ["stored"]
    assert (letters.stats().entries, letters.stats().size) == (2, 19)


def test_whose_place_is_taken_is_not_displaced(letters: Letters) -> None:
    """What is counted as given up is another one."""
    quarantined(letters, "order-1")
    keep(letters, other := letter(payload=b"x" * 10))
    new = letter("order-1", payload=b"x" * 15)
    with letters.together():
        assert letters.put(new, 0, Bounds(2, 20, displace=True)) == ("stored", new.id, 1)
    assert letters.find(other.id) is None
    assert (letters.stats().entries, letters.stats().size) == (1, 15)


def test_a_letter_is_due_after_its_pause_and_not_before(letters: Letters, now: Time) -> None:
    """To the millisecond."""
    keep(letters, letter(), pause=1000)
    now.ms += 999
    assert take(letters) == []
    now.ms += 1
    assert len(take(letters)) == 1


def test_what_is_taken_up_is_nobody_elses_until_its_lease_ends(letters: Letters, now: Time) -> None:
    """A process that was killed gives back by being silent; its attempt counts."""
    keep(letters, letter())
    (first,) = take(letters)
    now.ms += LEASE - 1
    assert take(letters) == []
    now.ms += 1
    (second,) = take(letters)
    assert (first.id, first.attempts, second.attempts) == (second.id, 1, 2)
    assert first.token != second.token


def test_a_lease_is_renewed_by_its_holder_alone(letters: Letters, now: Time) -> None:
    """And not by one who has lost it."""
    keep(letters, letter())
    (first,) = take(letters)
    now.ms += LEASE - 1
    with letters.together():
        letters.renew([first], LEASE)
    now.ms += LEASE - 1
    assert take(letters) == []
    now.ms += 1
    (second,) = take(letters)
    now.ms += LEASE - 1
    with letters.together():
        letters.renew([first], LEASE)
    now.ms += 1
    assert [one.id for one in take(letters)] == [second.id]


def test_the_longest_due_come_first_and_no_more_than_asked_for(letters: Letters, now: Time) -> None:
    """Nobody waits for ever behind younger ones."""
    ones = [letter() for _ in range(5)]
    for one in ones:
        keep(letters, one)
        now.ms += 10
    assert [one.id for one in take(letters, most=2)] == [one.id for one in ones[:2]]
    assert [one.id for one in take(letters, most=9)] == [one.id for one in ones[2:]]


def test_dependencies_are_apart(letters: Letters) -> None:
    """One that is down keeps nobody else's letters waiting."""
    keep(letters, letter(), letter(dependency="stripe"))
    assert [one.dependency for one in take(letters, "stripe")] == ["stripe"]


def test_done_is_gone_even_after_the_lease(letters: Letters, now: Time) -> None:
    """The work is done, whoever holds the lease by now."""
    keep(letters, letter("order-1"))
    (first,) = take(letters)
    now.ms += LEASE
    take(letters)
    with letters.together():
        letters.done(first)
    stats = letters.stats()
    assert (stats.entries, stats.size) == (0, 0)
    assert letters.find(first.id) is None
    assert keep(letters, letter("order-1")) == ["stored"]


def test_put_back_it_is_due_after_the_next_pause(letters: Letters, now: Time) -> None:
    """With the error of this attempt."""
    keep(letters, letter())
    (one,) = take(letters)
    with letters.together():
        letters.back(one, 2000, "status 503", attempted=True)
    now.ms += 1999
    assert take(letters) == []
    now.ms += 1
    (again,) = take(letters)
    assert (again.attempts, again.error) == (2, "status 503")


def test_what_was_not_tried_costs_no_attempt(letters: Letters) -> None:
    """An open breaker quarantines nothing."""
    keep(letters, letter())
    counts = list[int]()
    for _ in range(20):
        (one,) = take(letters)
        counts.append(one.attempts)
        with letters.together():
            letters.back(one, 0, "the breaker is open", attempted=False)
    assert counts == [1] * 20


def test_who_has_lost_the_lease_puts_nothing_back(letters: Letters, now: Time) -> None:
    """Else a slow process would undo what a quick one did."""
    keep(letters, letter())
    (first,) = take(letters)
    now.ms += LEASE
    (second,) = take(letters)
    with letters.together():
        letters.back(first, 0, "late", attempted=False, quarantine=True)
    found = letters.find(second.id)
    assert found is not None
    assert (found.token, found.attempts, found.quarantined) == (second.token, 2, False)


def test_quarantine_waits_for_a_person(letters: Letters, now: Time) -> None:
    """It is not due, and shown apart; redrive makes it new."""
    keep(letters, letter())
    (one,) = take(letters)
    with letters.together():
        letters.back(one, 0, "status 402", attempted=True, quarantine=True)
    now.ms += 10**9
    assert take(letters) == []
    assert letters.stats().of["payment"] == Standing(waiting=0, quarantined=1, age=0)
    with letters.together():
        assert letters.redrive([one.id, "no such"]) == 1
    (again,) = take(letters)
    assert (again.id, again.attempts, again.quarantined) == (one.id, 1, False)


def test_poison_that_kills_its_process_is_quarantined(letters: Letters, now: Time) -> None:
    """Nobody lives to say that it failed: its attempts say so."""
    keep(letters, poison := letter())
    for _ in range(3):
        assert len(take(letters, attempts=3)) == 1
        now.ms += LEASE
    assert take(letters, attempts=3) == []
    found = letters.find(poison.id)
    assert found is not None
    assert (found.quarantined, found.error, found.token) == (True, LEFT_BEHIND, "")


def test_a_letter_that_is_worked_on_is_not_redriven(letters: Letters) -> None:
    """Nothing is done twice because somebody is impatient."""
    keep(letters, letter())
    (one,) = take(letters)
    with letters.together():
        assert letters.redrive([one.id]) == 0


def test_room_is_bounded_by_number_and_by_size(letters: Letters) -> None:
    """And given back when letters go."""
    few, small = Bounds(2, 10_000, displace=False), Bounds(100, 20, displace=False)
    ones = [letter(payload=b"x" * 10) for _ in range(3)]
    assert keep(letters, *ones, bounds=few) == ["stored", "stored", "full"]
    assert keep(letters, letter(payload=b""), letter(payload=b"y"), bounds=small) == ["stored", "full"]
    with letters.together():
        assert letters.drop([ones[0].id, ones[0].id]) == 1
    assert keep(letters, letter(payload=b"y" * 10), bounds=small) == ["stored"]
    stats = letters.stats()
    assert (stats.entries, stats.size) == (3, 20)


def test_the_oldest_are_displaced_where_that_is_declared(letters: Letters, now: Time) -> None:
    """But never one that is worked on; and nothing goes for one that could never fit."""
    bounds = Bounds(2, 100, displace=True)
    ones = [letter(payload=b"x" * 10) for _ in range(4)]
    for one in ones[:2]:
        keep(letters, one, bounds=bounds)
        now.ms += 1
    take(letters, most=1)
    with letters.together():
        assert letters.put(ones[2], 0, bounds) == ("stored", ones[2].id, 1)
    assert letters.find(ones[0].id) is not None
    assert letters.find(ones[1].id) is None
    with letters.together():
        assert letters.put(letter(payload=b"x" * 101), 0, bounds)[0] == "full"
        assert letters.put(letter(payload=b"x" * 95), 0, bounds)[0] == "full"
    assert letters.stats().entries in (1, 2)
    assert letters.find(ones[0].id) is not None


def test_what_is_too_old_is_given_up(letters: Letters, now: Time) -> None:
    """Quarantined or not; and counted."""
    keep(letters, letter())
    now.ms += 1000
    young = letter()
    keep(letters, young)
    with letters.together():
        assert letters.prune(1000) == 0
    now.ms += 1
    with letters.together():
        assert letters.prune(1000) == 1
    assert [one.id for one in letters.some(10)] == [young.id]


def test_what_there_is_is_told_by_dependency(letters: Letters, now: Time) -> None:
    """Numbers, bytes, and the age of the oldest that waits."""
    keep(letters, letter(), letter(), letter(dependency="stripe", payload=b"1234"))
    now.ms += 5000
    stats = letters.stats()
    assert stats.of == {"payment": Standing(2, 0, 5000), "stripe": Standing(1, 0, 5000)}
    assert (stats.entries, stats.size) == (3, 26)
    assert [one.dependency for one in letters.some(10, "stripe")] == ["stripe"]
    assert len(letters.some(2)) == 2


def test_two_who_take_at_once_never_take_the_same(
    letters: Letters, tmp_path: Path, now: Time, running: Server
) -> None:
    """Each letter once, whoever is faster."""
    keep(letters, *(letter() for _ in range(60)), bounds=Bounds(100, 10_000, displace=False))
    got: list[list[str]] = [[], []]

    def work(mine: list[str], of: Letters) -> None:
        while some := take(of, most=1):
            mine.append(some[0].id)

    if isinstance(letters, SqliteLetters):
        other: Letters = SqliteLetters(str(tmp_path / "letters" / "dead.db"), now)
    else:
        assert isinstance(letters, RedisLetters)
        other = RedisLetters(running.url, "shop", now)
    threads = [threading.Thread(target=work, args=pair) for pair in zip(got, (letters, other), strict=True)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    other.close()
    assert len(got[0] + got[1]) == len({*got[0], *got[1]}) == 60


# --- the file alone --------------------------------------------------------------------------------


def test_the_file_is_its_owners_alone(tmp_path: Path, now: Time, running: Server) -> None:
    """Payloads are kept as they are: the file system guards them."""
    before = os.umask(0o000)
    file = tmp_path / "letters" / "dead.db"
    with stored("sqlite", tmp_path, now, running) as letters:
        keep(letters, letter())
        os.umask(before)
        modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in (file.parent, *file.parent.iterdir())}
    assert modes.pop("letters") == 0o700
    assert set(modes.values()) == {0o600}


def readable(folder: Path, what: bytes) -> bool:
    """Whether the file, or its log, has these bytes."""
    return any(what in file.read_bytes() for file in (folder / "letters").iterdir())


@pytest.mark.parametrize("how", ["done", "drop", "prune"])
def test_what_is_done_cannot_be_read_from_the_file_any_more(
    tmp_path: Path, now: Time, running: Server, how: str
) -> None:
    """A card number does not outlive the charge, neither in the file nor in its log, though the process goes on."""
    with stored("sqlite", tmp_path, now, running) as letters:
        keep(letters, one := letter(payload=b'{"card":"4242-secret"}'))
        assert readable(tmp_path, b"4242-secret")
        ways: dict[str, Callable[[], object]] = {
            "done": lambda: letters.done(one),
            "drop": lambda: letters.drop([one.id]),
            "prune": lambda: letters.prune(-1),
        }
        now.ms += 1000
        with letters.together():
            ways[how]()
        assert not readable(tmp_path, b"4242-secret")


def test_the_log_of_the_file_is_emptied_once_a_second(tmp_path: Path, now: Time, running: Server) -> None:
    """And not with every letter: that would cost as much again; nor while somebody reads, whom nobody waits for."""
    with stored("sqlite", tmp_path, now, running) as letters:
        keep(letters, *(ones := [letter(payload=b"secret-%d" % number) for number in range(3)]))
        reader = sqlite3.connect(tmp_path / "letters" / "dead.db", isolation_level=None)
        now.ms += 1000
        left = list[list[bool]]()
        for one in ones:
            with letters.together():
                letters.done(one)
            left.append([readable(tmp_path, one.payload) for one in ones])
            now.ms += 700
        assert left == [[False, True, True], [False, True, True], [False, False, False]]
        keep(letters, one := letter(payload=b"secret-4"))
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM letters").fetchall()
        began = time.monotonic()
        with letters.together():
            letters.done(one)
        assert time.monotonic() - began < 1
        reader.close()
        now.ms += 1000
        take(letters)
        assert not readable(tmp_path, b"secret")


def test_who_ends_leaves_nothing_readable_to_those_who_go_on(
    tmp_path: Path, now: Time, running: Server
) -> None:
    """Only the last one who closes the file takes its log away."""
    with (
        stored("sqlite", tmp_path, now, running) as letters,
        stored("sqlite", tmp_path, now, running) as other,
    ):
        keep(letters, *(ones := [letter(payload=b"secret") for _ in range(2)]))
        keep(other)
        for one in ones:
            with letters.together():
                letters.done(one)
        assert readable(tmp_path, b"secret")
        letters.close()
        assert not readable(tmp_path, b"secret")


def test_a_commit_is_on_the_disk_when_it_returns(tmp_path: Path, now: Time, running: Server) -> None:
    """A write-ahead log, synchronised with every commit."""
    with stored("sqlite", tmp_path, now, running) as letters:
        keep(letters, letter())
        assert isinstance(letters, SqliteLetters)
        assert letters.base.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert letters.base.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_file_that_cannot_be_used_is_said_to_be_so(tmp_path: Path, now: Time) -> None:
    """In our words, without what is in it; and it is tried anew the next time."""
    path = tmp_path / "dead.db"
    path.write_bytes(b"this is no database, " * 100)
    letters = SqliteLetters(str(path), now)
    with pytest.raises(LettersUnreachable, match=r"dead\.db: file is not a database"):
        keep(letters, letter())
    path.unlink()
    assert keep(letters, letter()) == ["stored"]
    letters.close()


def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path, now: Time) -> None:
    """Who cannot read it must not write it."""
    path = tmp_path / "dead.db"
    with sqlite3.connect(path) as base:
        base.execute("PRAGMA user_version = 2")
    base.close()
    letters = SqliteLetters(str(path), now)
    with pytest.raises(LettersUnreachable, match="newer version"):
        keep(letters, letter())


def test_a_disk_that_is_full_loses_nothing_that_was_promised(
    tmp_path: Path, now: Time, running: Server
) -> None:
    """What does not fit is refused, what is there stays."""
    with stored("sqlite", tmp_path, now, running) as letters:
        keep(letters, one := letter())
        assert isinstance(letters, SqliteLetters)
        pages = letters.base.execute("PRAGMA page_count").fetchone()[0]
        letters.base.execute(f"PRAGMA max_page_count = {pages + 1}")
        with pytest.raises(LettersUnreachable, match="full"):
            keep(letters, letter(payload=b"x" * 50_000), bounds=Bounds(100, 10**6, displace=False))
        assert [found.id for found in letters.some(10)] == [one.id]


class Day:
    """The time of day of a machine, which somebody sets."""

    def __init__(self, desks: ExitStack) -> None:
        self.seconds = 1_800_000_000.0
        self._writers = desks

    def process(self) -> LetterWriter:
        """A process that starts now."""
        spec = Spec.model_validate(
            {
                "mahavishnu": 1,
                "service": {"name": "shop", "app": "shop:app"},
                "dependencies": {"payment": {"fallback": "dead_letter"}},
            }
        )
        made = queue_of(spec, SystemClock(), Mock(), lambda: self.seconds, Mock(dead_letters=None))
        assert made is not None
        self._writers.callback(made.writer.close)
        return made.writer


@pytest.fixture
def day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Day]:
    """A day, on which processes share the file of a folder."""
    monkeypatch.chdir(tmp_path)
    with ExitStack() as desks:
        yield Day(desks)


def test_processes_agree_on_the_time_whenever_the_clock_was_set(day: Day) -> None:
    """One that started before a machine had the time, or slept, has no lease that another one takes for ended."""
    before = day.process()
    day.seconds += 600
    after = day.process()
    before.ask(lambda letters: letters.put(letter(), 0, ROOM)).result()
    assert len(before.ask(lambda letters: letters.take("payment", 9, LEASE, 5)).result()) == 1
    assert after.ask(lambda letters: letters.take("payment", 9, LEASE, 5)).result() == []
    day.seconds += LEASE / 1000
    assert len(after.ask(lambda letters: letters.take("payment", 9, LEASE, 5)).result()) == 1


def test_nothing_is_given_up_because_somebody_sets_the_clock(day: Day) -> None:
    """A letter is as old as the process that looks has seen it grow, whatever the time of day is said to be."""
    writer = day.process()
    writer.ask(lambda letters: letters.put(letter(), 0, ROOM)).result()
    day.seconds += 365 * 86400
    assert writer.ask(lambda letters: letters.prune(10 * 86_400_000)).result() == 0
    assert day.process().ask(lambda letters: letters.prune(10 * 86_400_000)).result() == 1


# --- the server alone ------------------------------------------------------------------------------


def test_a_server_that_is_not_there_is_said_to_be_so() -> None:
    """Without its address and its password."""
    letters = RedisLetters("redis://:hunter2@127.0.0.1:1", "shop")
    with pytest.raises(LettersSilent) as told:
        keep(letters, letter())
    assert "hunter2" not in str(told.value)
    assert "server of the dead letters" in str(told.value)
    with pytest.raises(MahavishnuError):
        RedisLetters("redis://[", "shop")


def test_services_on_one_server_are_apart(tmp_path: Path, now: Time, running: Server) -> None:
    """By their names."""
    with stored("redis", tmp_path, now, running) as letters:
        assert isinstance(letters, RedisLetters)
        other = RedisLetters(running.url, "shop_two", now)
        keep(letters, letter("same"))
        assert keep(other, letter("same")) == ["stored"]
        assert other.stats().entries == 1
        other.close()


def test_the_servers_clock_counts_where_none_is_given(tmp_path: Path, now: Time, running: Server) -> None:
    """Hosts need not agree on the time."""
    with stored("redis", tmp_path, now, running) as letters:
        assert isinstance(letters, RedisLetters)
        letters.now = None
        keep(letters, one := letter(), pause=-1)
        found = letters.find(one.id)
        seconds, _ = letters.server.time()
        assert found is not None
        assert abs(found.created / 1000 - seconds) < 60
        assert len(take(letters)) == 1


def test_a_server_without_memory_still_lets_letters_be_made_again_and_go() -> None:
    """It refuses further ones, and heals by those that are done: what is there is all that can make room."""
    wide = Bounds(100, 10**6, displace=False)
    with server("--maxmemory-policy", "noeviction") as one:
        letters = RedisLetters(one.url, "shop")
        keep(letters, *(letter(f"order-{number}", payload=b"x" * 1000) for number in range(4)), bounds=wide)
        one.client().config_set("maxmemory", 1)
        with pytest.raises(LettersUnreachable, match="OOM") as told:
            keep(letters, letter(), bounds=wide)
        assert not isinstance(told.value, LettersSilent)  # others may ask for what it does
        done, back, bad, kept = (take(letters, most=1)[0] for _ in range(4))
        with letters.together():
            letters.done(done)
            letters.back(back, 10**6, "status 503", attempted=True)
            letters.back(bad, 0, "status 402", attempted=True, quarantine=True)
            letters.renew([kept], LEASE)
        assert letters.stats().of["payment"][:2] == (2, 1)
        with letters.together():
            assert letters.redrive([bad.id]) == 1
            assert letters.drop([kept.id]) == 1
            assert letters.prune(-1) == 2
        assert (letters.stats().entries, letters.stats().size) == (0, 0)
        letters.close()


def test_a_server_that_became_a_replica_is_left_for_the_one_that_its_name_leads_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A planned failover: the old one stays up, keeps its connections, and takes nothing any more."""
    led, found = ["127.0.0.2"], socket.getaddrinfo

    def lookup(host: Any, *more: Any, **said: Any) -> Any:
        return found(led[0] if host == "redis.example" else host, *more, **said)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    with server("--bind", "127.0.0.2") as old, server("--bind", "127.0.0.3", "--port", str(old.port)) as new:
        letters = RedisLetters(f"redis://redis.example:{old.port}", "shop")
        assert keep(letters, letter()) == ["stored"]
        old.client().replicaof("127.0.0.3", str(old.port))
        with pytest.raises(LettersUnreachable, match="READONLY"):  # the name leads nowhere else yet
            keep(letters, letter())
        led[0] = "127.0.0.3"
        assert keep(letters, letter()) == ["stored"]
        assert new.client().dbsize() > 0
        letters.close()


def losing_one_answer(letters: RedisLetters) -> list[Any]:
    """The next answer of the server is lost on its way: where it is then found."""
    lost: list[Any] = []
    connection = letters.server.connection_pool.get_connection()
    letters.server.connection_pool.release(connection)
    read = connection.read_response

    def losing(*said: Any, **more: Any) -> Any:
        answer = read(*said, **more)
        if not lost:
            lost.append(answer)
            raise redis.exceptions.TimeoutError
        return answer

    connection.read_response = losing
    return lost


def test_who_asks_again_because_the_answer_was_lost_takes_up_the_same(
    tmp_path: Path, now: Time, running: Server
) -> None:
    """Else the first ones would be nobody's until their lease ends, and an attempt spent without a call."""
    with stored("redis", tmp_path, now, running) as letters:
        assert isinstance(letters, RedisLetters)
        first, second = letter(), letter()
        keep(letters, first)
        now.ms += 1
        keep(letters, second)
        lost = losing_one_answer(letters)
        assert [(one.id, one.attempts) for one in take(letters, most=1)] == [(first.id, 1)]
        assert len(lost[0]) == 1
        assert [(one.id, one.attempts) for one in take(letters)] == [(second.id, 1)]
        with letters.together():
            letters.drop([first.id, second.id])
        left = [letters.server.pttl(key) for key in letters.server.keys("*:taken:*")]
        assert len(left) == 2
        assert all(0 < ms <= LEASE for ms in left)


# --- the writer --------------------------------------------------------------------------------------


def test_the_desk_does_what_was_asked_meanwhile_in_one_commit(tmp_path: Path, now: Time) -> None:
    """Many who ask at once wait for one write to the disk."""
    letters = SqliteLetters(str(tmp_path / "dead.db"), now)
    writer = LetterWriter(letters)
    gate = held_up(writer)
    commits: list[str] = []
    letters.base.set_trace_callback(lambda text: commits.append(text) if text == "COMMIT" else None)
    asked = [writer.ask(lambda of: of.put(letter(), 0, ROOM)) for _ in range(40)]
    gate.set()
    assert {one.result()[0] for one in asked} == {"stored"}
    assert len(commits) == 2  # of the one that held the others up, and of theirs
    writer.close()


def test_one_that_fails_takes_nobody_with_it(tmp_path: Path, now: Time) -> None:
    """Steps that were asked for together are tried apart."""
    letters = SqliteLetters(str(tmp_path / "dead.db"), now)
    writer = LetterWriter(letters)
    gate = held_up(writer)
    good = writer.ask(lambda of: of.put(letter("a"), 0, ROOM))
    bad = writer.ask(lambda _: 1 // 0)
    also = writer.ask(lambda of: of.put(letter("b"), 0, ROOM))
    gate.set()
    assert (good.result()[0], also.result()[0]) == ("stored", "stored")
    with pytest.raises(ZeroDivisionError):
        bad.result()
    assert writer.ask(lambda of: of.stats().entries).result() == 2
    writer.close()
    assert writer.ask(lambda of: of.stats().entries).result() == 2  # opened again
    writer.close()


@pytest.mark.parametrize("batch", [1, 64])
def test_all_who_ask_silent_letters_wait_but_once(tmp_path: Path, now: Time, batch: int) -> None:
    """Not each after the other for a whole patience; who asks later finds them again."""
    letters: Any = SqliteLetters(str(tmp_path / "dead.db"), now)
    letters.batch = batch
    writer, tried = LetterWriter(letters), list[None]()
    gate = held_up(writer)

    def silent() -> Any:
        tried.append(None)
        raise LettersSilent("no answer")

    letters.together = silent
    asked = [writer.ask(lambda of: of.stats().entries) for _ in range(5)]
    assert asked[3].cancel()
    gate.set()
    for one in (*asked[:3], asked[4]):
        with pytest.raises(LettersSilent, match="no answer"):
            one.result(9)
    assert len(tried) == 1
    del letters.together
    assert writer.ask(lambda of: of.stats().entries).result(9) == 0
    writer.close()


def test_letters_that_fall_silent_while_steps_are_tried_apart_are_asked_no_more(
    tmp_path: Path, now: Time
) -> None:
    """One step fails, they are tried apart, and then the disk goes."""
    letters: Any = SqliteLetters(str(tmp_path / "dead.db"), now)
    writer, tried, together = LetterWriter(letters), list[None](), letters.together
    gate = held_up(writer)

    def failing() -> Any:
        tried.append(None)
        if len(tried) > 1:
            raise LettersSilent("no answer")
        return together()

    letters.together = failing
    asked = [writer.ask(lambda _: 1 // 0) for _ in range(3)]
    gate.set()
    for one in asked:
        with pytest.raises(LettersSilent):
            one.result(9)
    assert len(tried) == 2
    writer.close()


def test_a_file_that_another_one_does_not_let_go_is_silent(
    tmp_path: Path, now: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is asked of it: it is no fault of the step."""
    monkeypatch.setattr(sqlite, "_BUSY", 0.01)
    other, letters = (SqliteLetters(str(tmp_path / "dead.db"), now) for _ in range(2))
    with other.together(), pytest.raises(LettersSilent, match="locked"):
        take(letters)
    other.close()
    letters.close()


def test_who_is_cancelled_before_his_turn_has_stored_nothing(tmp_path: Path, now: Time) -> None:
    """He is told nothing, so nothing may happen later."""
    writer = LetterWriter(SqliteLetters(str(tmp_path / "dead.db"), now))
    gate = held_up(writer)
    asked = writer.ask(lambda of: of.put(letter(), 0, ROOM))
    assert asked.cancel()
    gate.set()
    assert writer.ask(lambda of: of.stats().entries).result() == 0
    writer.close()


def test_who_asks_while_it_closes_is_answered(tmp_path: Path, now: Time) -> None:
    """A call may fail while the process ends: it is kept, the end comes, and two threads never share the file."""
    writer = LetterWriter(SqliteLetters(str(tmp_path / "dead.db"), now))
    gate = held_up(writer)
    (first,) = (one for one in threading.enumerate() if one.name == "mahavishnu-letters")
    closing = threading.Thread(target=writer.close, daemon=True)
    closing.start()
    inside: Any = writer
    while inside._thread is first:
        time.sleep(0.001)
    workers = [
        writer.ask(lambda of: (of.put(letter(), 0, ROOM), threading.current_thread())) for _ in range(3)
    ]
    assert not any(one.running() for one in workers)
    gate.set()
    assert {one.result(9)[1] is first for one in workers} == {False}
    closing.join(9)
    assert not closing.is_alive()
    writer.close()


def test_one_that_was_cancelled_does_not_end_the_desk(tmp_path: Path, now: Time) -> None:
    """Not even where the letters cannot be reached just then."""
    letters: Any = SqliteLetters(str(tmp_path / "dead.db"), now)
    writer = LetterWriter(letters)
    gate = held_up(writer)
    assert writer.ask(lambda of: of.stats()).cancel()
    letters.together = lambda: SqliteLetters.together(SqliteLetters(str(tmp_path), now))  # a folder
    gate.set()
    inside: Any = writer
    while inside._queue.qsize():
        time.sleep(0.01)
    time.sleep(0.05)
    with pytest.raises(LettersUnreachable):
        writer.ask(lambda of: of.stats()).result(2)
    writer.close()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="only where processes fork")
def test_a_fork_keeps_letters_of_its_own(tmp_path: Path, now: Time) -> None:
    """No thread comes along, and the parent's connection is the parent's."""
    writer = LetterWriter(SqliteLetters(str(tmp_path / "dead.db"), now))
    writer.ask(lambda of: of.put(letter("a"), 0, ROOM)).result(9)

    def child() -> None:
        writer.ask(lambda of: of.put(letter("b"), 0, ROOM)).result(9)
        writer.close()

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(20)
    assert process.exitcode == 0
    assert writer.ask(lambda of: of.stats().entries).result(9) == 2
    writer.close()


def test_who_opens_a_file_that_another_one_makes_waits_for_it(tmp_path: Path, now: Time) -> None:
    """Workers start together; SQLite itself does not wait where the kind of its journal changes."""
    path = tmp_path / "dead.db"
    maker = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    maker.execute("BEGIN IMMEDIATE")
    end = threading.Timer(0.2, lambda: maker.execute("COMMIT"))
    end.start()
    letters = SqliteLetters(str(path), now)
    assert keep(letters, letter()) == ["stored"]
    end.join()
    maker.close()
    letters.close()


def test_a_python_with_an_old_sqlite_is_told_so_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the service starts, and not when the first call is lost."""
    spec = Spec.model_validate(
        {
            "mahavishnu": 1,
            "service": {"name": "shop", "app": "shop:app"},
            "dependencies": {"bank": {"fallback": "dead_letter"}},
        }
    )
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    monkeypatch.setattr(sqlite3, "sqlite_version", "3.34.1")
    with pytest.raises(MahavishnuError, match=r"SQLite 3\.37.*3\.34\.1.*redis://"):
        letters_of(spec, Time())
