"""restic itself on a repository of the spec: with it a repository gets another password, and loses none too early."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.backup.world import NEW as FRESH
from tests.backup.world import OF_BOTH, PASSWORD, World

pytestmark = pytest.mark.judge
NEW = "a-horse-of-another-colour"
OLD = next((FRESH / "keys").iterdir()).name[:8]
ADD = ("key", "add", "--new-password-file", "/dev/stdin")
TRY = ("cat", "config", "--password-file", "/dev/stdin")


def typed(world: World, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """`mahavishnu backup restic orders -- …`, with something to read."""
    begin = [sys.executable, "-m", "mahavishnu", "backup", "restic", "orders", "--"]
    return subprocess.run(
        [*begin, *words], cwd=world.home, input=stdin, capture_output=True, text=True, check=False
    )


@pytest.mark.proof
@OF_BOTH
def test_a_repository_gets_another_password(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the maintenance guide has it: while both are good nothing fails, and the old one goes last."""
    world.begin()
    assert world.do("run") == 0
    assert typed(world, *TRY, stdin=NEW).returncode == 1
    assert typed(world, *ADD, stdin=NEW).returncode == 0
    assert typed(world, *TRY, stdin=f"{NEW}\n").returncode == 0
    assert world.do("drill") == 0
    monkeypatch.setenv("RESTIC_PASSWORD", NEW)
    assert world.do("drill") == 0
    assert OLD in typed(world, "key", "list").stdout
    assert typed(world, "key", "remove", OLD).returncode == 0
    monkeypatch.setenv("RESTIC_PASSWORD", PASSWORD)
    assert world.do("list") == 1


def test_what_it_says_of_a_fault_has_no_secret(world: World) -> None:
    """As with the steps; and a repository that the spec does not name is none."""
    world.begin()
    failed = typed(world, "cat", "nothing", PASSWORD)
    assert failed.returncode == 1
    assert "restic cat failed" in failed.stderr
    assert PASSWORD not in failed.stdout + failed.stderr
    assert world.do("restic", "orders", "--copy", "2", "--", "key", "list") == 1


def test_what_it_shows_has_no_secret(world: World) -> None:
    """restic shows a tag as it is, whatever somebody has typed there."""
    world.begin()
    assert world.do("run") == 0
    world.ask("tag", "--add", f"x{PASSWORD}")
    shown = typed(world, "snapshots")
    assert shown.returncode == 0
    assert "orders.sqlite" in shown.stdout
    assert PASSWORD not in shown.stdout + shown.stderr
