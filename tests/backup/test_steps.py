"""Runs, prunes, verifications: what they do, what they refuse, and what is written down of them."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from mahavishnu.backup import (
    capture,
    child,
    drill,
    due,
    evidence,
    on_schedule,
    saving,
    sqlite,
    verifying,
)
from mahavishnu.backup.evidence import ALL, Copy, Evidence, read, write
from mahavishnu.backup.job import Failed, Job, job
from mahavishnu.backup.restic import Listed, ResticFailed, Taken
from mahavishnu.cli import run
from mahavishnu.load import accept
from mahavishnu.snapshots.retention import Snapshot
from mahavishnu.spec import Spec
from tests.backup.world import OF_BOTH, World, environment, flipped, spec
from tests.judges import newer


def test_without_restic_it_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And fails: there is no other way to be found instead."""
    (tmp_path / "mahavishnu.yaml").write_text(json.dumps(spec()))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("RESTIC_PASSWORD", "x")
    assert run(["backup", "run"]) == 2
    assert "apt-get install restic" in capsys.readouterr().err


@pytest.mark.parametrize("version", ["restic 0.13.1 compiled", "restic", ""])
def test_a_restic_that_is_too_old_is_none(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """0.14 is the first whose plan is known."""
    (tmp_path / "mahavishnu.yaml").write_text(json.dumps(spec()))
    (tmp_path / "restic").write_text(f"#!/bin/sh\necho '{version}'\n")
    (tmp_path / "restic").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("RESTIC_PASSWORD", "x")
    assert run(["backup", "run"]) == 2
    assert "too old" in capsys.readouterr().err


@pytest.mark.judge
def test_a_backup_that_cannot_begin_keeps_no_other_from_it(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its secret is missing: each verb goes on with the next one, says so at last, and writes down that it failed."""
    said = spec()
    said["secrets"].append("LOST")
    said["backups"] = {"first": {**said["backups"]["orders"], "password": "${LOST}"}, **said["backups"]}
    world.write(said)
    world.begin()
    for words in (["run", "--prune"], ["verify"], ["drill"], ["prune"]):
        assert world.do(*words) == 2
        assert "the secret `LOST` is neither" in capsys.readouterr().err
    done = {"run": True, "prune": True, "verify": True, "drill": True}
    assert world.known().steps == done
    assert read(world.state, "shop.first").steps == dict.fromkeys(done, False)
    for verb in ("list", "plan"):
        assert world.do(verb) == 2
        assert '"backup": "orders"' in capsys.readouterr().out


@pytest.mark.parametrize("step", ["run", "prune", "verify", "drill"])
def test_what_cannot_be_done_without_restic_has_failed(
    step: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last report says well; nobody would hear of it for weeks."""
    write(world.state, "shop.orders", Evidence(steps={step: True}))
    monkeypatch.setenv("PATH", str(world.home))
    assert world.do(step) == 2
    assert world.known().steps == {step: False}


def test_a_file_that_cannot_be_read_keeps_no_other_backup_from_it(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The system's own refusals are no more than one backup's, either."""
    two(world)
    tried: list[str] = []

    def refused(job: Job) -> None:
        tried.append(job.name)
        raise PermissionError(13, "Permission denied", "/x")

    monkeypatch.setattr(saving, "run", refused)
    assert world.do("run") == 2
    assert tried == ["orders", "users"]
    assert "mahavishnu: /x: permission denied" in capsys.readouterr().err


def waiting(runner: subprocess.Popen[bytes]) -> str:
    """For what a process waits, by the first that it says."""
    assert runner.stdout is not None
    told = json.loads(runner.stdout.readline())
    assert told["event"] == "waiting"
    return str(told["what"])


@pytest.mark.judge
def test_a_second_run_waits_for_the_first(world: World) -> None:
    """It says so, touches nothing before that, and can be asked to stop."""
    world.begin()
    with job(accept(world.home / "mahavishnu.yaml"), "orders", lambda event, **facts: None).step("list"):
        second, third = world.start("run"), world.start("verify")
        assert waiting(second) == waiting(third) == "backup `orders`"
        third.terminate()
        third.communicate(timeout=20)
        assert [*(world.home / "repository/snapshots").iterdir()] == []
    second.communicate(timeout=20)
    assert (second.returncode, third.returncode) == (0, 130)
    assert world.known().steps == {"run": True}


def two(world: World) -> tuple[Job, Job]:
    """Backups in one repository, and the spec of both."""
    said = spec()
    said["backups"]["users"] = said["backups"]["orders"]
    world.write(said)
    loaded = accept(world.home / "mahavishnu.yaml")
    return job(loaded, "orders", lambda event, **facts: None), job(
        loaded, "users", lambda event, **facts: None
    )


def test_backups_in_one_repository_take_turns(world: World) -> None:
    """Those that only add and read work beside each other; whoever makes, removes or checks is alone."""
    orders, users = two(world)
    heard, entered = Event(), Event()

    def hear(event: str, **facts: object) -> None:
        assert event == "waiting"
        heard.set()

    users = replace(users, tell=hear)

    def enter() -> None:
        with users.alone("verify", "1"):
            entered.set()

    with orders.beside("run", "1"), users.beside("run", "1"):
        assert not heard.is_set()
        thread = Thread(target=enter)
        thread.start()
        assert heard.wait(10)
        assert not entered.is_set()
    thread.join(10)
    assert entered.is_set()


@OF_BOTH
@pytest.mark.proof
@pytest.mark.judge
def test_backups_in_one_repository_begin_it_together(world: World) -> None:
    """Due in the same minute where there is no repository yet: it is made once, and what both saved restores."""
    two(world)
    names = ("orders", "users")
    quick = environment(0, 2, *names)
    said = json.loads((world.home / "mahavishnu.yaml").read_text())
    world.write({**said, "environments": {quick: {}}})
    runs = [world.start("run", name, MAHAVISHNU_ENV=quick) for name in names]
    for one in runs:
        one.communicate(timeout=60)
    assert [one.returncode for one in runs] == [0, 0]
    assert len([*(world.home / "repository/keys").iterdir()]) == 1
    checks = [world.start(verb, name, MAHAVISHNU_ENV=quick) for verb in ("verify", "drill") for name in names]
    for one in checks:
        one.communicate(timeout=60)
    assert [one.returncode for one in checks] == [0] * 4


def slowed(world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[subprocess.Popen[bytes], int]:
    """A run under way, and the number of its restic, which takes a while."""
    (world.home / "bin").mkdir()
    slow = world.home / "bin/restic"
    slow.write_text(
        f"#!/bin/sh\n[ $1 = version ] && exec {world.restic} version\necho $$ > pid\nexec sleep 9\n"
    )
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}:{os.environ['PATH']}")
    runner = world.start("run")
    while not (world.home / "pid").exists() or not (left := (world.home / "pid").read_text()):
        time.sleep(0.01)
    return runner, int(left)


def test_a_run_that_is_asked_to_stop_asks_its_restic_first(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a container is stopped: restic removes its lock, and nothing goes on that nobody waits for."""
    runner, left = slowed(world, monkeypatch)
    runner.terminate()
    runner.communicate(timeout=20)
    assert runner.returncode == 130
    with pytest.raises(ProcessLookupError):
        os.kill(left, 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_in_the_moment_in_which_a_child_begins_ends_it(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When it runs, and nobody knows of it yet."""
    begun: list[int] = []

    class Stopped(subprocess.Popen[bytes]):
        def __init__(self, *words: Any, **said: Any) -> None:
            super().__init__(*words, **said)
            begun.append(self.pid)
            signal.raise_signal(number)

    # Who starts tests in the background may have said that they ignore SIGINT.
    before = signal.signal(number, signal.default_int_handler)
    monkeypatch.setattr(subprocess, "Popen", Stopped)
    try:
        with pytest.raises(KeyboardInterrupt):
            child.run(["sleep", "30"], {})
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)
    with pytest.raises(ProcessLookupError):
        os.kill(begun[0], 0)


def test_what_is_left_of_a_killed_run_is_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runner is gone, its restic goes on: nothing is begun beside that, and everything once it has ended."""
    runner, left = slowed(world, monkeypatch)
    runner.kill()
    runner.communicate()
    second = world.start("run")
    assert waiting(second) == "backup `orders`"
    (world.home / "bin/restic").unlink()
    world.begin()
    os.kill(left, signal.SIGKILL)
    second.communicate(timeout=20)
    assert second.returncode == 0
    assert world.known().steps == {"run": True}


def test_a_source_that_is_not_there_is_no_backup(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing, an empty and a damaged database: exit 1, no snapshot, no success; the last report stays."""
    world.database.unlink()
    assert world.do("run") == 1
    assert "there is no database" in capsys.readouterr().err
    world.database.write_bytes(b"x" * 4096)
    assert world.do("run") == 1
    assert not world.known().copies
    assert world.known().steps == {"run": False}
    assert not (world.home / "repository").exists()


def test_what_is_in_the_way_of_a_run_is_named(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever put it there."""
    world.state.mkdir(parents=True)
    (world.state / "scratch").write_text("mine")
    assert world.do("run") == 1
    assert re.search("`.*scratch/orders` cannot be emptied: Not a directory", capsys.readouterr().err)
    assert world.known().steps == {"run": False}


def test_a_repository_in_its_own_source_is_no_backup(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each would hold all that were before it. Only here it is seen where one of the two is said from the root."""
    (world.home / "files").mkdir()
    (world.home / "files/a").write_text("a")
    world.write(spec(source={"directory": str(world.home / "files")}, to="files/repository", verify={}))
    assert world.do("run") == 1
    assert "`files/repository` lies in the folder that is backed up" in capsys.readouterr().err
    assert not (world.home / "files/repository").exists()


def test_a_hook_that_fails_before_prevents_the_run(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """And the one after is told of the failure."""
    said = ["sh", "-c", "echo $BACKUP_NAME $BACKUP_OUTCOME [$RESTIC_PASSWORD] > after"]
    world.write(spec(hooks={"before": ["false"], "after": said}))
    assert world.do("run") == 1
    assert "the hook `before` failed (1)" in capsys.readouterr().err
    assert (world.home / "after").read_text() == "orders failure []\n"


def test_a_hook_that_fails_after_hides_no_reason(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Both are told; and where all else went well, the hook's alone."""
    world.write(spec(hooks={"after": ["sh", "-c", "echo no chat, $BACKUP_OUTCOME >&2; exit 7"]}))
    world.database.rename(world.home / "elsewhere")
    assert world.do("run") == 1
    told = capsys.readouterr()
    gone = f"there is no database at {world.database}"
    hook = "the hook `after` failed (7): no chat"
    assert f"mahavishnu: {gone}; {hook}, failure\n" in told.err
    events = [json.loads(line) for line in told.out.splitlines()]
    assert [(one["event"], one.get("why")) for one in events] == [("capturing", None), ("failed", gone)]
    (world.home / "elsewhere").rename(world.database)
    world.begin()
    assert world.do("run") == 1
    assert f"mahavishnu: {hook}, success\n" in capsys.readouterr().err


def test_a_run_that_is_asked_to_stop_is_stopped_whatever_its_hook_does(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no failure of the hook."""
    world.write(spec(hooks={"after": ["false"]}))

    def stopped(_: Job) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(capture, "captured", stopped)
    assert world.do("run") == 130


def test_a_person_is_told_what_kept_a_source_from_being_captured(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No copy has anything to do with it."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    world.database.unlink()
    assert world.do("run") == 1
    assert f"\norders: there is no database at {world.database}\n" in capsys.readouterr().out


def test_what_a_hook_leaves_behind_is_not_waited_for(world: World) -> None:
    """It holds what the hook writes to, for as long as it lasts."""
    world.write(spec(hooks={"before": ["sh", "-c", "sleep 30 & echo $! > pid; exit 3"]}))
    began = time.monotonic()
    assert world.do("run") == 1
    assert time.monotonic() - began < 10
    os.kill(int((world.home / "pid").read_text()), signal.SIGKILL)


def test_a_command_is_ended_with_all_that_it_has_begun(world: World) -> None:
    """A shell that is asked to stop does not ask its children; they would go on, and write to what is gone."""
    world.write(
        spec(source={"command": ["sh", "-c", "sh -c 'echo $$ > pid; exec sleep 30' | cat"]}, verify={})
    )
    runner = world.start("run")
    while not (world.home / "pid").exists() or not (left := (world.home / "pid").read_text()):
        time.sleep(0.01)
    runner.terminate()
    runner.communicate(timeout=20)
    assert runner.returncode == 130
    until = time.monotonic() + 5
    while not gone(int(left)):
        assert time.monotonic() < until
        time.sleep(0.01)


def gone(pid: int) -> bool:
    """Whether a process has ended, also where nobody has asked how."""
    try:
        return not Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"first": "x", "copies": {}, "steps": {}}',
     '{"first": null, "copies": {"1": {"evil": 1}}, "steps": {}}',
     '{"first": null, "copies": {"1": {"success": true}}, "steps": {}}', '{"first": null, "copies": [], "steps": {}}'],
)  # fmt: skip
def test_a_report_that_cannot_be_understood_is_none(text: str, tmp_path: Path) -> None:
    """Half a file, another program's, a forged one: as if there were none, so that the alert fires."""
    (tmp_path / "a.json").write_text(text)
    assert read(tmp_path, "a") == Evidence()


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Every field."""
    one = Copy(0.5, 1.5, "abc", 2.5, [1, 2], 3, 4.5, 5.5, 6.5, 7.5, 4, 8.5, 9.5, 10.5, 11.5, "e3b0")
    known = Evidence({"1": one, "2": Copy()}, {"run": True, "drill": False})
    write(tmp_path, "a", known)
    assert read(tmp_path, "a") == known
    assert [one.name for one in tmp_path.iterdir()] == ["a.json"]


def test_an_older_report_says_once_when_the_first_backup_was(tmp_path: Path) -> None:
    """It is that of the copies that had one by then."""
    said = '{"first": 0.5, "copies": {"1": {"success": 1.5}, "2": {}}, "steps": {}}'
    (tmp_path / "a.json").write_text(said)
    assert read(tmp_path, "a") == Evidence({"1": Copy(first=0.5, success=1.5), "2": Copy()}, {})


def test_a_live_database_is_copied_as_of_one_moment(world: World) -> None:
    """In WAL mode, with a writer in the middle of a transaction: what was not committed is not in it."""
    with closing(sqlite3.connect(world.database)) as writer:
        writer.execute("pragma journal_mode=wal")
        writer.execute("insert into orders (what) values ('committed')")
        writer.commit()
        writer.execute("insert into orders (what) values ('not yet')")
        sqlite.copy(world.database, world.home / "copy")
    assert [what for _, what in world.rows(world.home / "copy")[200:]] == ["committed"]


@pytest.fixture
def kept_locked(world: World) -> Generator[Path]:
    """The database, in use by somebody who lets nobody else in."""
    with closing(sqlite3.connect(world.database)) as writer:
        writer.execute("pragma locking_mode=exclusive")
        writer.execute("begin exclusive")
        yield world.database


def test_a_database_that_stays_locked_is_not_waited_for_without_end(
    kept_locked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no backup."""
    monkeypatch.setattr(sqlite, "_PATIENCE", 0.1)
    with pytest.raises(sqlite.SqliteFailed, match="is locked by somebody"):
        sqlite.copy(kept_locked, kept_locked.with_name("copy"))


def test_who_waits_for_a_database_can_be_asked_to_stop(kept_locked: Path) -> None:
    """As a container is stopped."""
    previous = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with pytest.raises(KeyboardInterrupt):
            sqlite.copy(kept_locked, kept_locked.with_name("copy"))
    finally:
        signal.signal(signal.SIGALRM, previous)


@OF_BOTH
@pytest.mark.proof
@pytest.mark.judge
def test_a_life_of_a_backup(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """A run, its report, parts of a reading, and a repository that has gone: a disaster, not a beginning."""
    assert world.do("run", "--prune") == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["event"] for one in events if one["event"] != "progress"] == [
        "capturing",
        "absent",
        "initialised",
        "saved",
        "pruned",
    ]
    copy = world.known().copies["1"]
    assert copy.sizes == [world.database.stat().st_size]
    assert (copy.snapshots, copy.verified, copy.drilled) == (1, None, None)
    assert world.do("verify") == 0
    copy = world.known().copies["1"]
    assert (copy.part, copy.verified) == (2, None)
    assert list((world.state / "scratch").glob("orders*")) == []
    (world.home / "repository").rename(world.home / "gone")
    assert world.do("run") == 1
    assert "not there any more" in capsys.readouterr().err
    assert not (world.home / "repository").exists()
    assert world.known().copies["1"].success == copy.success
    assert world.known().steps["run"] is False


@OF_BOTH
@pytest.mark.judge
def test_a_drill_restores_as_another_machine_would(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Of what restic remembers here of a repository nothing helps where this machine is gone."""
    world.begin()
    assert world.do("run") == 0
    assert world.do("drill") == 0
    remembered = [one.name for one in (world.state / "scratch/.cache").rglob("data/*/*") if one.is_file()]
    assert remembered
    for name in remembered:
        flipped(world.home / f"repository/data/{name[:2]}/{name}", 40)
    assert world.do("drill") == 1
    assert "restic restore failed" in capsys.readouterr().err
    assert world.known().steps["drill"] is False


@OF_BOTH
@pytest.mark.proof
@pytest.mark.judge
def test_it_is_verified_when_all_of_it_was_read(world: World) -> None:
    """Seven parts, as of the moment at which the first was begun; after damage all of it is read again."""
    world.begin()
    assert world.do("run") == 0
    began = time.time()
    for part in range(2, 8):
        assert world.do("verify") == 0
        assert world.known().copies["1"].part == part
        assert world.known().copies["1"].verified is None
    assert world.do("verify") == 0
    verified = world.known().copies["1"].verified
    assert verified is not None
    assert began <= verified
    for pack in [one for one in (world.home / "repository/data").rglob("*") if one.is_file()]:
        flipped(pack, 100)
    assert world.do("verify", "--all") == 1
    after = world.known()
    assert (after.copies["1"].verified, after.copies["1"].part, after.steps["verify"]) == (
        verified,
        ALL,
        False,
    )
    assert world.do("verify") == 1


def snapshots(world: World) -> list[str]:
    """The ids of all, the oldest first."""
    return [str(one["id"]) for one in json.loads(world.ask("snapshots", "--json")) or ()]


@OF_BOTH
@pytest.mark.judge
def test_a_repository_without_its_snapshots_is_not_verified(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of it is sound, and nothing can be restored: it fails, and the stock that is shown is none."""
    world.begin()
    assert world.do("verify", "--all") == 1
    assert "there is no snapshot of this backup that is whole" in capsys.readouterr().err
    assert world.do("run") == world.do("verify", "--all") == 0
    good = world.known().copies["1"]
    world.ask("forget", *snapshots(world))
    for words in (["verify"], ["verify", "--all"], ["drill"]):
        assert world.do(*words) == 1
        assert "there is no snapshot of this backup that is whole" in capsys.readouterr().err
    known = world.known()
    one = known.copies["1"]
    assert (one.snapshots, one.newest, one.oldest) == (0, 0, 0)
    assert (one.verified, known.steps["verify"], known.steps["drill"]) == (good.verified, False, False)


@pytest.mark.proof
@OF_BOTH
@pytest.mark.judge
def test_the_snapshot_of_the_last_backup_is_missed(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """By the reading and by the drill, which would find the one before it good; changed tags are no loss."""
    world.begin()
    for rows in (200, 201):
        world.fill(rows)
        assert world.do("run") == 0
    world.ask("tag", "--add", "seen", snapshots(world)[-1])
    assert world.do("verify") == world.do("drill") == 0
    before, last = snapshots(world)
    world.ask("forget", last)
    for verb in ("verify", "drill"):
        capsys.readouterr()
        assert world.do(verb) == 1
        assert re.search("the snapshot of the last backup, .*, is gone", capsys.readouterr().err)
    one = world.known().copies["1"]
    assert (one.snapshots, one.newest) == (1, one.oldest)
    assert one.newest < (one.success or 0)
    assert world.do("run") == world.do("verify") == world.do("drill") == 0
    assert snapshots(world)[0] == before


@pytest.mark.judge
def test_a_snapshot_that_lies_ahead_makes_no_history(world: World) -> None:
    """Somebody forged it, or a clock was wrong; it counts, and proves nothing."""
    world.begin()
    world.forge("2100-01-01 00:00:00")
    assert world.do("run") == 0
    one = world.known().copies["1"]
    assert (one.snapshots, one.newest) == (2, one.oldest)
    assert one.newest < time.time()


class Parts:
    """A repository of which parts cannot be read; what was asked of it, in order."""

    def __init__(self) -> None:
        self.damaged = set[int]()
        self.read: list[str | None] = []

    def unlock(self) -> None: ...

    def snapshots(self) -> Listed:
        return Listed([Taken(Snapshot("a", datetime.fromtimestamp(0, UTC), 0), (), "", ())], [], 0)

    def check(self, part: str | None) -> None:
        self.read.append(part)
        if self.damaged if part is None else int(part[0]) in self.damaged:
            raise ResticFailed("damaged")

    def clean(self, text: str) -> str:
        return text


def test_a_part_that_cannot_be_read_is_read_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it can: nights that read other parts well would end the alert while the damage is there."""
    parts, nights = Parts(), itertools.count(1)

    def repositories(_: Job) -> dict[str, Parts]:
        return {"1": parts}

    monkeypatch.setattr(Job, "repositories", repositories)

    def night(*, everything: bool = False) -> None:
        loaded, at = accept(world.home / "mahavishnu.yaml"), next(nights)
        one = job(loaded, "orders", lambda event, **facts: None, lambda: at)
        with suppress(Failed):
            verifying.verify(one, everything=everything)

    parts.damaged = {3}
    for _ in range(5):
        night()
    assert (parts.read, world.known().steps["verify"]) == (["1/7", "2/7", "3/7", "3/7", "3/7"], False)
    parts.damaged.clear()
    for _ in range(5):
        night()
    assert parts.read[-5:] == ["3/7", "4/7", "5/7", "6/7", "7/7"]
    known = world.known()
    assert (known.copies["1"].verified, known.steps["verify"]) == (1, True)

    parts.damaged = {7}
    night(everything=True)
    night()
    assert (parts.read[-2:], world.known().steps["verify"]) == ([None, None], False)
    parts.damaged.clear()
    for _ in range(2):
        night()
    assert (parts.read[-2:], world.known().copies["1"].part) == ([None, "1/7"], 2)


@pytest.mark.proof
@pytest.mark.judge
def test_restic_is_upgraded_and_set_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one version has saved the other verifies, adds to and restores; and the first one reads that again."""
    world.begin()
    old, path = world.rows(), os.environ["PATH"]
    assert world.do("run") == 0
    first = world.known().copies["1"].snapshot
    world.fill(300)
    monkeypatch.setenv("PATH", f"{newer('restic').parent}{os.pathsep}{path}")
    for words in (["run", "--prune"], ["verify", "--all"], ["drill"]):
        assert world.do(*words) == 0
    assert world.do("restore", "orders", "--snapshot", first, "--to", "back") == 0
    assert world.rows(world.home / "back/orders.sqlite") == old
    monkeypatch.setenv("PATH", path)
    for words in (["drill"], ["verify", "--all"], ["run"]):
        assert world.do(*words) == 0
    assert world.known().copies["1"].snapshots == 3


class Clock:
    """A wall clock that is set."""

    def __init__(self, at: str) -> None:
        self.at = datetime.fromisoformat(at).replace(tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at


class Child:
    """A process that has ended, or not."""

    returncode = 0

    def __init__(self) -> None:
        self.ended = self.asked = False

    def poll(self) -> int | None:
        return 0 if self.ended else None

    def terminate(self) -> None:
        self.asked = True

    def wait(self) -> None:
        self.ended = self.asked


def test_each_step_is_begun_once_when_it_is_due(tmp_path: Path) -> None:
    """Late ones once, a running one not again, which is told, and a clock that goes back begins nothing."""
    backup = Spec.model_validate(spec()).backups["orders"]
    queue = [*due.dues("orders", backup)]
    assert [one.schedule.text for one in queue] == ["0 2 * * *", "0 4 * * *", "0 6 * * 0"]
    clock, begun, children = Clock("2026-06-30T01:59"), list[str](), list[Child]()
    told: list[tuple[str, object]] = []

    def begin(one: due.Due) -> Child:
        begun.append(one.step)
        children.append(Child())
        return children[-1]

    def tell(event: str, **facts: object) -> None:
        told.append((event, facts["step"]))

    loop = on_schedule.Loop(queue, begin, tell, tmp_path, clock)  # type: ignore[arg-type]
    loop.look()
    assert begun == []
    clock.at += timedelta(minutes=2)
    loop.look()
    loop.look()
    assert begun == ["run"]
    clock.at += timedelta(days=3, hours=2)  # the host slept; the first run has not ended
    loop.look()
    assert begun == ["run", "verify"]
    assert told == [("due", "run orders"), ("late", "run orders"), ("due", "verify orders")]
    clock.at -= timedelta(days=365)
    children[0].ended = True
    loop.look()
    assert begun == ["run", "verify"]
    assert (tmp_path / due.ALIVE).exists()
    assert evidence.FOLDER == "MAHAVISHNU_STATE"


SAVED, DRILLED, LONG_AGO = (
    datetime.fromisoformat(f"2026-11-{moment}:05+00:00") for moment in ("29T02:00", "29T06:00", "01T06:00")
)


@pytest.mark.parametrize(
    ("began", "saved", "drilled", "expected"),
    [
        ("2026-11-30T02:00:40", SAVED, DRILLED, ["30 02:00 run", "30 04:00 verify", "01 02:00 run"]),
        ("2026-11-30T02:00:40", SAVED, LONG_AGO, ["30 02:00 run", "30 02:01 drill", "30 04:00 verify"]),
        ("2026-11-30T01:59:40", SAVED, None, ["30 02:00 run", "30 04:00 verify", "01 02:00 run"]),
        ("2026-11-30T02:00:40", None, None, ["30 04:00 verify", "01 02:00 run", "01 04:00 verify"]),
        ("2026-11-29T02:01:00", SAVED, DRILLED, ["29 04:00 verify", "29 06:00 drill", "30 02:00 run"]),
        ("2025-11-29T01:00:00", SAVED, DRILLED, ["29 02:00 run", "29 04:00 verify", "30 02:00 run"]),
    ],
    ids=["missed", "both", "in time", "never", "done", "ahead"],
)
def test_what_was_due_since_it_last_succeeded_is_made_up_at_once(
    tmp_path: Path, began: str, saved: datetime | None, drilled: datetime | None, expected: list[str]
) -> None:
    """A container that is made anew at two, or ends amid a run, would leave two days between backups; drills follow."""
    queue = [*due.dues("orders", Spec.model_validate(spec()).backups["orders"])]
    clock, begun, under_way = Clock(began), list[str](), list[tuple[datetime, Child]]()
    known = {"run": saved, "drill": drilled}

    def begin(one: due.Due) -> Child:
        begun.append(f"{clock.at:%d %H:%M} {one.step}")
        under_way.append((clock.at, Child()))
        return under_way[-1][1]

    def ignore(event: str, **facts: object) -> None: ...

    loop = on_schedule.Loop(queue, begin, ignore, tmp_path, clock, lambda one: known.get(one.step))  # type: ignore[arg-type]
    while len(begun) < 3:
        loop.look()
        clock.at += timedelta(seconds=15)
        for at, process in under_way:
            process.ended = clock.at - at > timedelta(seconds=30)
    assert begun == expected


def test_a_loop_knows_when_each_step_last_succeeded(world: World) -> None:
    """Of the copy for which that is longest ago; what was never done is not owed."""
    world.write(spec(to=["repository", "second"]))
    found = accept(world.home / "mahavishnu.yaml")
    last = on_schedule.succeeded(found, lambda event, **facts: None)
    run, verify, drill = due.dues("orders", found.spec.backups["orders"])
    assert [last(one) for one in (run, verify, drill)] == [None, None, None]
    known = Evidence()
    known.copy("1").success, known.copy("2").success, known.copy("2").drilled = 100.0, 50.0, 70.0
    evidence.write(world.state, "shop.orders", known)
    assert [last(one) for one in (run, verify, drill)] == [
        datetime.fromtimestamp(50, UTC),
        None,
        datetime.fromtimestamp(70, UTC),
    ]


def test_a_clock_that_was_ahead_puts_nothing_off(tmp_path: Path) -> None:
    """A machine that boots a year ahead, and is set right a minute later, makes its backup on the next night."""
    queue = [*due.dues("orders", Spec.model_validate(spec()).backups["orders"])]
    clock, begun = Clock("2027-06-30T12:00"), list[str]()

    def begin(one: due.Due) -> Child:
        begun.append(f"{clock.at:%F %R} {one.step}")
        return Child()

    loop = on_schedule.Loop(queue, begin, lambda event, **facts: None, tmp_path, clock)  # type: ignore[arg-type]
    for moment in ("2026-06-30T12:01", "2026-07-01T01:59", "2026-07-01T02:00"):
        clock.at = Clock(moment).at
        loop.look()
    assert begun == ["2026-07-01 02:00 run"]


def test_steps_under_way_are_waited_for_when_the_loop_is_asked_to_stop(tmp_path: Path) -> None:
    """All are asked first. Whoever ends before them ends the container, and them with it."""
    children = [Child(), Child()]
    backup = Spec.model_validate(spec()).backups["orders"]
    queue, clock = [*due.dues("orders", backup)], Clock("2026-06-30T00:00")

    def asked_to_stop(event: str, **facts: object) -> None:
        if facts["step"] == "verify orders":
            raise KeyboardInterrupt

    left = iter(children)
    loop = on_schedule.Loop(queue, lambda _: next(left), asked_to_stop, tmp_path, clock)  # type: ignore[arg-type]
    clock.at += timedelta(hours=3)
    loop.look()
    clock.at += timedelta(hours=3)
    with pytest.raises(KeyboardInterrupt):
        loop.run()
    assert [one.ended for one in children] == [True, False]  # the second was not begun


def test_the_loop_ends_when_a_container_is_stopped(world: World) -> None:
    """Its first process hears only what it listens to."""
    runner = world.start("run", "--on-schedule")
    while not (world.state / due.ALIVE).exists():
        assert runner.poll() is None
        time.sleep(0.01)
    runner.terminate()
    runner.communicate(timeout=20)
    assert runner.returncode == 130


def test_a_folder_that_cannot_be_written_is_named_before_anything_is_restored(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the system's own words: restic has a hundred others, and not those."""
    world.begin()
    assert world.do("run") == 0

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(drill, "TemporaryFile", refused)
        assert world.do("restore", "orders", "--to", "there") == 1
    said = capsys.readouterr()
    assert "nothing can be written to there: Permission denied; nothing was restored" in said.err
    assert "restoring" not in said.out
    (world.home / "file").touch()
    assert world.do("restore", "orders", "--to", "file") == 1
    assert "nothing can be written to file: File exists" in capsys.readouterr().err


def test_what_is_restored_is_for_nobody_elses_eyes(world: World) -> None:
    """The folder, and a dump also in one that was there and is open to all."""
    world.begin()
    assert world.do("run") == 0
    (world.home / "open").mkdir(mode=0o755)
    for to in ("open", "deep/own"):
        assert world.do("restore", "orders", "--to", to) == 0
        assert (world.home / to / "orders.sqlite").stat().st_mode & 0o777 == 0o600
    assert (world.home / "deep/own").stat().st_mode & 0o777 == 0o700
