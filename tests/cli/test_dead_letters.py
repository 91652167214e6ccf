"""`mahavishnu dead-letters`: listing, showing without secrets, redriving and dropping, on a file and on a server."""

from __future__ import annotations

import base64
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from mahavishnu.cli import run
from mahavishnu.runtime.dead_letters.letters import Letter, Letters
from mahavishnu.runtime.dead_letters.redis import RedisLetters
from mahavishnu.runtime.dead_letters.sqlite import SqliteLetters
from tests.runtime.dead_letters.letterboxes import ROOM, Time, keep, take
from tests.runtime.redis.servers import Server, server

PAYLOAD = b'{"order":{"number":7,"card_number":"4242","password":"hunter2"},"note":"a\\u001b[2Jb"}'
DEEP = b"[" * 50_000 + b"]" * 50_000
WIDE = ROOM._replace(size=1_000_000)


class World:
    """A folder with a spec, and the letters it names."""

    def __init__(self, folder: Path, store: str, letters: Letters) -> None:
        self.letters = letters
        spec: dict[str, Any] = {
            "mahavishnu": 1,
            "service": {"name": "shop", "app": "shop:app"},
            "dependencies": {"payment": {"fallback": "dead_letter"}},
            "dead_letters": {"store": store},
            "observability": {"logs": {"redact": ["card_number"]}},
        }
        (folder / "mahavishnu.yaml").write_text(json.dumps(spec), encoding="utf-8")

    def keep(self, name: str, dependency: str = "payment") -> Letter:
        """A letter of this id."""
        one = Letter(name, dependency, "charge", f"key-{name}", PAYLOAD, "r1", error="no answer")
        assert keep(self.letters, one, bounds=ROOM) == ["stored"]
        return one


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    """One server for all tests of this file."""
    with server() as one:
        yield one


@pytest.fixture(params=["sqlite", "redis"])
def world(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, running: Server
) -> Iterator[World]:
    """Both kinds of store."""
    monkeypatch.chdir(tmp_path)
    now = Time()
    if request.param == "sqlite":
        letters = SqliteLetters("data/letters.db", now)
        yield World(tmp_path, "sqlite:data/letters.db", letters)
        letters.close()
    else:
        running.client().flushall()
        there = RedisLetters(running.url, "shop", now)
        yield World(tmp_path, running.url, there)
        there.close()


