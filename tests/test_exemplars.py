"""What Prometheus sees of traces: exemplars, of spans that the collector has."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from mahavishnu.compile import compile
from mahavishnu.contract import Contract, contract
from mahavishnu.load import load
from tests.monitoring import written
from tests.otlp_receiver import Collector
from tests.reading import read_11
from tests.servers import prometheus


@contextmanager
def serving(folder: Path, made: Contract) -> Generator[str]:
    """The service of a folder, really served."""
    command = [sys.executable, "-m", "uvicorn", "app:app", "--port", str(made.spec.service.port)]
    process = subprocess.Popen(
        [*command, "--no-access-log"], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{made.spec.service.port}"
    try:
        for _ in range(400):
            try:
                httpx.get(f"{url}/healthz")
                break
            except httpx.TransportError:
                time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        assert process.wait(20) in (0, -signal.SIGTERM)  # uvicorn ends, then hands the signal on


@pytest.mark.judge
@pytest.mark.proof
def test_prometheus_knows_which_trace_a_latency_was_of(receiver: Collector, tmp_path: Path) -> None:
    """It is started as compose starts it, asked as Grafana asks it, and the collector has that very span.

    The server ends meanwhile, by SIGTERM: what it had is sent.
    """
    (tmp_path / "mahavishnu.yaml").write_text(
        "mahavishnu: 1\nservice: {name: shop, app: 'app:app', port: 8791}\n"
        f"observability: {{traces: {{otlp: '{receiver.url}'}}}}\ndeploy: {{targets: {{compose: {{}}}}}}\n"
    )
    (tmp_path / "app.py").write_text(
        "from starlette.applications import Starlette\nfrom mahavishnu.asgi import Hardening\n"
        "app = Starlette()\napp.add_middleware(Hardening)\n"
    )
    made = contract(load(tmp_path / "mahavishnu.yaml").spec)
    files = {one.path: one.text for one in compile(made)}
    command = read_11(files["compose/compose.yaml"])["services"]["prometheus"]["command"]
    options = [word for word in command if word.startswith("--enable-feature")]
    board = json.loads(files["grafana/dashboards/service.json"])
    (asking,) = (one["targets"] for one in board["panels"] if one["title"] == "Duration")
    assert all(one["exemplar"] for one in asking)
    query = asking[0]["expr"].replace("$__rate_interval", "1m").replace("$instance", ".+")
    generated = written(made, tmp_path / "deploy") / "prometheus"
    with (
        serving(tmp_path, made) as url,
        prometheus(generated, url.removeprefix("http://"), tmp_path, *options) as asked,
    ):
        found: list[Any] = []
        for _ in range(200):
            httpx.get(f"{url}/nowhere")
            time.sleep(0.05)
            now = time.time()
            found = asked.ask("query_exemplars", query=query, start=f"{now - 60}", end=f"{now + 1}")
            if found:
                break
        (one, *_) = (each for series in found for each in series["exemplars"])
    spans = {(span.trace_id.hex(), span.span_id.hex()) for span in receiver.spans()}
    assert (one["labels"]["trace_id"], one["labels"]["span_id"]) in spans
