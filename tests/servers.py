"""Prometheus and Alertmanager, really started, with what was generated for them."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from tests.judges import judge
from tests.reading import read_11


@dataclass(frozen=True)
class Server:
    """One of them, and where it answers."""

    url: str

    def ready(self) -> bool:
        """Whether it answers."""
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def ask(self, path: str, **query: str) -> Any:
        """The data of an answer of the API of Prometheus."""
        body = urllib.parse.urlencode(query).encode()
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}", body, timeout=10) as answer:
            return json.loads(answer.read())["data"]

    def draws(self, expr: str, seconds: int) -> bool:
        """Whether a panel of the last seconds with this query shows anything: a number, somewhere."""
        now = time.time()
        data = self.ask("query_range", query=expr, start=f"{now - seconds}", end=f"{now}", step="1")
        return any(isfinite(float(value)) for one in data["result"] for _, value in one["values"])


@contextmanager
def prometheus(generated: Path, target: str, folder: Path, *options: str) -> Generator[Server]:
    """Prometheus with the generated scrape configuration and rules; only pace, target and options are of the test."""
    config = read_11((generated / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    del config["alerting"]
    (job,) = config["scrape_configs"]
    del job["dns_sd_configs"]
    job["static_configs"] = [{"targets": [target]}]
    rules = re.sub(r"interval: \w+", "interval: 1s", (generated / "rules.yml").read_text())
    (folder / "rules.yml").write_text(rules)
    (folder / "prometheus.yml").write_text(json.dumps(config))
    words = (f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'series'}")
    with _started("prometheus", *words, *options) as server:
        yield server


@contextmanager
def alertmanager(generated: Path, folder: Path) -> Generator[Server]:
    """Alertmanager with the generated configuration."""
    words = (f"--config.file={generated / 'alertmanager.yml'}", f"--storage.path={folder / 'alerts'}")
    with _started("prometheus-alertmanager", *words, "--cluster.listen-address=") as server:
        yield server


@contextmanager
def _started(program: str, *words: str) -> Generator[Server]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{free.getsockname()[1]}"
    command = [str(judge(program)), *words, f"--web.listen-address={place}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    server = Server(f"http://{place}")
    try:
        deadline = time.monotonic() + 20
        while not server.ready():
            assert process.poll() is None, f"{program} did not start"
            assert time.monotonic() < deadline, f"{program} is not ready"
            time.sleep(0.05)
        yield server
    finally:
        process.terminate()
        process.wait(20)
