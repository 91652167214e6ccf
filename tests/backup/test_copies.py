"""What a command writes, saved to two places; and how each of it is told."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from mahavishnu.backup.evidence import ALL
from mahavishnu.load import load
from mahavishnu.runtime.telemetry.backups import show
from mahavishnu.signals import Signal
from mahavishnu.snapshots.series import BACKUP_DRILLED, BACKUP_VERIFIED
from tests.backup.world import OF_BOTH, World, flipped, spec

pytestmark = pytest.mark.judge
SECRET = "a-token-of-the-dump"


def dumping(world: World, script: str) -> None:
    """A spec whose source is a script's output, with two copies."""
    said = spec(
        source={"command": ["sh", "-c", script], "secrets": ["${DUMP_TOKEN}"]},
        to=["repository", "second"],
        verify={},
    )
    said["secrets"] = ["RESTIC_PASSWORD", "DUMP_TOKEN"]
    world.write(said)


@OF_BOTH
def test_a_commands_output_is_saved_twice_and_restored(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is told its own secret and not the password; each copy succeeds or fails by itself."""
    monkeypatch.setenv("DUMP_TOKEN", SECRET)
    dumping(world, 'echo "$DUMP_TOKEN [$RESTIC_PASSWORD] all of it"')
    world.begin()
    world.begin("second")
    (world.home / "second/keys").rename(world.home / "keys")
    assert world.do("run") == 1
    copies = world.known().copies
    assert (copies["1"].success is None, copies["2"].success) == (False, None)
    (world.home / "keys").rename(world.home / "second/keys")
    assert world.do("run") == 0
    assert world.do("drill") == 0
    assert {name: one.drilled is not None for name, one in world.known().copies.items()} == {
        "1": True,
        "2": True,
    }
    assert world.do("restore", "orders", "--copy", "2", "--to", "back") == 0
    assert (world.home / "back/orders.out").read_text() == f"{SECRET} [] all of it\n"
    assert world.do("restore", "orders", "--to", "back") == 1  # it is not empty
    told = capsys.readouterr()
    (world.home / "repository").rename(world.home / "gone")
    for words in ("list", "plan"):
        assert world.do(words) == 1
        said = capsys.readouterr()
        assert "mahavishnu: backup `orders`: copy 1: restic snapshots failed" in said.err
        assert "{" not in said.err
        assert said.out.count('"copy": "2", "id"') == 1
    assert SECRET not in told.out + told.err


@pytest.mark.proof
def test_what_is_proved_of_a_repository_is_proved_of_no_other(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first one dies; the second, which is damaged, is what it was under another number."""
    world.write(spec(to=["repository", "second"], verify={}))
    world.begin()
    world.begin("second")
    assert world.do("run") == world.do("verify", "--all") == 0
    for pack in [one for one in (world.home / "second/data").rglob("*") if one.is_file()]:
        flipped(pack, 100)
    assert world.do("verify", "--all") == world.do("drill") == 1
    first, second = world.known().copies.values()
    assert first.drilled is not None
    world.write(spec(to="second", verify={}))
    assert shown(world, capsys) == {"1": (second.verified, None)}
    assert world.do("verify") == 1, "all of it is read again"
    one = world.known().copies["1"]
    assert (one.part, replace(one, cycle=second.cycle)) == (ALL, second)

    world.write(spec(to="third", verify={}))
    assert shown(world, capsys, code=1) == {}
    world.begin("third")
    assert shown(world, capsys) == {"1": (None, None)}
    assert world.do("run") == 0
    assert world.known().copies["1"].first == world.known().copies["1"].success


def test_a_repository_is_begun_at_a_new_place(world: World) -> None:
    """It is not the one that has gone: that one was elsewhere."""
    world.begin()
    assert world.do("run") == 0
    world.write(spec(to="second"))
    assert world.do("run") == 0
    assert (world.home / "second/config").exists()


def shown(
    world: World, capsys: pytest.CaptureFixture[str], code: int = 0
) -> dict[str, tuple[float | None, float | None]]:
    """What the service shows of each copy, and `list` says too: when it was last verified and drilled."""
    capsys.readouterr()
    assert world.do("list") == code
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    said = {one["copy"]: one for one in lines if one["event"] == "copy"}
    found: dict[tuple[str, str], float] = {}

    class Gauges:
        def gauge(self, signal: Signal, value: Callable[[], float], **labels: str) -> None:
            found[signal.name, labels.get("copy", "")] = value()

    loaded = load(world.home / "mahavishnu.yaml").spec
    show(loaded, lambda: world.state, Gauges(), time.time)  # type: ignore[arg-type]
    proved: dict[str, tuple[float | None, float | None]] = {}
    for copy, one in said.items():
        both = (found[BACKUP_VERIFIED.name, copy], found[BACKUP_DRILLED.name, copy])
        proved[copy] = tuple(None if math.isnan(at) else at for at in both)  # type: ignore[assignment]
        assert [at is None for at in proved[copy]] == [one["verified"] is None, one["drilled"] is None]
    return proved


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ('echo half; echo "no access with $DUMP_TOKEN" >&2; exit 3', "`sh` failed (3): no access with ***"),
        ("true", "the source is empty"),
    ],
)
def test_half_an_output_is_no_backup(
    script: str, why: str, world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A command that fails after it has written something, and one that writes nothing."""
    monkeypatch.setenv("DUMP_TOKEN", SECRET)
    dumping(world, script)
    assert world.do("run") == 1
    assert why in capsys.readouterr().err
    assert not world.known().copies


def test_a_token_of_a_command_is_hidden_in_an_address_and_in_json(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As by any client that says what it has asked for."""
    monkeypatch.setenv("DUMP_TOKEN", "4fX/tr&Zq")
    said = r'GET http://x?t=4fX%2Ftr%26Zq {"token": "4fX/tr\u0026Zq"}'
    dumping(world, f"echo '{said}' >&2; exit 1")
    assert world.do("run") == 1
    why = capsys.readouterr().err
    assert 'GET http://x?t=*** {"token": "***"}' in why
    assert [part for part in ("4fX", "Zq") if part in why] == []


@pytest.mark.parametrize(
    ("token", "told"),
    [
        ("4fX/tr+Zq=", "Head http://4fX/tr+Zq=@vault: refused"),
        ("4fX/tr+Zq=", "Head http://4fX%2Ftr+Zq=@vault: refused"),
        ("4fX/tr+Zq=", "Head http://4fX%2Ftr%2BZq%3D@vault: refused"),
        ("4fX%2Btr%3DZq", "Head http://4fX+tr=Zq@vault: refused"),
        ("4fX&tr<Zq", '{"message_type": "exit_error", "message": "at 4fX\\u0026tr\\u003cZq@vault: refused"}'),
        ("4fX&tr<Zq", '{"message_type": "status", "at": "4fX\\u0026tr\\u003cZq@vault: refused"}'),
        ('4fX"tr\\Zq', r'parse "http://4fX\"tr\\Zq@vault": refused'),
    ],
)
def test_a_secret_of_an_address_is_hidden_however_restic_writes_it(
    token: str, told: str, world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Go escapes an address as it sees fit, and quotes it in messages and in JSON."""
    (world.home / "bin").mkdir()
    fails = world.home / "bin/restic"
    fails.write_text(f"#!/bin/sh\n[ $1 = version ] && exec {world.restic} version\ncat told >&2\nexit 1\n")
    fails.chmod(0o755)
    (world.home / "told").write_text(f"{told}\n")
    monkeypatch.setenv("PATH", f"{fails.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("VAULT_TOKEN", token)
    world.write(
        {**spec(to="rest:http://${VAULT_TOKEN}@vault/"), "secrets": ["RESTIC_PASSWORD", "VAULT_TOKEN"]}
    )
    assert world.do("run") == 1
    said = capsys.readouterr()
    assert "***@vault" in said.err
    assert "refused" in said.err
    assert [part for part in ("4fX", "Zq") if part in said.out + said.err] == []


def test_a_person_at_a_terminal_is_told_in_sentences(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And sees how far it is; not one line is JSON."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    world.begin()
    assert world.do("run") == 0
    told = capsys.readouterr()
    first, saved = told.out.splitlines()
    assert first == "orders: capturing its sqlite"
    assert saved.startswith(f"orders: copy 1: saved {world.database.stat().st_size} bytes as ")
    assert "\r  [" in told.err
    for step, sentence in (
        ("verify", "orders: copy 1: read 1/7, no fault found"),
        ("drill", " s, and it is good"),
        ("plan", "  keep    "),
        ("list", "orders copy 1: 1 snapshots; succeeded 2"),
    ):
        assert world.do(step) == 0
        said = capsys.readouterr().out
        assert sentence in said
        assert "{" not in said
