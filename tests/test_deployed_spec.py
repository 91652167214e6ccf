"""What is deployed enforces the spec that its files were generated from, environment merged in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette

from mahavishnu.asgi import Hardening
from mahavishnu.cli import run
from mahavishnu.load import load
from mahavishnu.spec import spec_hash
from tests.generators.specs import SMALL, merged

PATCH = {"limits": {"per_client": {"rate": "7/minute", "scope": "process"}}}
SPEC = merged(
    SMALL, {"limits": {"per_client": {"rate": "9/minute", "scope": "process"}}, "environments": None}
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project, generated for staging."""
    spec: Mapping[str, Any] = {**SPEC, "environments": {"staging": PATCH}}
    (tmp_path / "mahavishnu.yaml").write_text(json.dumps(spec), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MAHAVISHNU_SPEC", raising=False)
    assert run(["generate", "--env", "staging"]) == 0
    return tmp_path


@pytest.mark.parametrize("named", [None, "mahavishnu.yaml"])
def test_the_container_enforces_what_was_generated(
    home: Path, monkeypatch: pytest.MonkeyPatch, named: str | None
) -> None:
    """Also when the code names the file that lies beside it, whose numbers are not those of staging."""
    compiled = json.loads((home / "deploy/mahavishnu.lock").read_text())["spec"]
    monkeypatch.setenv("MAHAVISHNU_SPEC", str(home / "deploy/compose/mahavishnu.yaml"))
    assert Hardening(Starlette(), spec=named).service.contract.hash == compiled


def test_without_the_variable_the_code_decides(home: Path) -> None:
    """On a developer's machine the file that the code names is read; here it is another spec than staging's."""
    compiled = json.loads((home / "deploy/mahavishnu.lock").read_text())["spec"]
    assert Hardening(Starlette(), spec="mahavishnu.yaml").service.contract.hash != compiled


@pytest.mark.parametrize("value", [1.5, {"eur": 1.0}, [-0.25, 1e3], 1e22, 1e-7])
def test_a_number_with_a_fraction_is_deployed_as_it_is(
    value: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A price that stands in for another one, in what runs and on the page of its alert."""
    rates = {"timeout": "2s", "fallback": {"static": value}}
    spec = merged(SPEC, {"dependencies": {"rates": rates}})
    (tmp_path / "mahavishnu.yaml").write_text(json.dumps(spec), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert run(["generate"]) == 0
    deployed = load(tmp_path / "deploy/compose/mahavishnu.yaml")
    assert spec_hash(deployed.spec) == json.loads((tmp_path / "deploy/mahavishnu.lock").read_text())["spec"]
    page = (tmp_path / "deploy/runbooks/ShopDependencyRatesDegraded.md").read_text()
    assert "static: " in page
