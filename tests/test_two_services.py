"""Two services, or environments, at one Prometheus and one Alertmanager: neither takes the other's alerts."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mahavishnu import live
from mahavishnu.contract import Contract
from mahavishnu.live.fetch import Site
from mahavishnu.policy import camel
from mahavishnu.signals import Severity
from tests.generators.test_alertmanager_live import Alertmanager
from tests.monitoring import MINIMAL, accepts, made, texts, written
from tests.reading import read
from tests.scaled import impatient
from tests.stack import Heard, alertmanager, heard, prometheus

SEVERITIES = tuple(one.value for one in Severity)
NAMES = ("shop", "shop_staging")
QUIET = [{"severity": "P3", "from": "22:00", "to": "07:00"}]
Config = dict[str, Any]


def service(name: str, port: int = 9, **alerts: Any) -> Contract:
    """One of the two: it tells everything at a path of its own, and P1 is a page only in production."""
    url = f"http://127.0.0.1:{port}/{name}"
    kubernetes = {"targets": {"kubernetes": {"namespace": name.replace("_", "-")}}}
    route = {one: ["pager" if (name, one) == ("shop", "P1") else "room"] for one in SEVERITIES}
    said: dict[str, Any] = {
        **MINIMAL,
        "secrets": [],
        "service": {**MINIMAL["service"], "name": name},
        "channels": {one: {"webhook": f"{url}/{one}"} for one in ("pager", "room", "watch")},
        "deploy": kubernetes,
        "alerts": {"route": route, "heartbeat": ["watch"], **alerts},
    }
    return made(said)


def together(configs: list[Config]) -> Config:
    """Files put side by side, as docs/environments.md says: every list of the one followed by that of the other."""
    first, *others = configs
    for other in others:
        first["route"]["routes"] += other["route"]["routes"]
        for key in ("inhibit_rules", "time_intervals", "receivers"):
            first[key] = [*first.get(key, ()), *(one for one in other.get(key, ()) if one not in first[key])]
    return first


def config(of: Contract) -> Config:
    found: Config = read(texts(of)["alertmanager/alertmanager.yml"])
    return found


@pytest.fixture(name="ear")
def _ear(monkeypatch: pytest.MonkeyPatch) -> Generator[Heard]:
    """Where every channel leads, and who is told at once."""
    impatient(monkeypatch)
    with heard() as here:
        yield here


@contextmanager
def one_for(folder: Path, *services: Contract) -> Generator[Alertmanager]:
    """A real Alertmanager with the files of some services."""
    path = folder / "shared.yml"
    path.write_text(json.dumps(together([config(one) for one in services])))
    with alertmanager(path, folder) as url:
        yield Alertmanager(url)


def alert(name: str, severity: str, of: str) -> dict[str, str]:
    return {"alertname": f"{camel(of)}{name}", "severity": severity, "service": of}


def until(here: Heard, wanted: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Who was told of what, once all that is wanted was told."""
    found: dict[str, set[str]] = {}

    def enough(path: str, message: dict[str, Any]) -> bool:
        found.setdefault(path, set()).update(one["labels"]["alertname"] for one in message["alerts"])
        return all(names <= found.get(where, set()) for where, names in wanted.items())

    try:
        here.until(enough)
    except AssertionError as fault:
        raise AssertionError(f"{fault}: {wanted}, but {found}") from None
    return found


def reaches(path: Path, receiver: str, **labels: str) -> None:
    """Assert that alerts with these labels end in that receiver."""
    words = [f"{name}={value}" for name, value in labels.items()]
    accepts(
        "amtool",
        "config",
        "routes",
        "test",
        f"--config.file={path}",
        f"--verify.receivers={receiver}",
        *words,
    )


@pytest.mark.judge
def test_what_another_service_says_ends_in_no_receiver_of_this_one(tmp_path: Path) -> None:
    """Its severities, its heartbeat and what has no severity; but what is of no service is heard by somebody."""
    path = written(service("shop"), tmp_path) / "alertmanager/alertmanager.yml"
    for severity in (*SEVERITIES, "heartbeat", "warning"):
        reaches(path, "nobody", **alert("Any", severity, "shop_staging"))
    reaches(path, "nobody", alertname="ShopHeartbeat", severity="heartbeat", service="shop_staging")
    reaches(path, "shop-unrouted", alertname="ShopAny", service="shop")
    reaches(path, "shop-unrouted", alertname="DiskFull", severity="P1")


