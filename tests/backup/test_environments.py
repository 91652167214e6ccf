"""Environments that share a repository: each has its own snapshots in it, and no other's."""

from __future__ import annotations

import pytest

from mahavishnu.cli import run
from mahavishnu.load import load
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


def test_what_is_deployed_for_an_environment_is_still_of_it(staging: World) -> None:
    """Where no `--env` says so: in its containers there is this spec, and no other."""
    assert run(["generate", "--env", "staging", "--out", "deploy"]) == 0
    deployed = load(staging.home / "deploy/compose/mahavishnu.yaml").spec
    assert (deployed.environment, deployed.environments) == ("staging", {})
    assert load(staging.home / "mahavishnu.yaml").spec.environment is None
