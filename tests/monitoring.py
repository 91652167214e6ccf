"""Generated monitoring files on disk, and the tools that judge them."""

from __future__ import annotations

import subprocess
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from mahavishnu.artifact import Artifact
from mahavishnu.contract import Contract, contract
from mahavishnu.load import load
from mahavishnu.spec import Spec
from tests.judges import judge

ROOT = Path(__file__).parents[1]
MINIMAL: dict[str, Any] = {
    "mahavishnu": 1,
    "secrets": ["SLACK_WEBHOOK"],
    "service": {"name": "shop", "app": "shop.main:app"},
    "limits": {"per_client": {"rate": "100/minute", "burst": 20}},
    "slos": {"availability": {"objective": "99.9%"}},
    "channels": {"room": {"slack": "${SLACK_WEBHOOK}", "channel": "#shop"}},
}


@cache
def shop() -> Contract:
    """The contract of the example."""
    return contract(load(ROOT / "mahavishnu.yaml").spec)


def made(spec: dict[str, Any]) -> Contract:
    """The contract of a spec given as a mapping."""
    return contract(Spec.model_validate(spec))


def artifacts(of: Contract) -> tuple[Artifact, ...]:
    """What the generators of Prometheus and Alertmanager make of it."""
    generators: list[Any] = [
        import_module(f"mahavishnu.generators.{name}") for name in ("prometheus", "alertmanager")
    ]
    return tuple(one for generator in generators for one in generator.generate(of))


def texts(of: Contract) -> dict[str, str]:
    """The same, as texts by path."""
    return {one.path: one.text for one in artifacts(of)}


def written(of: Contract, folder: Path) -> Path:
    """The same, on disk."""
    for one in artifacts(of):
        path = folder / one.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(one.text, encoding="utf-8")
    return folder


def ask(tool: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a judge to its end."""
    return subprocess.run([judge(tool), *words], capture_output=True, text=True, check=False, timeout=1800)


def accepts(tool: str, *words: str | Path) -> None:
    """Assert that a judge has nothing to say against it."""
    said = ask(tool, *words)
    assert said.returncode == 0, (said.stdout + said.stderr)[-5000:]
