"""CONTRIBUTING's worked examples, carried out: a policy is one file and two lines, a generator one and a template."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.judges import judge
from tests.pages import ROOT, blocks
from tests.test_layers import imports, ours, sources

SPEC = """
mahavishnu: 1
service: {name: shop, app: "app:app"}
limits: {apart: {spacing: 200ms}}
"""
TWICE = """
import asyncio, json
import httpx
from mahavishnu.asgi import Hardening
from mahavishnu.testing import VirtualClock
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

async def home(request): return PlainTextResponse("here")

async def main():
    clock = VirtualClock()
    app = Hardening(Starlette(routes=[Route("/", home)]), spec="mahavishnu.yaml", clock=clock)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://shop") as client:
        first, second = await client.get("/"), await client.get("/")
        clock.advance("200ms")
        print(first.status_code, second.status_code, (await client.get("/")).status_code)

asyncio.run(main())
"""


def drawn() -> Iterator[Path]:
    """Every file and folder that the drawing of the house names."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    drawing = text.split("## The house in five minutes", 1)[1].split("```")[1]
    above = [ROOT]
    for line in drawing.strip("\n").splitlines():
        names = re.match(r"(\s*)(\S+(?: \S+)*)", line)
        assert names is not None, line
        del above[len(names[1]) // 2 + 1 :]
        yield from (above[-1] / name for name in names[2].split())
        above.append(above[-1] / names[2].split()[-1])


def test_the_drawing_of_the_house_is_the_house() -> None:
    named = set(drawn())
    missing = [path for path in named if not path.is_dir() and not path.with_suffix(".py").is_file()]
    assert missing == []
    package = ROOT / "framework/mahavishnu"
    rooms = {room for room in package.rglob("*") if (room / "__init__.py").is_file()}
    assert rooms - named == set()


def test_imports_go_up_the_drawing() -> None:
    """As the page says; what it does not draw is held by tests/test_layers.py alone."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## The house in five minutes", 1)[1]
    lines = re.findall(r"^  (\S+(?: \S+)*)", text.split("```")[1], re.MULTILINE)
    line = {name.rstrip("/"): number for number, names in enumerate(lines) for name in names.split()}
    of = sources()
    pairs = {
        (module.split(".")[0], found.split(".")[0])
        for module in of
        for name in imports(module, of, at_run_time=True)
        if (found := ours(name))
    }
    assert len(line) > 20
    assert [(a, b) for a, b in pairs if a in line and b in line and line[b] > line[a]] == []


@pytest.fixture(scope="module")
def branch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A branch of the project in which both examples have been followed; its package is `site/mahavishnu`."""
    folder = tmp_path_factory.mktemp("branch")
    package = folder / "site/mahavishnu"
    homes = {
        "framework/mahavishnu": package,
        "generators": package / "generators",
        "templates": package / "templates",
    }
    for source, home in homes.items():
        shutil.copytree(ROOT / source, home, ignore=shutil.ignore_patterns("__pycache__"))
    for marker, text in blocks("CONTRIBUTING.md").items():
        kind, _, path = marker.partition(": ")
        home = next(
            home / Path(path).relative_to(source) for source, home in homes.items() if path.startswith(source)
        )
        home.parent.mkdir(exist_ok=True)
        home.write_text(text if kind == "file" else changed(home.read_text(), text))
    (folder / "mahavishnu.yaml").write_text(SPEC)
    return folder


def changed(text: str, diff: str) -> str:
    """The text with the lines of a diff carried out: each `-` line becomes the `+` line after it; others are added."""
    gone = [line[1:] for line in diff.splitlines() if line.startswith("-")]
    come = [line[1:] for line in diff.splitlines() if line.startswith("+")]
    assert len(come) == 2, "a policy costs two lines in the catalogue"
    assert text.count(gone[0]) == 1, "the page shows a line that the catalogue does not have"
    return text.replace(gone[0], come[1]).replace(
        "from mahavishnu.policies.timeout", f"{come[0]}\nfrom mahavishnu.policies.timeout"
    )


def run(branch: Path, *arguments: str) -> str:
    """Run Python in the branch, with its own package."""
    tools = f"{ROOT / '.tools/bin'}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(
        [sys.executable, *arguments],
        cwd=branch,
        env={**os.environ, "PYTHONPATH": str(branch / "site"), "PATH": tools},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.mark.proof
def test_a_new_policy_appears_by_itself(branch: Path) -> None:
    """Its alert is in the rules, its panel and its page are there, its word in the schema, and clients are refused."""
    run(branch, "-m", "mahavishnu", "generate")
    assert "ShopLimitApartCrowded" in (branch / "deploy/prometheus/rules.yml").read_text()
    assert "ShopLimitApartCrowded" in (branch / "deploy/grafana/dashboards/resilience.json").read_text()
    assert "spacing: 200ms" in (branch / "deploy/runbooks/ShopLimitApartCrowded.md").read_text()
    assert '"spacing"' in run(branch, "-m", "mahavishnu", "schema")
    printed = run(branch, "-c", TWICE).split()  # the access log among them
    assert [word for word in printed if word.isdigit()] == ["200", "429", "200"]


@pytest.mark.proof
@pytest.mark.judge
def test_its_alert_fires_and_clears(branch: Path) -> None:
    """promtool agrees with the tests that were derived from its proof."""
    judge("promtool")
    run(branch, "-m", "mahavishnu", "generate")
    assert "9 alerts seen to fire and to clear" in run(branch, "-m", "mahavishnu", "test")


def test_a_new_generator_appears_by_itself(branch: Path) -> None:
    """Its file is written and locked like any other."""
    run(branch, "-m", "mahavishnu", "generate")
    assert (
        "{alert: ShopLimitApartCrowded, severity: P4" in (branch / "deploy/inventory/alerts.yaml").read_text()
    )
    assert "inventory/alerts.yaml" in (branch / "deploy/mahavishnu.lock").read_text()
