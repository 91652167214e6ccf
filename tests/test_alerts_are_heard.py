"""The whole way of an alert: a fault in the real shop, a real Prometheus, a real Alertmanager, and who hears of it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import httpx
import pytest

from examples.shop.stage import Stage, staged
from mahavishnu import live
from mahavishnu.compile import compile
from mahavishnu.contract import Contract, contract
from mahavishnu.live.fetch import Site
from mahavishnu.load import load
from mahavishnu.loading import nodes, yaml_tree
from tests.figures import figure
from tests.judges import of_both
from tests.ports import free_port
from tests.reading import read
from tests.scaled import impatient, scaled
from tests.shop_driver import backed_up
from tests.stack import Heard, alertmanager, heard, prometheus

ROOT = Path(__file__).parents[1]
SEVERITIES = ("P1", "P2", "P3", "P4")
# A month is ten minutes; up to half a day everything is as short as six scrapes allow.
FACTOR = 4320
# Minutes are seconds, and what has to last for minutes lasts longer than the scrapes that a busy machine misses.
MILD = 30
WORKERS = 2
# Each severity and each family: promises, dependencies, limits, thresholds, backups, dead letters, the service itself.
WANTED = {
    "ShopSloCheckoutBurnP1": "P1",
    "ShopDependencyPaymentBreakerOpen": "P2",
    "ShopThresholdThrottling": "P2",
    "ShopDeadLettersNearlyFull": "P2",
    "ShopBackupOrdersFailing": "P3",
    "ShopLimitPerClientRefusing": "P3",
    "ShopSpecReloadFailed": "P3",
    "ShopLimitUploadsTooLarge": "P4",
    "ShopSloPatientBurnP4": "P4",
}
# The addresses of the stack are those of containers; a user's own template says where they are here.
SCRAPING = """
global: {scrape_interval: {{ pace }}, evaluation_interval: {{ pace }}}
rule_files: [rules.yml]
alerting:
  alertmanagers: [{static_configs: [{targets: ['HEARS']}]}]
scrape_configs:
  - {job_name: {{ job }}, metrics_path: {{ path }}, static_configs: [{targets: ['SHOWS']}]}
"""


@pytest.fixture
def spec(tmp_path: Path) -> Generator[tuple[Path, Heard]]:
    """The shop's own spec, with channels that lead here, and one more promise that only a ticket guards."""
    tree = yaml_tree.read((ROOT / "mahavishnu.yaml").read_bytes(), "mahavishnu.yaml").tree
    assert isinstance(tree, nodes.Mapping)
    said: dict[str, Any] = nodes.plain(tree)
    with heard() as here:
        names = {one: f"at_{one.lower()}" for one in SEVERITIES}
        url = f"http://127.0.0.1:{here.port}"
        said["channels"] = {name: {"webhook": f"{url}/{one}"} for one, name in names.items()}
        said["channels"]["watch"] = {"webhook": f"{url}/heartbeat"}
        said["alerts"] |= {"route": {one: [name] for one, name in names.items()}, "quiet": []}
        said["slos"]["patient"] = {"objective": "95%", "severities": ["P4"], "match": {"path": "/orders"}}
        said["dead_letters"]["entries"] = 110
        said["service"]["workers"] = WORKERS
        asked_for = json.dumps({**said, "secrets": []})
        said["secrets"] = [one for one in said["secrets"] if f"${{{one}}}" in asked_for]
        path = tmp_path / "mahavishnu.yaml"
        path.write_text(json.dumps(said))
        yield path, here


