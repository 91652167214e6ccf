"""Every alert of a backup is made to fire by the real command and the real service, and to clear; promtool judges."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from examples.shop.firing import firing, samples
from mahavishnu.asgi import Hardening
from mahavishnu.backup.evidence import read, write
from mahavishnu.compile import compile
from mahavishnu.contract import Contract, contract
from mahavishnu.runtime.current import forget
from mahavishnu.spec import Spec
from tests.backup.world import World, flipped, spec
from tests.judges import judge

pytestmark = pytest.mark.judge
DAY = 86400
SAID = spec(rto="10m", verify={"assert": "select count(*) > 0 from orders", "restore": "weekly"})
SAID["alerts"] = {"thresholds": {"stale": {"when": "backups.orders.age > 2d", "severity": "P1"}}}


class Watched(World):
    """The shop with its service: every scrape is kept, minute by minute."""

    ahead = 0.0
    minutes = 0

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(home, monkeypatch, SAID)
        self.begin()
        self.fill(5000)
        self.series: dict[str, list[float | None]] = {}
        self.app = Hardening(Starlette(), spec=str(home / "mahavishnu.yaml"))
        self.app.service.process_state.wall = lambda: time.time() + self.ahead

    def wait(self, minutes: int = 25) -> int:
        """So many scrapes; the number of the last minute."""
        for _ in range(minutes):
            scraped = samples(asyncio.run(self.exposition()), "shop")
            for name in {*self.series, *scraped}:
                self.series.setdefault(name, [None] * self.minutes).append(scraped.get(name))
            self.minutes += 1
        return self.minutes - 1

    async def exposition(self) -> str:
        """What Prometheus would read."""
        transport = httpx.ASGITransport(app=self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            return (await client.get("/metrics")).text

    def later(self, days: float) -> None:
        """The service's clock goes on."""
        self.ahead = days * DAY

    def change(self, **fields: Any) -> None:
        """What another machine wrote down."""
        known = read(self.state, "shop.orders")
        for name, value in fields.items():
            setattr(known.copies["1"] if hasattr(known.copies["1"], name) else known, name, value)
        write(self.state, "shop.orders", known)


Act = Callable[[Watched], object]


def gone(world: Watched) -> None:
    (world.state / "shop.orders.json").rename(world.state / "away")


def found(world: Watched) -> None:
    (world.state / "away").rename(world.state / "shop.orders.json")


def forged(world: Watched) -> None:
    """A clock a year ahead has made the last report: it must not hide for a year that nothing is backed up."""
    world.change(success=time.time() + 365 * DAY)


def no_source(world: Watched) -> None:
    world.database.rename(world.home / "elsewhere")
    assert world.do("run") == 1


def source_again(world: Watched) -> None:
    (world.home / "elsewhere").rename(world.database)
    assert world.do("run") == 0


def damaged(world: Watched) -> None:
    for pack in [one for one in (world.home / "repository/data").rglob("*") if one.is_file()]:
        flipped(pack, 40)
    assert world.do("drill") == 1


def mended(world: Watched) -> None:
    for pack in [one for one in (world.home / "repository/data").rglob("*") if one.is_file()]:
        flipped(pack, 40)
    assert world.do("drill") == 0


def forgotten(world: Watched) -> None:
    """Every snapshot, by somebody; the next reading tells."""
    world.change(first=time.time() - 60 * DAY)
    world.ask("forget", *[str(one["id"]) for one in json.loads(world.ask("snapshots", "--json"))])
    assert world.do("verify") == 1
    assert world.known().copies["1"].snapshots == 0


def begun_again(world: Watched) -> None:
    """As a new one, whose history begins now."""
    assert world.do("run") == world.do("verify") == 0
    world.change(first=time.time())


def small(world: Watched) -> None:
    world.fill(5)
    assert world.do("run") == 0


def usual(world: Watched) -> None:
    """It has been as small for some days."""
    sizes = world.known().copies["1"].sizes
    world.change(sizes=[sizes[-1]] * 8)


def slow(world: Watched) -> None:
    """A drill on a slow line; its own measure is compared with a stopwatch elsewhere."""
    world.change(restore=3600.0)


def weeks(world: Watched) -> None:
    """Since the first backup."""
    world.change(first=time.time())
    world.later(30)


