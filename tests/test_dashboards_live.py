"""The shop under uvicorn, scraped by a real Prometheus: every panel shows something, and every command works."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from examples.shop.recovery import backup, stocked
from examples.shop.stage import Stage, staged
from mahavishnu.backup.evidence import about, folder, read, write
from mahavishnu.cli import run
from mahavishnu.ground.environments import called
from tests.figures import figure
from tests.pages import commands
from tests.servers import Server, alertmanager, prometheus
from tests.stack import serving

ROOT = Path(__file__).parents[1]
pytestmark = [pytest.mark.proof, pytest.mark.judge]
WORKERS = 2  # each with places and buckets of its own, so that as many times more must come
LOOKED_BACK = 120  # seconds: from before the first scrape
WEEK = 7 * 86400


class World(NamedTuple):
    """Everything that runs, and the folder with the spec and what was generated from it."""

    stage: Stage
    prometheus: Server
    alertmanager: Server
    home: Path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The shop, its payment service, Prometheus and Alertmanager, after half a minute of everything going wrong."""
    home = tmp_path_factory.mktemp("home")
    said = (ROOT / "mahavishnu.yaml").read_text()
    assert "  port: 8680\n" in said
    (home / "mahavishnu.yaml").write_text(
        said.replace("  port: 8680\n", f"  port: 8680\n  workers: {WORKERS}\n")
    )
    shutil.copytree(
        ROOT / "examples", home / "examples", ignore=shutil.ignore_patterns("deploy", "__pycache__")
    )
    assert run(["generate", "--spec", str(home / "mahavishnu.yaml"), "--out", str(home / "deploy")]) == 0
    served = tmp_path_factory.mktemp("served") / "mahavishnu.yaml"
    shutil.copy(home / "mahavishnu.yaml", served)
    shutil.copytree(backed_up(tmp_path_factory.mktemp("kept")), folder(served))
    with (
        staged(tmp_path_factory.mktemp("logs"), 8680, served, WORKERS) as stage,
        prometheus(
            home / "deploy/prometheus", stage.shop.removeprefix("http://"), tmp_path_factory.mktemp("p")
        ) as metrics,
        alertmanager(home / "deploy/alertmanager", tmp_path_factory.mktemp("a")) as alerts,
    ):
        wait(lambda: metrics.draws("up == 1", LOOKED_BACK))
        with httpx.Client(base_url=stage.shop, timeout=30) as http:
            Trouble(stage, http).all()
        # A replica with another spec than the rules: the last thing that can go wrong.
        served.write_text(served.read_text().replace("idle: 30s", "idle: 31s"))
        wait(lambda: metrics.draws('mahavishnu_spec_reloads_total{outcome="applied"} > 0', LOOKED_BACK))
        time.sleep(3)  # scraped, and recorded
        yield World(stage, metrics, alerts, home)


def backed_up(home: Path) -> Path:
    """Where the reports lie of orders that were saved twice, checked and restored, in two repositories."""
    env = stocked(home) | {"MAHAVISHNU_BACKUPS__ORDERS__TO": '["one", "two"]'}
    for words in (["run"], ["run"], ["prune"], ["verify", "--all"], ["drill"]):
        backup(home, env, *words, "orders")
    place = folder(home / "mahavishnu.yaml")
    known = read(place, about("shop", called("orders", env["MAHAVISHNU_ENV"])))
    for copy in known.copies.values():
        assert copy.first is not None
        copy.place = ""  # those of the spec that is served
        copy.first -= WEEK  # on the first day no history is due yet
        copy.oldest -= WEEK
    write(place, about("shop", "orders"), known)
    return place