@contextmanager
def stack(made: Contract, folder: Path, *replicas: str) -> Generator[tuple[str, str]]:
    """Prometheus and Alertmanager from the generated files; their URLs."""
    templates = folder / "templates/prometheus"
    templates.mkdir(parents=True)
    config = folder / "deploy/prometheus/prometheus.yml"
    hears = f"127.0.0.1:{free_port()}"
    with ExitStack() as running:
        scraping = SCRAPING.replace("SHOWS", "', '".join(urlsplit(one).netloc for one in replicas))
        (templates / "prometheus.yml.j2").write_text(scraping)
        for one in compile(made, folder / "templates"):
            path = folder / "deploy" / one.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(one.text)
        told = running.enter_context(alertmanager(folder / "deploy/alertmanager/alertmanager.yml", folder))
        hears = urlsplit(told).netloc
        (templates / "prometheus.yml.j2").write_text(scraping.replace("HEARS", hears))
        config.write_text(
            next(
                one.text
                for one in compile(made, folder / "templates")
                if one.path == "prometheus/prometheus.yml"
            )
        )
        retention = f"--storage.tsdb.retention.time={made.spec.retention.metrics}"
        asked = running.enter_context(prometheus(config, folder, retention, "--rules.alert.resend-delay=1s"))
        yield asked, told


SERVES = """
import os, sys, uvicorn, shop.main
print("ready", flush=True)
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
sys.stdin.readline()
uvicorn.run("shop.main:app", port=int(sys.argv[1]), access_log=False, log_level="warning")
"""