def told(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    """What a command prints as JSON."""
    assert run(["dead-letters", *words, "--format", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_they_are_listed(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """The oldest first, without what is in them."""
    world.keep("aa11")
    world.keep("bb22", dependency="stripe")
    assert [one["id"] for one in told(capsys, "list")] == ["aa11", "bb22"]
    assert [one["id"] for one in told(capsys, "list", "--dependency", "stripe")] == ["bb22"]
    assert len(told(capsys, "list", "--limit", "1")) == 1
    assert run(["dead-letters", "list"]) == 0
    shown = capsys.readouterr().out
    assert shown.splitlines()[0].split() == [
        *("ID", "DEPENDENCY", "OPERATION", "SINCE", "ATTEMPTS", "STATE", "LAST", "ERROR"),
    ]
    assert "4242" not in shown
    assert "aa11" in shown


def test_one_is_shown_without_its_secrets_unless_asked_for(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the log never shows is hidden, and nothing moves the terminal's cursor."""
    world.keep("aa11")
    (shown,) = told(capsys, "show", "aa")
    assert (shown["key"], shown["request"], shown["state"]) == ("key-aa11", "r1", "waiting")
    assert shown["payload"]["order"] == {"number": 7, "card_number": "[redacted]", "password": "[redacted]"}
    assert run(["dead-letters", "show", "aa11", "--payload"]) == 0
    whole = capsys.readouterr().out
    assert "4242" in whole
    assert "\x1b" not in whole


REQUEST = {
    "method": "POST",
    "url": "https://ann:hunter2@pay/charges?order=7&password=hunter2",
    "headers": [["content-type", "application/json"]],
}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"order":7,"password":"hunter2"}', {"order": 7, "password": "[redacted]"}),
        (b"order=7&password=hunter2", "[24 bytes]"),
        (b"", ""),
        (DEEP, "[100000 bytes]"),
    ],
    ids=["json", "form", "none", "deep"],
)
def test_a_request_is_shown_without_its_secrets_too(
    world: World, capsys: pytest.CaptureFixture[str], body: bytes, said: object
) -> None:
    """Neither in its URL nor in its body, which is kept in letters that anybody could read back."""
    payload = {**REQUEST, "body": base64.b64encode(body).decode()}
    request = Letter("aa11", "payment", "http request", "key", json.dumps(payload).encode())
    assert keep(world.letters, request, bounds=WIDE) == ["stored"]
    (shown,) = told(capsys, "show", "aa")
    assert shown["payload"] == {
        "method": "POST",
        "url": "https://pay/charges",
        "query": [["order", "7"], ["password", "[redacted]"]],
        "headers": [["content-type", "application/json"]],
        "body": said,
    }
    (whole,) = told(capsys, "show", "aa", "--payload")
    assert whole["payload"] == payload


@pytest.mark.parametrize("operation", ["charge", "http request"])
@pytest.mark.parametrize(
    "payload",
    [b"\xff", b"{", b"[]", DEEP, b'{"url":"http://[","headers":0,"body":"x"}'],
    ids=["text", "half", "list", "deep", "url"],
)
def test_what_cannot_be_read_can_still_be_looked_at(
    world: World, capsys: pytest.CaptureFixture[str], payload: bytes, operation: str
) -> None:
    """It is in quarantine for a person, who must see what there is of it."""
    assert keep(world.letters, Letter("aa11", "payment", operation, "key", payload), bounds=WIDE) == [
        "stored"
    ]
    for words in (["show", "aa"], ["show", "aa", "--payload"], ["list"]):
        (shown,) = told(capsys, *words)
        assert shown["size"] == len(payload)


class Pager(io.StringIO):
    """Whoever reads what is written; meanwhile a call fails."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world

    def write(self, text: str) -> int:
        self.world.keep(uuid4().hex)
        return super().write(text)


@pytest.mark.parametrize("words", [["list"], ["show", "aa11"], ["redrive", "--all"], ["drop", "aa11"]])
def test_who_reads_slowly_holds_nothing_up(
    world: World, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    """The file is free before a line is written: calls that fail while somebody pages through must be kept."""
    world.keep("aa11")
    if isinstance(world.letters, SqliteLetters):
        world.letters.base.execute("PRAGMA busy_timeout = 1")
    monkeypatch.setattr(sys, "stdout", Pager(world))
    assert run(["dead-letters", *words]) == 0


def test_they_are_redriven_and_dropped(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Those that are named, or all; one that is being worked on is left alone by redrive."""
    for name in ("aa11", "bb22", "cc33"):
        world.keep(name)
    (one,) = take(world.letters, most=1)
    with world.letters.together():
        world.letters.back(one, 10**9, "status 402", attempted=True, quarantine=True)
    assert [row["state"] for row in told(capsys, "list")] == ["quarantined", "waiting", "waiting"]
    assert told(capsys, "redrive", one.id) == {"asked": 1, "done": 1}
    assert [row["state"] for row in told(capsys, "list")] == ["waiting"] * 3
    assert told(capsys, "drop", "bb22") == {"asked": 1, "done": 1}
    assert [row["id"] for row in told(capsys, "list")] == ["aa11", "cc33"]
    assert run(["dead-letters", "redrive", "--all"]) == 0
    assert capsys.readouterr().out == "2 of 2 due now\n"
    assert run(["dead-letters", "drop", "--all"]) == 0
    assert capsys.readouterr().out == "2 of 2 dropped\n"
    assert told(capsys, "list") == []


def test_an_empty_name_names_none(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Not even where there is one alone: a script that knows no id deletes nothing."""
    world.keep("aa1122334455")
    assert run(["dead-letters", "drop", ""]) == 2
    assert run(["dead-letters", "drop", "aa11"]) == 2
    assert len(told(capsys, "list")) == 1
    assert told(capsys, "drop", "aa112233") == {"asked": 1, "done": 1}


def test_a_whole_id_is_meant_before_longer_ones(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.keep("aa11")
    world.keep("aa1122")
    assert told(capsys, "drop", "aa11") == {"asked": 1, "done": 1}
    assert [one["id"] for one in told(capsys, "list")] == ["aa1122"]


def test_a_list_that_is_cut_says_so(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside the list, which a program may read; of those that were asked for."""
    for name in ("aa11", "bb22", "cc33"):
        world.keep(name)
    world.keep("dd44", dependency="stripe")
    for words, said in (
        (["--limit", "2"], "2 of 4; --limit shows more\n"),
        (["--limit", "2", "--dependency", "payment", "--format", "json"], "2 of 3; --limit shows more\n"),
        (["--limit", "3", "--dependency", "payment"], ""),
        ([], ""),
    ):
        assert run(["dead-letters", "list", *words]) == 0
        assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["redrive"], "name letters by their ids, or all of them with --all"),
        (["drop", "aa11", "--all"], "name letters by their ids, or all of them with --all"),
        (["show"], "name letters by their ids"),
        (["show", "zz"], "no dead letter begins with `zz`"),
        (["redrive", "a"], "2 dead letters begin with `a`"),
        (["drop", ""], "an id is empty"),
        (["redrive", ""], "an id is empty"),
        (["show", "aa11", ""], "an id is empty"),
        (["drop", "aa1"], "drop wants at least 8 characters of an id, and `aa1` has 3"),
        (["drop", "aa11", "ab"], "drop wants at least 8 characters of an id, and `ab` has 2"),
    ],
)
def test_what_is_not_clear_is_not_done(
    world: World, capsys: pytest.CaptureFixture[str], words: list[str], why: str
) -> None:
    """Nothing happens to any of them."""
    world.keep("aa11")
    world.keep("ab22")
    assert run(["dead-letters", *words]) == 2
    assert why in capsys.readouterr().err
    assert len(told(capsys, "list")) == 2