CASES: dict[str, tuple[list[Act], list[Act], list[str]]] = {
    "days without a backup": ([lambda world: world.later(3)], [lambda world: world.later(0)],
                              ["BackupOrdersTooOld", "ThresholdStale"]),
    "no report": ([gone], [found], ["BackupOrdersSilent"]),
    "a report from the future": ([forged], [lambda world: world.change(success=time.time())], ["BackupOrdersSilent"]),
    "no source, then a drill of damage": ([no_source, damaged], [mended, source_again],
                                          ["BackupOrdersFailing", "BackupOrdersUnproven"]),
    "a source that shrinks": ([small], [usual], ["BackupOrdersShrunk"]),
    "snapshots deleted by somebody": (
        [lambda world: world.change(first=time.time() - 200 * DAY)],
        [lambda world: world.change(oldest=time.time() - 121 * DAY)], ["BackupOrdersHistoryShort"]),
    "weeks without verification or drill": ([weeks], [lambda world: world.later(0)],
                                            ["BackupOrdersVerifiedTooOld", "BackupOrdersDrillTooOld"]),
    "a slow restore": ([slow], [lambda world: world.change(restore=0.5)], ["BackupOrdersRestoreTooSlow"]),
    "no snapshot left": ([forgotten], [begun_again],
                         ["BackupOrdersUnproven", "BackupOrdersHistoryShort", "BackupOrdersTooOld"]),
}  # fmt: skip


@pytest.fixture(scope="module")
def made() -> Contract:
    """What follows from the spec."""
    return contract(Spec.model_validate(SAID))


def without_a_report(world: Watched) -> None:
    """No series but the promise."""
    shown = samples(asyncio.run(world.exposition()), "shop")
    named = {name.partition("{")[0]: value for name, value in shown.items() if "backup" in name}
    assert named == {"mahavishnu_backup_guaranteed_history_seconds": 121 * DAY}


def as_written(world: Watched) -> None:
    """What the service shows is what the job wrote down, and nothing that was not done."""
    shown = samples(asyncio.run(world.exposition()), "shop")
    named = {
        name.partition("{")[0].removeprefix("mahavishnu_backup_"): value for name, value in shown.items()
    }
    known = world.known().copies["1"]
    assert named["last_success_timestamp_seconds"] == known.success
    assert (named["size_bytes"], named["snapshots"]) == (world.database.stat().st_size, 1)
    assert 0 <= named["age_seconds"] <= time.time() - (known.success or 0)
    assert "last_verified_timestamp_seconds" not in named


@pytest.mark.proof
def test_every_case_fires_and_clears(made: Contract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One life: well, each fault, well again. The alert fires with its fault, and with no fault of another."""
    promtool = judge("promtool")
    rules = tmp_path / "rules.yml"
    rules.write_text(next(one.text for one in compile(made) if one.path == "prometheus/rules.yml"))
    (tmp_path / "shop").mkdir()
    world = Watched(tmp_path / "shop", monkeypatch)
    without_a_report(world)
    assert world.do("run") == 0
    as_written(world)
    world.change(restore=0.5)
    moments = [world.wait()]
    for faults, repairs, _ in CASES.values():
        for act in faults:
            act(world)
        moments.append(world.wait())
        for act in repairs:
            act(world)
        moments.append(world.wait())
    seen = firing(promtool, rules, world.series, moments)
    assert seen[0] == frozenset()
    for (case, (_, _, names)), during, after in zip(CASES.items(), seen[1::2], seen[2::2], strict=True):
        wanted = {f"Shop{name}" for name in names}
        assert wanted <= during, case
        assert not wanted & after, case


def test_every_alert_has_a_case(made: Contract) -> None:
    """No alert of a backup ships that is not driven above."""
    driven = {f"Shop{name}" for _, _, names in CASES.values() for name in names}
    assert driven == {one.name for one in made.alerts if one.path[0] in ("backups", "alerts")}


def test_a_repository_that_is_added_later_has_its_own_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has deleted what it never had, and it is not late with what there was no time for."""
    (tmp_path / "shop").mkdir()
    world = Watched(tmp_path / "shop", monkeypatch)
    assert world.do("run") == 0
    ago = time.time() - 200 * DAY
    world.change(first=ago, verified=time.time(), drilled=time.time(), restore=0.5)
    said = {**SAID, "backups": {"orders": {**SAID["backups"]["orders"], "to": ["repository", "another"]}}}
    world.write(said)
    world.begin("another")
    world.change(oldest=ago)
    forget()
    world.app = Hardening(Starlette(), spec=str(world.home / "mahavishnu.yaml"))
    rules = tmp_path / "rules.yml"
    two = contract(Spec.model_validate(said))
    rules.write_text(next(one.text for one in compile(two) if one.path == "prometheus/rules.yml"))
    none_yet = world.wait()
    assert world.do("run") == 0
    world.change(oldest=ago)
    moments = [none_yet, world.wait()]
    assert firing(judge("promtool"), rules, world.series, moments) == [{"ShopBackupOrdersSilent"}, set()]
    (silent,) = [one for one in two.alerts if one.name == "ShopBackupOrdersSilent"]
    assert "in one of its repositories" in silent.summary, "the other one is as it should be"
