"""What the outside sees of traces: Prometheus the exemplars, promtool the alert on spans that are lost."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from mahavishnu.compile import compile
from mahavishnu.contract import Contract, contract
from mahavishnu.firing import firing, samples
from mahavishnu.load import load
from tests.judges import judge
from tests.monitoring import written
from tests.otlp_receiver import Collector, collector
from tests.reading import read_11
from tests.runtime.asgi_client import House, harden, run, site
from tests.runtime.test_otlp import served, until
from tests.runtime.traced import outcomes, tracing
from tests.servers import prometheus

MINUTE = 60 * 10**9


@pytest.fixture
def receiver() -> Generator[Collector]:
    """A collector that takes everything."""
    with collector() as made:
        yield made


class Recorded:
    """A traced service that is asked and scraped once a minute."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.series: dict[str, list[float | None]] = defaultdict(list)
        self.minutes = 0

    async def pass_by(self, minutes: int) -> int:
        """Let so many minutes pass, and each span be sent; the number of the last one."""
        for _ in range(minutes):
            await self.house.call()
            self.minutes += 1
            self.house.app.service.lasting.ended.settle()
            await until(lambda: sum(outcomes(self.house)) == self.minutes)
            shown = samples((await self.house.call(path="/metrics")).body.decode(), "shop")
            for name, value in shown.items():
                self.series[name] += [None] * (self.minutes - 1 - len(self.series[name])) + [value]
            self.house.clock.advance(MINUTE)
        return self.minutes - 1


@pytest.mark.judge
def test_the_alert_on_lost_spans_fires_and_clears(
    receiver: Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a collector takes nothing; not while one is away for three minutes, as one that is replaced."""
    monkeypatch.setattr("mahavishnu.runtime.outbox._EVERY", 5)
    spec = tracing(receiver.url)

    async def scenario() -> tuple[Recorded, list[int]]:
        async with served(harden(site(), spec)) as house:
            recorded, minutes = Recorded(house), list[int]()
            for status, count in ((200, 8), (404, 3), (200, 12), (404, 20), (200, 20)):
                receiver.status = status
                minutes.append(await recorded.pass_by(count))
        return recorded, minutes

    recorded, minutes = run(scenario())
    rules = tmp_path / "rules.yml"
    rules.write_text(next(one.text for one in compile(contract(spec)) if one.path == "prometheus/rules.yml"))
    heard = firing(judge("promtool"), rules, recorded.series, minutes)
    nothing = frozenset[str]()
    assert heard == [nothing, nothing, nothing, {"ShopSpansLost"}, nothing]


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
            query = "http_server_request_duration_seconds_bucket"
            found = asked.ask("query_exemplars", query=query, start=f"{now - 60}", end=f"{now + 1}")
            if found:
                break
        (one, *_) = (each for series in found for each in series["exemplars"])
    spans = {(span.trace_id.hex(), span.span_id.hex()) for span in receiver.spans()}
    assert (one["labels"]["trace_id"], one["labels"]["span_id"]) in spans
