"""Folders that are backed up while they are in use, and as people have them: busy, half readable."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mahavishnu.backup.restic import Listed, parsed
from tests.backup.world import OF_BOTH, World, spec

pytestmark = pytest.mark.judge
COMPLAINS = """#!/bin/sh
[ "$1" = backup ] && [ -f complaints ] || exec %(real)s "$@"
%(real)s "$@"
cat complaints >&2
exit 3
"""
"""A restic that complains of files as the real one does where it is not root."""


def made(world: World, folder: Path) -> None:
    """A snapshot of yesterday, of the folder as it is."""
    at = datetime.now(UTC) - timedelta(days=1)
    told = ["backup", str(folder), "--host", "shop", "--time", f"{at:%Y-%m-%d %H:%M:%S}"]
    world.ask(*told, "--tag", "mahavishnu,backup=orders", TZ="UTC")


Complain = Callable[[str, int], None]


@pytest.fixture
def complain(world: World, monkeypatch: pytest.MonkeyPatch) -> Complain:
    """Lets restic fail to read a file of the folder `files`, in the words of 0.14 and of a current one."""
    world.begin()
    world.write(spec(source={"directory": "files"}, verify={}, retention={"last": 1, "within": "1h"}))
    (world.home / "files").mkdir()
    (world.home / "bin").mkdir()
    (world.home / "bin/restic").write_text(COMPLAINS % {"real": world.restic})
    (world.home / "bin/restic").chmod(0o755)
    monkeypatch.setenv("PATH", f"{world.home / 'bin'}:{os.environ['PATH']}")

    def told(file: str, why: int) -> None:
        old = {"Op": "open", "Path": file, "Err": why}
        new = {"message": f"open {file}: {os.strerror(why).lower()}"}
        lines = [json.dumps({"message_type": "error", "error": one, "item": file}) for one in (old, new)]
        end = "Warning: at least one source file could not be read"
        (world.home / "complaints").write_text("\n".join([*lines * 30, end]) + "\n")

    return told


def listed(world: World, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """What `list` shows."""
    capsys.readouterr()
    assert world.do("list") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [one for one in lines if one["event"] == "snapshot"]


@OF_BOTH
def test_a_snapshot_that_lacks_files_counts_for_nothing(
    world: World, complain: Complain, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is neither drilled nor restored, pushes no whole one out, and goes when there is a newer whole one."""
    file = world.home / "files/a"
    file.write_text("whole")
    made(world, file.parent)
    file.write_text("half")
    complain("/files/b", 13)
    assert world.do("run") == 1
    told = capsys.readouterr().err
    assert "open /files/b: permission denied" in told
    assert "marked as incomplete" in told
    assert world.do("prune") == world.do("drill") == 0
    assert [one["incomplete"] for one in listed(world, capsys)] == [True, False]
    assert world.do("restore", "orders", "--to", "back") == 0
    assert (world.home / f"back{file}").read_text() == "whole"
    (world.home / "complaints").unlink()
    assert world.do("run", "--prune") == 0
    assert [one["incomplete"] for one in listed(world, capsys)] == [False]


