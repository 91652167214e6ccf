"""Old snapshots, removed by the real restic: those that the plan shows, no others, and never many at once."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest

from mahavishnu.backup.restic import Repository
from tests.backup.world import OF_BOTH, World, spec

pytestmark = [pytest.mark.proof, pytest.mark.judge]
OURS = ("--host", "shop", "--tag", "mahavishnu,backup=orders")


def made(world: World, days: Iterable[int], *words: str, **more: str) -> None:
    """A snapshot of so many days ago, each."""
    for day in days:
        at = datetime.now(UTC) - timedelta(days=day, hours=1)
        told = ["backup", "--stdin", "--stdin-filename", "orders.sqlite", "--time", f"{at:%Y-%m-%d %H:%M:%S}"]
        world.ask(*told, *words, check=True, stdin=str(day), TZ="UTC", **more)


def ages(world: World, *words: str, **more: str) -> list[int]:
    """How many days ago each snapshot was made."""
    listed = json.loads(world.ask("snapshots", "--json", *words, check=True, stdin=None, **more))
    now = datetime.now(UTC)
    return sorted((now - datetime.fromisoformat(one["time"][:19] + "+00:00")).days for one in listed)


@OF_BOTH
def test_without_a_retention_nothing_is_removed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is restic asked to: the jobs' credentials may be such that it could not."""
    world.begin()
    world.write({key: value for key, value in spec().items() if key != "retention"})
    made(world, (1, 400, 800), *OURS)
    monkeypatch.delattr(Repository, "forget")
    assert world.do("run", "--prune") == 0
    assert ages(world, *OURS) == [0, 1, 400, 800]


@OF_BOTH
def test_what_the_plan_shows_is_removed(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """By the backup's own retention: two at once, more where a person confirms; and nothing of anybody else."""
    world.begin()
    world.write(spec(retention={"daily": 3, "within": "1h"}))
    made(world, range(5), *OURS)
    made(world, (40,), "--host", "other", "--tag", "mahavishnu,backup=orders")
    made(world, (50,), "--host", "shop", "--tag", "backup=others")
    assert world.do("plan") == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    whys = [("keep", "within, daily"), ("keep", "daily"), ("keep", "daily"), ("remove", ""), ("remove", "")]
    assert [(one["plan"], one["why"]) for one in told] == whys
    assert len(ages(world)) == 7
    assert world.do("prune") == 0
    assert ages(world, *OURS) == [0, 1, 2]
    removed = json.loads(capsys.readouterr().out)["removed"]
    assert removed == [one["id"] for one in told if one["plan"] == "remove"]
    assert world.known().copies["1"].snapshots == 3

    made(world, range(3, 6), *OURS)
    assert world.do("plan") == 0
    assert (
        "nothing would be removed: 3 of 6 snapshots would go; in one run at most 2 do"
        in capsys.readouterr().err
    )
    assert world.do("prune") == 1
    assert world.known().steps["prune"] is False
    assert len(ages(world, *OURS)) == 6
    assert world.do("prune", "--confirm") == 0
    assert ages(world, *OURS) == [0, 1, 2]
    assert ages(world) == [0, 1, 2, 40, 50]
    assert world.do("verify", "--all") == 0
