"""Environments that share a repository: each has its own snapshots in it, and no other's."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable

import pytest

from mahavishnu.backup.evidence import read
from mahavishnu.cli import run
from mahavishnu.load import load
from mahavishnu.runtime.telemetry.backups import show
from mahavishnu.signals import Signal
from tests.backup.world import World, spec

pytestmark = pytest.mark.judge


@pytest.fixture
def staging(world: World) -> World:
    """Beside the spec itself an environment whose database is another one, in the same repository."""
    world.begin()
    said = spec(source={"sqlite": str(world.database)}, to=str(world.home / "repository"))
    said["deploy"] = {"targets": {"compose": {}}}
    patch = {"backups": {"orders": {"source": {"sqlite": str(world.home / "staging.db")}}}}
    world.write({**said, "environments": {"staging": patch}})
    world.fill(3, world.home / "staging.db")
    return world


def test_an_environments_snapshots_are_not_anothers(
    staging: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither restored nor drilled, though they are newer; nor taken for its own where it has none."""
    assert staging.do("run") == 0
    assert staging.do("restore", "orders", "--env", "staging", "--to", "none") == 1
    assert "no snapshot of this backup in `staging`" in capsys.readouterr().err
    assert staging.do("run", "--env", "staging") == 0
    for words, rows in (((), 200), (("--env", "staging"), 3)):
        to = f"back{rows}"
        assert staging.do("restore", "orders", *words, "--to", to) == 0
        assert len(staging.rows(staging.home / to / "orders.sqlite")) == rows


def test_what_is_proved_of_an_environment_is_not_proved_of_another(
    staging: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither that there was a backup, nor which part is read next; the service of each shows its own."""
    assert staging.do("run") == 0
    for _ in range(2):
        assert staging.do("verify") == 0
    assert staging.do("verify", "--env", "staging") == 1
    assert read(staging.state, "shop.orders@staging").steps == {"verify": False}
    assert staging.known().copies["1"].part == 3
    capsys.readouterr()
    assert staging.do("list", "--env", "staging") == 0
    assert json.loads(capsys.readouterr().out)["succeeded"] is None
    ages = {env: shown(staging, env)["mahavishnu_backup_age_seconds"] for env in (None, "staging")}
    assert ages[None] >= 0
    assert math.isnan(ages["staging"])


def shown(world: World, env: str | None) -> dict[str, float]:
    """What the service of an environment shows."""
    found: dict[str, float] = {}

    class Gauges:
        def gauge(self, signal: Signal, value: Callable[[], float], **labels: str) -> None:
            found[signal.name] = value()

    spec_ = load(world.home / "mahavishnu.yaml", env).spec
    show(spec_, lambda: world.state, Gauges(), time.time)  # type: ignore[arg-type]
    return found


def test_what_is_deployed_for_an_environment_is_still_of_it(staging: World) -> None:
    """Where no `--env` says so: in its containers there is this spec, and no other."""
    assert run(["generate", "--env", "staging", "--out", "deploy"]) == 0
    deployed = load(staging.home / "deploy/compose/mahavishnu.yaml").spec
    assert (deployed.environment, deployed.environments) == ("staging", {})
    assert load(staging.home / "mahavishnu.yaml").spec.environment is None


def test_services_that_share_a_folder_of_reports_have_their_own_in_it(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On one host without containers: one that was never backed up does not show another's success, nor end it."""
    monkeypatch.setenv("MAHAVISHNU_STATE", str(world.state))
    world.begin()
    assert world.do("run") == 0
    before = world.known()
    world.write({**spec(), "service": {"name": "billing", "app": "billing.main:app"}})
    assert world.do("list") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["succeeded"] is None
    shows = shown(world, None)
    assert all(
        math.isnan(shows[name])
        for name in ("mahavishnu_backup_age_seconds", "mahavishnu_backup_step_successful")
    )
    assert world.do("drill") == 1
    assert world.known() == before