def test_what_a_spec_before_has_kept_is_still_seen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody makes the calls again of a dependency without `fallback: dead_letter`: a person decides upon them."""
    monkeypatch.chdir(tmp_path)
    letters = SqliteLetters(".mahavishnu/dead_letters.db", Time())
    keep(letters, Letter("aa11", "payment", "charge", "order-1", PAYLOAD))
    letters.close()
    spec: dict[str, Any] = {"mahavishnu": 1, "service": {"name": "shop", "app": "a:b"}, "dependencies": {}}
    (tmp_path / "mahavishnu.yaml").write_text(json.dumps(spec))
    assert [one["dependency"] for one in told(capsys, "list")] == ["payment"]
    assert told(capsys, "drop", "aa11") == {"asked": 1, "done": 1}
    assert told(capsys, "list") == []


def test_without_letters_there_is_nothing_to_see(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is not there is no empty one, and a spec that keeps none says so."""
    monkeypatch.chdir(tmp_path)
    spec: dict[str, Any] = {
        "mahavishnu": 1,
        "service": {"name": "shop", "app": "a:b"},
        "dependencies": {"a": {}},
    }
    (tmp_path / "mahavishnu.yaml").write_text(json.dumps(spec))
    assert run(["dead-letters", "list"]) == 2
    assert "no dependency of this spec has `fallback: dead_letter`" in capsys.readouterr().err
    spec["dependencies"] = {"a": {"fallback": "dead_letter"}}
    (tmp_path / "mahavishnu.yaml").write_text(json.dumps(spec))
    assert run(["dead-letters", "list"]) == 2
    assert "from its working directory" in capsys.readouterr().err
    assert not (tmp_path / ".mahavishnu").exists()
    spec["dead_letters"] = {"store": "redis://:${X}@127.0.0.1:1"}
    spec["secrets"] = ["X"]
    monkeypatch.setenv("X", "hunter2")
    (tmp_path / "mahavishnu.yaml").write_text(json.dumps(spec))
    assert run(["dead-letters", "list"]) == 2
    said = capsys.readouterr().err
    assert "the server of the dead letters" in said
    assert "hunter2" not in said


def test_an_environment_has_letters_of_its_own(
    running: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By the option, by the variable, and by a generated spec: those that a process of it keeps."""
    monkeypatch.chdir(tmp_path)
    running.client().flushall()
    there = RedisLetters(running.url, "shop@staging", Time())
    world = World(tmp_path, running.url, there)
    file = tmp_path / "mahavishnu.yaml"
    said = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**said, "environments": {"staging": {}, "production": {}}}), encoding="utf-8")
    world.keep("aa11")
    there.close()
    staging = ("--env", "staging")
    assert [told(capsys, "list"), told(capsys, "list", "--env", "production")] == [[], []]
    assert [one["id"] for one in told(capsys, "list", *staging)] == ["aa11"]
    assert told(capsys, "redrive", "--all", *staging) == {"asked": 1, "done": 1}
    (tmp_path / "generated.yaml").write_text(json.dumps({**said, "environment": "staging"}), encoding="utf-8")
    assert [one["id"] for one in told(capsys, "list", "--spec", "generated.yaml")] == ["aa11"]
    monkeypatch.setenv("MAHAVISHNU_ENV", "staging")
    assert told(capsys, "drop", "--all") == {"asked": 1, "done": 1}
