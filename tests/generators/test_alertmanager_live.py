"""A real Alertmanager with the generated file: who is told, who is silenced, and that the end is told too."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

from tests.judges import judge
from tests.monitoring import MINIMAL, made, texts

SEVERITIES = ("P1", "P2", "P3", "P4")


class Heard:
    """A web server that keeps what it is told, with the path it was told at."""

    def __init__(self) -> None:
        messages: Queue[tuple[str, dict[str, Any]]] = Queue()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                messages.put((self.path.lstrip("/"), json.loads(body)))
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name in the base)
                """Quietly."""

        self.messages = messages
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def next(self, status: str) -> dict[str, set[str]]:
        """The names of the alerts that were told with that status, by path, until each path was told once."""
        told: dict[str, set[str]] = {}
        while len(told) < len(SEVERITIES):
            path, message = self.messages.get(timeout=20)
            if message["status"] == status:
                told.setdefault(path, set()).update(one["labels"]["alertname"] for one in message["alerts"])
        return told


class Alertmanager:
    """The server, and its API."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def tell(self, alerts: list[dict[str, str]], ends: timedelta) -> None:
        """What Prometheus posts: alerts that end then, from now."""
        at = (datetime.now(UTC) + ends).isoformat()
        text = {"summary": "something is wrong"}
        body = [{"labels": labels, "annotations": text, "endsAt": at} for labels in alerts]
        request = urllib.request.Request(
            f"{self.url}/api/v2/alerts", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=5) as answer:
            assert answer.status == 200

    def inhibited(self) -> set[str]:
        with urllib.request.urlopen(f"{self.url}/api/v2/alerts", timeout=5) as answer:
            found = json.loads(answer.read())
        return {one["labels"]["alertname"] for one in found if one["status"]["inhibitedBy"]}


@pytest.fixture
def heard() -> Iterator[Heard]:
    """Where every channel of the spec leads."""
    here = Heard()
    yield here
    here.server.shutdown()
    here.server.server_close()


@pytest.fixture
def alertmanager(heard: Heard, tmp_path: Path) -> Iterator[Alertmanager]:
    """Alertmanager with the generated configuration, its patience shortened to a second."""
    spec: dict[str, Any] = {
        **MINIMAL,
        "secrets": [],
        "channels": {one.lower(): {"webhook": f"http://127.0.0.1:{heard.port}/{one}"} for one in SEVERITIES},
        "alerts": {"route": {one: [one.lower()] for one in SEVERITIES}},
    }
    text = texts(made(spec))["alertmanager/alertmanager.yml"]
    config = tmp_path / "alertmanager.yml"
    config.write_text(re.sub(r"group_(wait|interval): \w+", r"group_\1: 1s", text), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [f"--config.file={config}", f"--storage.path={tmp_path / 'data'}", "--cluster.listen-address="]
    process = subprocess.Popen(
        [judge("prometheus-alertmanager"), *words, f"--web.listen-address=127.0.0.1:{port}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    server = Alertmanager(port)
    try:
        deadline = time.monotonic() + 20
        while not server.ready():
            assert process.poll() is None, "Alertmanager did not start"
            assert time.monotonic() < deadline, "Alertmanager is not ready"
            time.sleep(0.05)
        yield server
    finally:
        process.terminate()
        process.wait(20)


def alert(name: str, severity: str, **labels: str) -> dict[str, str]:
    return {"alertname": name, "severity": severity, "service": "shop", **labels}


@pytest.mark.judge
def test_each_severity_is_told_where_the_spec_says_of_the_beginning_and_of_the_end(
    alertmanager: Alertmanager, heard: Heard
) -> None:
    """The faster burn speaks for the slower ones of its promise, for no other promise and no other alert."""
    burns = [alert(f"ShopSloAvailabilityBurn{one}", one, slo="availability", tier="x") for one in SEVERITIES]
    others = [
        alert("ShopSloLatencyBurnP2", "P2", slo="latency", tier="x"),
        alert("ShopLimitPerClientRefusing", "P3"),
        alert("ShopThresholdSize", "P4"),
    ]
    alertmanager.tell([*burns, *others], timedelta(minutes=5))
    assert heard.next("firing") == {
        "P1": {"ShopSloAvailabilityBurnP1"},
        "P2": {"ShopSloLatencyBurnP2"},
        "P3": {"ShopLimitPerClientRefusing"},
        "P4": {"ShopThresholdSize"},
    }
    assert alertmanager.inhibited() == {one["alertname"] for one in burns[1:]}
    alertmanager.tell([*burns, *others], timedelta(seconds=-1))
    ended = heard.next("resolved")
    assert ended["P1"] == {"ShopSloAvailabilityBurnP1"}
    assert "ShopLimitPerClientRefusing" in ended["P3"]


@pytest.mark.judge
def test_a_service_that_is_down_has_no_other_news(alertmanager: Alertmanager, heard: Heard) -> None:
    """One message instead of eight; and another service's alerts are not touched."""
    alertmanager.tell([alert("ShopDown", "P1")], timedelta(minutes=5))
    rest = [
        alert("ShopSloAvailabilityBurnP1", "P1", slo="availability", tier="x"),
        alert("ShopThresholdSize", "P4"),
    ]
    strangers = [{**alert(f"Other{one}", one), "service": "other"} for one in SEVERITIES]
    alertmanager.tell([*rest, *strangers], timedelta(minutes=5))
    told = heard.next("firing")
    assert {name for names in told.values() for name in names} <= {
        "ShopDown",
        *(one["alertname"] for one in strangers),
    }
    assert alertmanager.inhibited() == {one["alertname"] for one in rest}