@pytest.mark.judge
@pytest.mark.parametrize("order", [NAMES, NAMES[::-1]])
def test_two_files_side_by_side_route_as_each_alone(order: tuple[str, str], tmp_path: Path) -> None:
    """Whichever comes first: the tests of the routes of both pass with the one file."""
    services = [service(name, quiet=QUIET) for name in order]
    shared = tmp_path / "shared.yml"
    shared.write_text(json.dumps(together([config(one) for one in services])))
    accepts("amtool", "check-config", shared)
    for one in services:
        alone = written(one, tmp_path / one.job) / "alertmanager/alertmanager.yml"
        for at in (alone, shared):
            for severity in SEVERITIES:
                reaches(at, f"{one.job}-{severity}", **alert("Any", severity, one.job))
            reaches(at, f"{one.job}-heartbeat", **alert("Heartbeat", "heartbeat", one.job))
            reaches(at, f"{one.job}-unrouted", service=one.job, severity="warning")


def test_two_files_share_no_name_but_that_of_nobody() -> None:
    """Receivers and quiet hours: Alertmanager refuses a name that is there twice."""
    for key in ("receivers", "time_intervals"):
        one, other = ({at["name"] for at in config(service(name, quiet=QUIET))[key]} for name in NAMES)
        assert one & other == ({"nobody"} if key == "receivers" else set())


@pytest.mark.judge
def test_staging_does_not_page_production(ear: Heard, tmp_path: Path) -> None:
    """A real Alertmanager with both: each is told its own, and whose service is down has no other news, alone."""
    services = [service(name, ear.port) for name in NAMES]
    firing = [alert("Down", "P1", "shop_staging"), alert("ThresholdX", "P2", "shop_staging")]
    firing += [alert("ThresholdX", "P1", "shop"), alert("ThresholdY", "P2", "shop")]
    wanted = {
        "shop/pager": {"ShopThresholdX"},
        "shop/room": {"ShopThresholdY"},
        "shop_staging/room": {"ShopStagingDown"},
    }
    with one_for(tmp_path, *services) as server:
        server.tell(firing, timedelta(minutes=5))
        assert until(ear, wanted) == wanted
        assert server.inhibited() == {"ShopStagingThresholdX"}


@pytest.mark.judge
def test_production_alone_hears_nothing_of_staging(ear: Heard, tmp_path: Path) -> None:
    """Where one Prometheus has the rules of both, and its Alertmanager the file of one."""
    with one_for(tmp_path, service("shop", ear.port)) as server:
        server.tell(
            [alert("Down", "P1", "shop_staging"), alert("Heartbeat", "heartbeat", "shop_staging")],
            timedelta(minutes=5),
        )
        server.tell([alert("ThresholdY", "P2", "shop")], timedelta(minutes=5))
        wanted = {"shop/room": {"ShopThresholdY"}}
        assert until(ear, wanted) == wanted


def watching(folder: Path, told: str, *services: Contract) -> Path:
    """A Prometheus that was there before, with the rules and the scrape jobs of some services."""
    jobs, rules = list[Any](), list[str]()
    for one in services:
        generated = texts(one)
        (job,) = read(generated["prometheus/scrape.kubernetes.yml"])
        del job["kubernetes_sd_configs"]  # which Debian builds Prometheus without
        jobs.append({**job, "relabel_configs": [], "static_configs": [{"targets": ["127.0.0.1:9"]}]})
        (folder / f"{one.job}.yml").write_text(generated["prometheus/rules.yml"])
        rules.append(f"{one.job}.yml")
    hears = [{"static_configs": [{"targets": [told.removeprefix("http://")]}]}]
    config = folder / "prometheus.yml"
    said = {"rule_files": rules, "scrape_configs": jobs, "alerting": {"alertmanagers": hears}}
    config.write_text(json.dumps(said))
    return config


@pytest.mark.proof
@pytest.mark.judge
def test_one_prometheus_and_one_alertmanager_serve_both(ear: Heard, tmp_path: Path) -> None:
    """Real ones: each heartbeat arrives where it should, and `diff` misses nothing of either, nor minds the other."""
    services = [service(name, ear.port, quiet=QUIET) for name in NAMES]
    wanted = {"shop/watch": {"ShopHeartbeat"}, "shop_staging/watch": {"ShopStagingHeartbeat"}}
    with (
        one_for(tmp_path, *services) as told,
        prometheus(
            watching(tmp_path, told.url, *services), tmp_path, "--rules.alert.resend-delay=1s"
        ) as asked,
    ):
        assert until(ear, wanted) == wanted
        for one in services:
            files = texts(one)
            scraping = [files["prometheus/prometheus.yml"], files["prometheus/scrape.kubernetes.yml"]]
            found = [*live.prometheus.differences(Site(asked), one, files["prometheus/rules.yml"], scraping)]
            assert [line for line in found if line.startswith(("rule ", "group "))] == []
            assert [line for line in found if "scraped every" in line or "answer within" in line] == []
            assert [
                *live.alertmanager.differences(Site(told.url), one, files["alertmanager/alertmanager.yml"])
            ] == []