@contextmanager
def prepared(spec: Path, url: str) -> Generator[subprocess.Popen[str]]:
    """A process that has loaded the shop and serves it under uvicorn when told to; killed with the block."""
    said = {
        "MAHAVISHNU_SPEC": str(spec),
        "MAHAVISHNU_DEAD_LETTERS__STORE": f"sqlite:{spec.parent}/letters.db",
        "PYTHONPATH": str(ROOT / "examples"),
    }
    command = [sys.executable, "-c", SERVES, str(urlsplit(url).port)]
    with subprocess.Popen(
        command, env={**os.environ, **said}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def replica(spec: Path, url: str) -> Generator[subprocess.Popen[str]]:
    """One process of the shop, ready; killed with the block."""
    with prepared(spec, url) as process:
        serve(process, url)
        yield process


def serve(process: subprocess.Popen[str], url: str) -> None:
    """Let it take requests."""
    assert process.stdin
    process.stdin.write("now\n")
    process.stdin.flush()
    deadline = time.monotonic() + 30
    while not answers(url):
        assert process.poll() is None, "the replica did not start"
        assert time.monotonic() < deadline, "the replica is not ready"
        time.sleep(0.05)


def answers(url: str) -> bool:
    """Whether a replica takes requests."""
    with suppress(httpx.TransportError):
        return httpx.get(f"{url}/readyz", timeout=1).is_success
    return False


class Crowd:
    """Customers of the shop, and in bad times those who should not come."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.bad = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._come, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(20)

    def _come(self) -> None:
        with httpx.Client(base_url=self.stage.shop, timeout=10) as http:
            for number in range(1_000_000):
                if self._stop.is_set():
                    return
                self._ask(http, number)
                time.sleep(0.02)

    def _ask(self, http: httpx.Client, number: int) -> None:
        own = {"x-forwarded-for": f"198.18.{number // 250 % 250}.{number % 250 + 1}"}
        http.get("/products", headers=own)
        http.post("/orders", headers=own, json={"item": 1})
        http.post("/login", headers=own, json={})
        if self.bad.is_set():
            for _ in range(8):
                http.get("/products", headers={"x-forwarded-for": "198.19.0.1"})
            with suppress(httpx.TransportError):  # nobody reads it to its end, so the answer may be lost
                http.post("/login", headers=own, content=b"x" * 70_000)

    def mood(self, **said: int) -> None:
        """How the payment service behaves from now on."""
        httpx.put(f"{self.stage.payment}/mood", json=said, timeout=5)


class Diary:
    """What was heard of each alert: where, when it began, when it ended."""

    def __init__(self, here: Heard) -> None:
        self.here = here
        self.began: dict[str, tuple[str, dict[str, Any]]] = {}
        self.ended: dict[str, tuple[str, dict[str, Any]]] = {}
        self.beats = 0

    def note(self, path: str, message: dict[str, Any]) -> None:
        """Keep one message."""
        for one in message["alerts"]:
            name = one["labels"]["alertname"]
            self.beats += name == "ShopHeartbeat"
            (self.began if one["status"] == "firing" else self.ended)[name] = (path, one)

    def settle(self) -> None:
        """Wait for some heartbeats, and for the end of what a Prometheus says that knows no target yet; forget both."""
        self.wait(lambda: self.beats < 8 or {"ShopDown"} & self.began.keys() - self.ended.keys())
        self.began.clear()
        self.ended.clear()

    def wait(self, missing: Callable[[], object]) -> None:
        """Listen until nothing is missing."""

        def heard_it(path: str, message: dict[str, Any]) -> bool:
            self.note(path, message)
            return not missing()

        try:
            self.here.until(heard_it, 75)
        except AssertionError as fault:
            raise AssertionError(f"{fault}: {missing()}") from None


@pytest.fixture
def scene(spec: tuple[Path, Heard], monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Contract, Diary]:
    """The spec's file, its contract, and who notes what comes of it in a hurry."""
    impatient(monkeypatch)
    path, here = spec
    return path, contract(load(path).declared), Diary(here)


@pytest.mark.judge
@pytest.mark.proof
@of_both
def test_a_fault_is_heard_where_it_should_be_and_so_is_its_end(
    scene: tuple[Path, Contract, Diary], tmp_path: Path
) -> None:
    """Every word of the notification is that of the rule; and while all is well, what runs is what the spec says."""
    path, real, diary = scene
    made = scaled(real, FACTOR)
    backed_up(path)
    with (
        staged(tmp_path, free_port(), path, WORKERS) as stage,
        stack(made, tmp_path, stage.shop) as (asked, told),
        Crowd(stage) as crowd,
    ):
        diary.settle()
        agrees(made, stage.shop, asked, told, tmp_path)
        workers = re.search(
            r"^mahavishnu_workers (\S+)", httpx.get(f"{stage.shop}/metrics").text, re.MULTILINE
        )
        assert workers is not None
        assert float(workers[1]) == WORKERS
        good = path.read_text()
        crowd.mood(status=503)
        crowd.bad.set()
        backed_up(path, well=False)
        path.write_text("limits: {")
        diary.wait(lambda: WANTED.keys() - diary.began.keys())
        crowd.mood(status=200)
        crowd.bad.clear()
        path.write_text(good)
        backed_up(path)
        diary.wait(lambda: WANTED.keys() - diary.ended.keys())
    rules = read((tmp_path / "deploy/prometheus/rules.yml").read_text())
    written = {rule.get("alert"): rule for group in rules["groups"] for rule in group["rules"]}
    for name, severity in WANTED.items():
        for where, alert in (diary.began[name], diary.ended[name]):
            assert where == severity
            told_as_written(alert, written[name])
    families = {str(one.path[0]) for one in made.alerts}
    heard_of = {str(one.path[0]) for one in made.alerts if one.name in diary.ended}
    count = sum(name in diary.began and name in diary.ended for name in WANTED)
    figure("alerts heard at the right receiver, and their end", len(WANTED), count)
    figure("families of alerts among them", ", ".join(sorted(families)), ", ".join(sorted(heard_of)))
    assert heard_of == families
    assert {*WANTED.values()} == {*SEVERITIES}


@pytest.mark.judge
@pytest.mark.proof
def test_one_of_two_replicas_that_is_killed_is_heard_of_alone(
    scene: tuple[Path, Contract, Diary], tmp_path: Path
) -> None:
    """By its address, and of nothing else that is down; its return is heard, too."""
    path, real, diary = scene
    made = scaled(real, MILD)
    well, lost = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    with replica(path, well), replica(path, lost) as doomed, stack(made, tmp_path, well, lost):
        diary.settle()
        doomed.kill()
        diary.wait(lambda: {"ShopReplicaDown"} - diary.began.keys())
        with replica(path, lost):
            diary.wait(lambda: {"ShopReplicaDown"} - diary.ended.keys())
    for where, alert in (diary.began["ShopReplicaDown"], diary.ended["ShopReplicaDown"]):
        assert where == "P3"
        assert alert["labels"]["instance"] == urlsplit(lost).netloc
        assert re.search(r"reaches a replica in \d[\d.]*% of its scrapes", alert["annotations"]["summary"])
    assert "ShopDown" not in diary.began


@contextmanager
def dying(spec: Path, url: str) -> Generator[threading.Event]:
    """The only replica, killed when it has been scraped a few times, again and again until the event is set.

    The next one has loaded everything by then: however slow the machine, nobody answers for two seconds at most.
    """
    spared, left = threading.Event(), threading.Event()

    def lives() -> None:
        with ExitStack() as them:
            following = them.enter_context(prepared(spec, url))
            while not left.is_set():
                process, following = following, them.enter_context(prepared(spec, url))
                serve(process, url)
                assert following.stdout
                assert following.stdout.readline()
                (left if spared.is_set() else spared).wait(None if spared.is_set() else 3)
                process.kill()
                left.wait(1.5)

    thread = threading.Thread(target=lives, daemon=True)
    thread.start()
    try:
        yield spared
    finally:
        spared.set()
        left.set()
        thread.join(30)


@pytest.mark.judge
@pytest.mark.proof
def test_a_process_that_is_killed_again_and_again_is_heard_of(
    scene: tuple[Path, Contract, Diary], tmp_path: Path
) -> None:
    """As the service and as the replica, though `Down` never lasts; and so is its recovery."""
    path, real, diary = scene
    wanted = {"ShopFlapping": "P1", "ShopRestarting": "P3"}
    url = f"http://127.0.0.1:{free_port()}"
    with dying(path, url) as spared, stack(scaled(real, MILD), tmp_path, url):
        diary.wait(lambda: wanted.keys() - diary.began.keys())
        spared.set()
        diary.wait(lambda: wanted.keys() - diary.ended.keys())
    for name, severity in wanted.items():
        assert (diary.began[name][0], diary.ended[name][0]) == (severity, severity)
    said = diary.began["ShopFlapping"][1]["annotations"]["summary"]
    assert re.search(r"in only \d[\d.]*% of Prometheus' scrapes", said)


def agrees(made: Contract, shop: str, asked: str, told: str, folder: Path) -> None:
    """`mahavishnu diff` has nothing to say; and it does when one number is another."""
    rules = (folder / "deploy/prometheus/rules.yml").read_text()
    config = (folder / "deploy/alertmanager/alertmanager.yml").read_text()
    scraping = [(folder / "deploy/prometheus/prometheus.yml").read_text()]
    assert lasting(lambda: live.service.differences(Site(shop), made)) == []
    assert lasting(lambda: live.prometheus.differences(Site(asked), made, rules, scraping)) == []
    assert lasting(lambda: live.alertmanager.differences(Site(told), made, config)) == []
    changed = rules.replace("> 0.72", "> 0.73", 1)
    assert changed != rules
    assert len(list(live.prometheus.differences(Site(asked), made, changed, scraping))) == 1
    other = config.replace("receiver: shop-P3", "receiver: shop-P2", 1)
    assert other != config
    assert len(list(live.alertmanager.differences(Site(told), made, other))) == 1


def lasting(differences: Callable[[], Iterable[str]]) -> list[str]:
    """What still differs after some scrapes: a target that is new, or whose scrape was late, differs for one."""
    deadline = time.monotonic() + 10
    while (found := list(differences())) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


def told_as_written(alert: dict[str, Any], rule: dict[str, Any]) -> None:
    """Labels and links as the rule says them, and the summary with the measured value in its place."""
    assert rule["labels"].items() <= alert["labels"].items()
    annotations: dict[str, str] = rule["annotations"]
    assert alert["annotations"].keys() == annotations.keys()
    assert alert["annotations"]["runbook_url"].endswith(f"/{rule['alert']}.md")
    for key, text in annotations.items():
        before, _, rest = text.partition("{{")
        after = rest.rpartition("}}")[2]
        said = alert["annotations"][key]
        assert said.startswith(before)
        assert said.endswith(after)
        assert "{{" not in said
        assert "%!" not in said
