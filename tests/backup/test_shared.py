"""Jobs on machines of their own, which share nothing but a repository: no file of one says what another does."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

import pytest

from mahavishnu.backup import beginning
from mahavishnu.backup.evidence import read
from mahavishnu.backup.restic import Repository
from tests.backup.world import OF_BOTH, PASSWORD, RESTICS, World, environment, flipped, spec

pytestmark = pytest.mark.judge
SLOW = ("--limit-download", "1")


@contextmanager
def locked(world: World, *words: str, end: int = signal.SIGINT) -> Generator[subprocess.Popen[str]]:
    """Somebody else's restic, which has locked the repository, until it is told to `end`."""
    env = {**os.environ, "RESTIC_REPOSITORY": str(world.home / "repository"), "RESTIC_PASSWORD": PASSWORD}
    pipe = subprocess.PIPE
    command = [str(world.restic), "--no-cache", *words]
    holder = subprocess.Popen(command, env=env, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    try:
        until(lambda: any(len(one.name) == 64 for one in (world.home / "repository/locks").iterdir()))
        holder.send_signal(signal.SIGSTOP)
        yield holder
    finally:
        holder.send_signal(end)
        holder.send_signal(signal.SIGCONT)
        holder.communicate(timeout=20)


def until(so: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not so():
        assert time.monotonic() < end
        time.sleep(0.01)


def waiting(process: subprocess.Popen[bytes]) -> dict[str, str]:
    """What it tells while it waits."""
    assert process.stdout is not None
    for line in process.stdout:
        told = json.loads(line)
        if told["event"] == "waiting":
            return dict(told)
    raise AssertionError(process.communicate())


@OF_BOTH
@pytest.mark.parametrize("words", [["run", "--prune"], ["verify"], ["drill"], ["prune"]], ids=" ".join)
def test_a_step_waits_until_nobody_has_the_repository_locked(words: list[str], world: World) -> None:
    """It says once for whom, and then does all that it has to: what it is fed is fed to the try that succeeds."""
    world.begin()
    assert world.do("run") == 0
    with locked(world, *SLOW, "check", "--read-data") as holder:
        step = world.start(*words)
        told = waiting(step)
    out, err = step.communicate(timeout=30)
    assert (step.returncode, err) == (0, b"")
    assert (told["what"], told["at_most"]) == ("the repository of copy 1", "12h")
    assert told["held_by"].startswith(f"PID {holder.pid} on ")
    assert b'"waiting"' not in out
    assert world.known().steps[words[0]]
    assert world.do("drill") == 0


@OF_BOTH
def test_a_step_gives_up_and_has_found_no_damage(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody is told that backups are damaged where none was looked at; one that was not made is told of."""
    world.begin()
    assert world.do("run") == 0
    assert world.do("verify") == 0
    before = world.known()
    with locked(world, *SLOW, "check", "--read-data") as holder:
        capsys.readouterr()
        for step in ("verify", "drill"):
            assert world.do(step, "--wait", "10ms") == 2
            assert f"copy 1 was locked for 10ms by PID {holder.pid} on " in capsys.readouterr().err
        assert world.known() == before
        for step in ("run", "prune"):
            assert world.do(step, "--wait", "10ms") == 2
            assert world.known().steps[step] is False
    assert world.known().steps["verify"]


def test_damage_beside_a_repository_that_is_locked_is_damage(world: World) -> None:
    """What was found in one copy is written down, though nobody could look into the other."""
    world.begin()
    world.begin("second")
    world.write(spec(to=["repository", "second"]))
    assert world.do("run") == 0
    for pack in (world.home / "second/data").rglob("*"):
        if pack.is_file():
            flipped(pack, 100)
    with locked(world, *SLOW, "check", "--read-data"):
        assert world.do("verify", "--wait", "10ms") == 1
    assert world.known().steps["verify"] is False


@OF_BOTH
def test_nobody_waits_for_a_lock_whose_process_is_gone(world: World) -> None:
    """It was killed while others waited for it."""
    world.begin()
    assert world.do("run") == 0
    with locked(world, *SLOW, "check", "--read-data", end=signal.SIGKILL):
        step = world.start("verify")
        waiting(step)
    assert step.wait(30) == 0
    step.communicate()


@pytest.mark.proof
@pytest.mark.parametrize("world", RESTICS, indirect=True)
def test_of_two_first_runs_at_one_moment_one_makes_the_repository(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each environment has a state of its own. Without anything between them both make it, and it is ruined."""
    monkeypatch.undo()
    world = World(world.home, monkeypatch, restic=world.restic)
    first, second = environment(0, 0.3), environment(9, 9.5)
    world.write({**spec(to=str(world.home / "repository")), "environments": {first: {}, second: {}}})
    states = {one: world.home / one for one in (first, second)}
    runs = [world.start("run", "--env", one, MAHAVISHNU_STATE=str(at)) for one, at in states.items()]
    said = [run.communicate(timeout=60) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    assert [b'"initialised"' in out for out, _ in said] == [True, False]
    for name, at in states.items():
        assert read(at, f"shop.orders@{name}").steps == {"run": True}
        monkeypatch.setenv("MAHAVISHNU_STATE", str(at))
        assert world.do("verify", "--env", name) == 0
        assert world.do("drill", "--env", name) == 0


def paused(monkeypatch: pytest.MonkeyPatch, *meanwhile: Callable[[], object]) -> None:
    """What others do in each pause of a first run."""
    each = iter(meanwhile)

    def pause(_: float) -> None:
        next(each, lambda: None)()

    monkeypatch.setattr(beginning, "pause", pause)


@OF_BOTH
def test_a_repository_that_somebody_has_made_meanwhile_is_not_made_again(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is asked for again, and said that it is."""
    paused(monkeypatch, world.begin)
    assert world.do("run") == 0
    out = capsys.readouterr().out
    assert '"absent"' in out
    assert '"initialised"' not in out
    assert world.do("drill") == 0


@OF_BOTH
def test_a_repository_that_two_have_made_at_once_is_told_of_before_anything_is_saved(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their keys and configurations are mixed; what to do is said, and by whoever comes later, too."""
    ours, theirs = world.home / "repository", world.home / "theirs"

    def mixed() -> None:
        world.ask("init", place="theirs")
        (ours / "config").chmod(0o600)
        shutil.copy(theirs / "config", ours / "config")

    paused(monkeypatch, lambda: None, mixed)
    for step in ("run", "drill"):
        assert world.do(step) == 1
        said = capsys.readouterr().err
        assert "where several jobs made this repository at once, it is ruined" in said
        assert "let one job make the new one before the others" in said
    assert world.known().copies["1"].success is None
    assert not any(path.is_file() for path in (ours / "snapshots").iterdir())
    shutil.rmtree(ours)
    assert world.do("run") == 0


def test_who_was_too_late_to_make_it_takes_what_is_there(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """restic refuses to make it where one is, which is no failure then."""
    asked: list[Repository] = []

    def made(self: Repository) -> None:
        asked.append(self)
        world.begin()
        original(self)

    original = Repository.init
    monkeypatch.setattr(Repository, "init", made)
    assert world.do("run") == 0
    assert len(asked) == 1


def test_a_repository_that_cannot_be_made_says_why(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """After it was looked for again."""
    (world.home / "file").touch()
    world.write(spec(to="file/repository"))
    assert world.do("run") == 1
    assert "not a directory" in capsys.readouterr().err


@pytest.mark.parametrize("wait", [(), ("--wait", "1s")])
def test_a_first_run_waits_no_longer_than_it_is_told_to(
    wait: tuple[str, ...], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who knows that he is alone need not wait for others."""
    pauses = list[float]()
    monkeypatch.setattr(beginning, "pause", pauses.append)
    assert world.do("run", *wait) == 0
    assert pauses[0] == (1 if wait else beginning.apart("shop", "orders"))


def test_backups_wait_for_times_of_their_own() -> None:
    """The same on every machine, all over the span."""
    names = [f"orders{number}" for number in range(1000)]
    seconds = sorted(beginning.apart("shop", name) for name in names)
    assert beginning.apart("shop", names[0]) != beginning.apart("billing", names[0])
    assert seconds[0] < 1
    assert seconds[-1] > beginning.SPAN - 1
    assert seconds[500] == pytest.approx(beginning.SPAN / 2, rel=0.1)