def test_what_there_is_of_one_that_lacks_files_is_restored_by_its_id(
    world: World, complain: Complain, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where it is all that there is; without its id there is nothing to restore."""
    file = world.home / "files/a"
    file.write_text("half")
    complain("/files/b", 13)
    assert world.do("run") == 1
    assert world.do("restore", "orders", "--to", "back") == 1
    (half,) = listed(world, capsys)
    assert world.do("restore", "orders", "--snapshot", half["id"][:8], "--to", "back") == 0
    assert (world.home / f"back{file}").read_text() == "half"


def test_a_store_that_keeps_everything_has_it_twice_and_neither_counts() -> None:
    """It is marked by a copy of it that has the mark; the first one cannot be removed."""
    at = {"time": "2026-06-30T12:00:00Z", "hostname": "shop", "paths": ["/files"]}
    first, second, whole = (f"{number:064x}" for number in range(3))
    said = [
        {**at, "id": first, "tags": ["backup=orders"]},
        {**at, "id": second, "tags": ["backup=orders", "incomplete"], "original": first},
        {**at, "id": whole, "tags": ["backup=orders"]},
    ]
    parted = Listed.of([parsed(one) for one in said])
    assert [one.id for one in parted.taken] == [whole]
    assert {one.id for one in parted.incomplete} == {first, second}


def test_a_file_that_is_deleted_meanwhile_is_not_missing(world: World, complain: Complain) -> None:
    """Nobody has it any more: a busy folder is backed up."""
    (world.home / "files/a").write_text("here")
    complain("/files/b", 2)
    assert world.do("run") == 0
    assert world.do("drill") == 0


MEANWHILE = """#!/bin/sh
[ "$1" = backup ] && [ -f meanwhile ] && sh meanwhile
exec %(real)s "$@"
"""
"""Something happens between the walk and what restic reads."""


@pytest.fixture
def busy(world: World, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of ten files that is saved twice; a script of what happens to it as restic begins."""
    for place in ("repository", "second"):
        world.begin(place)
    world.write(spec(source={"directory": "files"}, to=["repository", "second"], verify={}))
    (world.home / "files").mkdir()
    for number in range(10):
        (world.home / f"files/{number}").write_text("x" * 1000)
    (world.home / "bin").mkdir()
    (world.home / "bin/restic").write_text(MEANWHILE % {"real": world.restic})
    (world.home / "bin/restic").chmod(0o755)
    monkeypatch.setenv("PATH", f"{world.home / 'bin'}:{os.environ['PATH']}")
    return world.home / "meanwhile"


@pytest.mark.proof
@OF_BOTH
@pytest.mark.parametrize(
    ("happens", "read"), [("mv files gone; mkdir files", 0), ("rm -f files/[1-9]", 1000)], ids=str
)
def test_a_folder_that_is_emptied_meanwhile_is_no_backup(
    happens: str, read: int, world: World, busy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What little was read is marked as incomplete, and what is restored is the snapshot before it."""
    assert world.do("run") == 0
    before = world.known()
    busy.write_text(f"{happens}; rm meanwhile")
    assert world.do("run") == 1
    told = capsys.readouterr().err
    assert (
        f"restic has read {read} bytes where at least 5000 are to be: the source was changed meanwhile"
        in told
    )
    assert [one["incomplete"] for one in listed(world, capsys)][:2] == [True, False]
    after = world.known()
    assert after.copies["1"] == before.copies["1"]
    busy.unlink(missing_ok=True)
    assert world.do("drill") == 0


def test_the_size_of_a_backup_is_what_restic_has_read(world: World, busy: Path) -> None:
    """Of each copy by itself: the last one is read long after the folder was looked at."""
    busy.write_text("[ -f once ] && rm files/1 meanwhile; touch once")
    assert world.do("run") == 0
    assert {name: one.sizes for name, one in world.known().copies.items()} == {"1": [10_000], "2": [9_000]}
    assert world.do("drill") == 0


def read_only(world: World) -> Path:
    """A folder that is backed up, and in it one that nobody may write to."""
    world.begin()
    world.write(spec(source={"directory": "files"}, verify={}))
    (world.home / "files/kept").mkdir(parents=True)
    (world.home / "files/kept/a").write_text("one")
    (world.home / "files/kept").chmod(0o500)
    return world.home / "files/kept"


WITHOUT_POWERS = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]


@pytest.mark.proof
def test_a_drill_leaves_nothing_of_a_folder_that_is_read_only(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it is not root who drills, who may remove everything: the next step begins as the first one."""
    if os.geteuid() == 0 and subprocess.run([*WITHOUT_POWERS, "true"], check=False).returncode:
        pytest.skip("NOT PROVED: root's powers cannot be laid down here")
    read_only(world)
    outside = world.home / "outside"
    outside.mkdir(mode=0o500)
    (world.home / "files/link").symlink_to(outside)
    for step in ("run", "drill", "drill"):
        command = [sys.executable, "-m", "mahavishnu", "backup", step]
        without = WITHOUT_POWERS if os.geteuid() == 0 else []
        assert subprocess.run([*without, *command], check=False).returncode == 0
        assert [one.name for one in (world.state / "scratch").iterdir()] == [".cache"]
    assert outside.stat().st_mode & 0o777 == 0o500


@OF_BOTH
def test_a_link_is_the_folder_that_it_points_to(world: World) -> None:
    """Not the link alone, which restores nothing; also when it points elsewhere since."""
    world.begin()
    world.write(spec(source={"directory": "current"}, verify={}))
    for release in ("one", "two"):
        (world.home / release).mkdir()
        (world.home / release / "a").write_text(release)
        (world.home / "current").unlink(missing_ok=True)
        (world.home / "current").symlink_to(release)
        assert world.do("run") == world.do("drill") == 0
        assert world.do("restore", "orders", "--to", f"back-{release}") == 0
        assert [one.read_text() for one in (world.home / f"back-{release}").rglob("a")] == [release]
