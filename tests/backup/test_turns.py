"""A command that waits for another says so at once, for whom, and gives up in the end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mahavishnu.backup.job import SCHEDULED, TYPED
from mahavishnu.backup.patience import Busy, Patience
from mahavishnu.backup.turns import Turn
from mahavishnu.cli import run
from mahavishnu.units import Duration
from tests.backup.world import World, spec
from tests.judges import ROOT

BRIEF = Duration.parse("10ms")
SIGNED = r"`{step}` of `orders` since \d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\dZ \(process {number} on \S+\)"


@contextmanager
def stuck(world: World, step: str, hooks: dict[str, Any] | None = None) -> Generator[subprocess.Popen[bytes]]:
    """A process whose restic, or whose hook, does not come to an end."""
    begun = world.home / "begun"
    endless = (
        f"#!/bin/sh\n[ $1 = version ] && exec {world.restic} version\necho $$ > {begun}\nexec sleep 60\n"
    )
    (world.home / "bin").mkdir()
    (world.home / "bin/restic").write_text(endless)
    (world.home / "bin/restic").chmod(0o755)
    world.write(spec(**({"hooks": hooks} if hooks else {})))
    holder = world.start(step, "orders", PATH=f"{world.home / 'bin'}:/usr/bin:/bin")
    try:
        while not begun.exists() or not begun.read_text():
            assert holder.poll() is None
            time.sleep(0.01)
        yield holder
    finally:
        holder.terminate()
        holder.communicate(timeout=20)


def gives_up(world: World, *words: str, held_by: str) -> None:
    """Told at once for whom it waits, and in the end what to do; nothing is written down, for it did not begin."""
    before = world.known()
    began = time.monotonic()
    waiter = world.start(*words, "--wait", "1s")
    assert waiter.stdout is not None
    told, at_once = json.loads(waiter.stdout.readline()), time.monotonic() - began
    out, err = waiter.communicate(timeout=20)
    assert (told["event"], told["what"], told["at_most"]) == ("waiting", "backup `orders`", "1s")
    assert re.fullmatch(held_by, told["held_by"])
    assert time.monotonic() - began > at_once + 0.8
    assert (waiter.returncode, out) == (2, b"")
    assert re.fullmatch(
        f"mahavishnu: backup `orders` was not free for 1s: held by {held_by}. "
        r"End that process, and what it has begun; or wait longer, with --wait\n",
        err.decode(),
    )
    assert world.known() == before


@pytest.mark.parametrize("step", ["run", "prune", "verify", "drill"])
def test_a_restore_hears_which_step_it_waits_for_and_gives_up(step: str, world: World) -> None:
    """One that does not end: a repository that does not answer, a query of a drill that waits for ever."""
    with stuck(world, step) as holder:
        held_by = SIGNED.format(step=step, number=holder.pid)
        gives_up(world, "restore", "orders", "--to", "back", held_by=held_by)


@pytest.mark.parametrize("words", [["run"], ["verify"], ["drill"], ["prune"]], ids=" ".join)
def test_each_step_gives_up_waiting_for_a_hook_that_hangs(words: list[str], world: World) -> None:
    """It has no bound of its own: what it waits for is its user's."""
    hang = ["/bin/sh", "-c", "echo $$ > begun; exec sleep 60"]
    with stuck(world, "run", {"before": hang}) as holder:
        gives_up(world, *words, held_by=SIGNED.format(step="run", number=holder.pid))


def test_who_was_killed_is_named_while_what_it_began_goes_on(world: World) -> None:
    """It did not say that it has ended, and its restic holds the backup still."""
    with stuck(world, "drill") as holder:
        left = int((world.home / "begun").read_text())
        holder.kill()
        holder.wait()
        try:
            gives_up(world, "run", held_by=SIGNED.format(step="drill", number=holder.pid))
        finally:
            os.kill(left, signal.SIGTERM)


def turn(tmp_path: Path, told: list[str]) -> Turn:
    return Turn(tmp_path / ".lock", Patience("the repository", BRIEF, told.append))


def test_all_who_work_beside_one_another_are_named_and_none_who_has_ended(tmp_path: Path) -> None:
    """Also where the last of them began first."""
    told: list[str] = []
    one = turn(tmp_path, told)
    first, second = (one.taken(partial(str, name), beside=True) for name in ("first", "second"))
    with one.taken(lambda: "before"):
        pass
    with first:
        with second, pytest.raises(Busy, match=r"held by first and second\. "), one.taken(lambda: "third"):
            pass
        with pytest.raises(Busy, match=r"held by first\. "), one.taken(lambda: "third"):
            pass
    with one.taken(lambda: "alone"), pytest.raises(Busy, match="held by alone"), one.taken(lambda: "next"):
        pass
    assert told == ["first and second", "first", "alone"]


def test_who_was_killed_is_forgotten_once_somebody_was_alone(tmp_path: Path) -> None:
    """He has not said that he ended."""
    told: list[str] = []
    one = turn(tmp_path, told)
    one.lock.write_text("killed\n")
    with one.taken(lambda: "alone"), pytest.raises(Busy), one.taken(lambda: "next"):
        pass
    assert told == ["alone"]


def test_a_lock_that_says_nothing_is_held_by_somebody(tmp_path: Path) -> None:
    """One of an older version."""
    told: list[str] = []
    one = turn(tmp_path, told)
    with one.taken(lambda: "older"):
        one.lock.write_bytes(b"")
        with pytest.raises(Busy), one.taken(lambda: "newer"):
            pass
    assert told == ["somebody who does not say more"]


def test_what_is_no_length_of_time_is_refused(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is begun, with what to write."""
    assert world.do("run", "--wait", "5") == 2
    assert "`5` is not a duration with its unit; write a duration" in capsys.readouterr().err
    assert not world.state.exists()


@pytest.mark.parametrize(
    ("verb", "bound"),
    [
        *((verb, SCHEDULED) for verb in ("run", "verify", "drill", "prune")),
        ("restore", TYPED),
        ("restic", TYPED),
    ],
)
def test_each_bound_is_told(verb: str, bound: Duration, capsys: pytest.CaptureFixture[str]) -> None:
    """By the command's help, and by the manual."""
    assert run(["backup", verb, "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert re.search(rf"--wait DURATION [^[]*\[default: {bound}\]", shown)
    page = (ROOT / "docs/backups.md").read_text(encoding="utf-8")
    assert re.search(rf"`{verb}`[^.;]* {bound}\b", page)


def test_the_steps_of_a_schedule_wait_as_long_as_it_says(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is a command of its own."""
    begun: list[list[str]] = []

    def forever(*said: Any) -> None:
        begun.append(said[2])

    monkeypatch.setattr("mahavishnu.backup.on_schedule.forever", forever)
    assert world.do("run", "--on-schedule", "--wait", "20h") == 0
    assert begun == [["--wait", "20h"]]