class Trouble:
    """What customers do, and what goes wrong meanwhile."""

    def __init__(self, stage: Stage, http: httpx.Client) -> None:
        self.stage, self.http = stage, http
        self.clients = count()

    def all(self) -> None:
        """Everyday traffic, then each limit and each dependency at its bound."""
        for _ in range(3):
            self.many("GET", "/products", 10)
            self.many("POST", "/orders", 4)
            time.sleep(1)
        self.many("GET", "/products", 80, client=7)
        self.many("POST", "/login", 8, client=8)
        self.many("GET", "/reports", 12)
        self.many("GET", "/search?q=drum", 2)
        self.many("GET", "/search", 2)
        self.many("POST", "/login", 3, content=b"x" * 70_000)
        self.mood(delay_ms=120)
        self.many("POST", "/orders", 50)
        self.mood(status=503)
        self.many("POST", "/orders", 40)
        time.sleep(3)

    def many(
        self, method: str, path: str, number: int, client: int | None = None, content: bytes = b"{}"
    ) -> None:
        """So many requests at once for each worker, each by a client of its own unless said."""

        def one(_: int) -> int:
            who = next(self.clients) if client is None else client
            headers = {"x-forwarded-for": f"198.18.{who // 256}.{who % 256}"}
            sent = content if method == "POST" else None
            return self.http.request(method, path, content=sent, headers=headers).status_code

        with ThreadPoolExecutor(50 * WORKERS) as pool:
            list(pool.map(one, range(number * WORKERS)))

    def mood(self, **mood: int) -> None:
        """Tell the payment service how to behave."""
        httpx.put(f"{self.stage.payment}/mood", json=mood).raise_for_status()


def wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not until():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.2)


def asked(home: Path) -> dict[str, str]:
    """Every query of every panel of the generated files, as Grafana would send it."""
    found: dict[str, str] = {}
    for file in sorted((home / "deploy/grafana/dashboards").glob("*.json")):
        board: Any = json.loads(file.read_text())
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                sent = target["expr"].replace("$__rate_interval", "20s").replace("$instance", ".+")
                found[f"{file.stem} {panel['id']} {panel['title']} {target['refId']}"] = sent
    return found


def test_every_panel_shows_something(world: World) -> None:
    """No query of any panel is empty; and each of them is, when it asks for another service."""
    queries = asked(world.home)
    empty = [place for place, sent in queries.items() if not world.prometheus.draws(sent, LOOKED_BACK)]
    figure(
        "panel queries that answer with data", f"{len(queries)} of {len(queries)}", len(queries) - len(empty)
    )
    assert empty == []
    wrong = (re.sub(r'(job|service)="shop"', r'\1="shap"', sent) for sent in queries.values())
    assert not [sent for sent in wrong if world.prometheus.draws(sent, LOOKED_BACK)]


def test_a_panel_with_a_wrong_label_shows_nothing(world: World) -> None:
    """The test above can fail: with one label misspelt each panel is empty, or its query is no longer what it was."""
    for place, sent in asked(world.home).items():
        broken = re.sub(r"\b(limit|dependency|outcome|slo|state|instance)(=~?\")", r"\1s\2", sent)
        if broken != sent:
            assert not world.prometheus.draws(broken, LOOKED_BACK), place


def complaint(command: str, places: Mapping[str, str]) -> str:
    """What is wrong with a command and its answer; empty where nothing is."""
    ran = subprocess.run(
        ["bash", "-c", command], env={**os.environ, **places}, capture_output=True, text=True, check=False
    )
    found = (
        "> 0.5" in command or '"result":[]' not in ran.stdout
    )  # where nothing fails, nothing that failed is found
    wrong = ran.returncode or not found or not ran.stdout.strip()
    return f"{command}: {ran.stdout}{ran.stderr}" if wrong else ""


def test_every_command_of_every_page_works(world: World) -> None:
    """What a page tells people to ask answers, with data where it is a query."""
    places = {
        "PROMETHEUS": world.prometheus.url,
        "SERVICE": world.stage.shop,
        "ALERTMANAGER": world.alertmanager.url,
        "PATH": f"{ROOT / '.tools/bin'}{os.pathsep}{os.environ['PATH']}",
    }
    pages = sorted((world.home / "deploy/runbooks").glob("*.md"))
    typed = dict.fromkeys(
        one
        for page in pages
        for one in commands(page.read_text())
        if one[:4] in ("curl", "amto", "SILE")
        and " expire " not in one  # it ends what the same shell has begun
    )
    assert len(typed) > 50
    # No Loki runs here: what it is told stands for what it says of itself, so only the words of the command are proved.
    with serving((world.home / "deploy/logs/loki.yaml").read_text()) as loki:
        failed = [one for command in typed if (one := complaint(command, {**places, "LOKI": loki}))]
    figure("commands of runbooks that work", f"{len(typed)} of {len(typed)}", len(typed) - len(failed))
    assert failed == []
