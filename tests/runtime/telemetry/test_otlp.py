"""Series pushed to a collector: the same as are scraped, in time, bounded, and never in the way."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE

from mahavishnu.alerts.drift import SPEC_RELOADS
from mahavishnu.runtime.multiprocess.private_folder import PrivateFolder
from mahavishnu.runtime.multiprocess.workers import Workers
from mahavishnu.runtime.pushing import Pushing
from mahavishnu.runtime.service import Service
from mahavishnu.runtime.telemetry import otlp
from mahavishnu.runtime.telemetry.collector import Failure
from mahavishnu.runtime.telemetry.otlp import post
from mahavishnu.spec import Spec
from tests.otlp_receiver import Collector, Exporting, collector, dripping
from tests.runtime.asgi_client import House, harden, run, site, spec_of

EVERY = 15


def pushing(url: str, **more: Any) -> Spec:
    """A spec that pushes there."""
    return spec_of(
        observability={"metrics": {"otlp": url, "every": f"{EVERY}s"}},
        limits={"few": {"rate": "3/hour"}, "request": {"timeout": "2s"}},
        **more,
    )


@asynccontextmanager
async def served(house: House) -> AsyncGenerator[House]:
    """The app from the start of its server to its end."""
    started, ending = asyncio.Event(), asyncio.Event()
    waiting = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

    async def receive() -> dict[str, Any]:
        if len(waiting) == 1:
            await ending.wait()
        return waiting.pop(0)

    async def send(message: Any) -> None:
        started.set()

    scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    life = asyncio.create_task(house.app(scope, receive, send))
    await started.wait()
    try:
        yield house
    finally:
        ending.set()
        await life


async def until(true: Callable[[], bool]) -> None:
    """Wait for another thread."""
    while not true():  # noqa: ASYNC110 - a thread tells no event
        await asyncio.sleep(0.005)


def outcomes(house: House) -> tuple[float, float]:
    """How often it was pushed, and how often that failed."""
    name = "mahavishnu_otlp_pushes_total{{outcome={}}}"
    shown = house.samples()
    return shown[name.format("ok")], shown[name.format("failed")]


def in_part(house: House) -> float:
    """How often only a part of it was taken."""
    return house.samples()["mahavishnu_otlp_pushes_total{outcome=partial}"]


async def tick(house: House, seconds: float = EVERY) -> None:
    """Let so much time pass, and one push that is due be done."""
    before = sum((*outcomes(house), in_part(house)))
    house.clock.advance(int(seconds * 10**9))
    await until(lambda: sum((*outcomes(house), in_part(house))) > before)
    await house.clock.settle()


async def test_what_is_pushed_is_what_is_scraped(receiver: Collector) -> None:
    """Every series with its name, labels, buckets and value; totals say since when they are counted."""
    async with served(harden(site(), pushing(receiver.url), clock=Exporting())) as house:
        for number in range(5):
            await house.call(path="/" if number % 2 else "/nowhere")
        await tick(house)
        scraped, pushed = house.samples(), receiver.samples()
        scraped["mahavishnu_otlp_pushes_total{outcome=ok}"] -= 1  # it was not done yet
        assert pushed == scraped
        kinds = {one.name: one.WhichOneof("data") for one in receiver.metrics()}
        assert kinds["mahavishnu_limit_decisions_total"] == "sum"
        assert kinds["http_server_request_duration_seconds"] == "histogram"
        assert kinds["http_server_active_requests"] == "gauge"
        for metric in receiver.metrics():
            for data in [metric.sum] * metric.HasField("sum") + [metric.histogram] * metric.HasField(
                "histogram"
            ):
                assert data.aggregation_temporality == AGGREGATION_TEMPORALITY_CUMULATIVE
                assert all(0 < one.start_time_unix_nano < one.time_unix_nano for one in data.data_points)
            assert metric.description
            assert metric.sum.is_monotonic == metric.HasField("sum")


async def test_it_says_who_it_is(receiver: Collector) -> None:
    """As job and instance, by which Prometheus knows a target; at the place that the protocol names."""
    async with served(harden(site(), pushing(receiver.url), clock=Exporting())) as house:
        await tick(house)
        await tick(house)
    assert receiver.resource(0)["service.name"] == "shop"
    assert receiver.resource(0) == receiver.resource(1)
    assert {*receiver.paths} == {"/v1/metrics"}


@pytest.mark.parametrize("tail", ["", "/", "/v1/metrics", "/v1/metrics/"])
@pytest.mark.parametrize("query", ["", "?token=abc"])
def test_the_place_is_the_collectors_or_that_of_the_series(
    receiver: Collector, tail: str, query: str
) -> None:
    assert post(receiver.url + tail + query, b"", 5) is None
    assert receiver.paths == [f"/v1/metrics{query}"]


async def test_the_last_word_is_pushed_before_the_server_ends(receiver: Collector) -> None:
    """What was counted since the last time, though nothing was due."""
    async with served(harden(site(), pushing(receiver.url), clock=Exporting())) as house:
        await house.call()
        assert receiver.pushed == []
    assert receiver.samples()["mahavishnu_limit_decisions_total{limit=few,outcome=allowed}"] == 1
    count = len(receiver.pushed)
    house.clock.advance("1h")
    await asyncio.sleep(0.05)
    assert len(receiver.pushed) == count


class Ending:
    """A worker that ends, as the middleware ends it."""

    def __init__(self, folder: Path, url: str) -> None:
        self.service = Service(pushing(url, service={"workers": 3}), clock := Exporting())
        self.workers = Workers(PrivateFolder(folder), clock.now, int, int, print)
        self.service.metrics.cells.together = self.workers.shown
        self.pushing = Pushing(lambda: self.service, clock, lambda: self.workers)

    def count(self, amount: int) -> None:
        self.service.metrics.counter(SPEC_RELOADS, outcome="applied").inc(amount)

    async def end(self) -> None:
        self.workers.say(self.service.metrics.snapshot())
        await self.pushing.flush()
        self.workers.leave()


async def test_what_workers_count_that_end_while_the_last_word_is_pushed_is_pushed_too(
    receiver: Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One leads, and its body was written before the others said their last word: it pushes theirs as well."""
    first, second, third = (Ending(tmp_path, receiver.url) for _ in range(3))
    ends = [second.end, third.end]
    loop = asyncio.get_running_loop()

    def meanwhile(url: str, body: bytes, timeout: float) -> Any:
        if ends:
            asyncio.run_coroutine_threadsafe(ends.pop(0)(), loop).result()
        return post(url, body, timeout)

    monkeypatch.setattr(otlp, "post", meanwhile)
    for worker, amount in ((first, 1), (second, 10), (third, 100)):
        worker.pushing.start()
        worker.count(amount)
    await first.end()
    assert receiver.samples()["mahavishnu_spec_reloads_total{outcome=applied}"] == 111
    assert len(receiver.pushed) == 3


async def test_a_collector_that_is_gone_is_asked_again_soon(receiver: Collector) -> None:
    """In 1, 2, 4, 8 seconds or a little less, so that not all come together; never later than usual; said once."""
    receiver.status = 503
    async with served(harden(site(), pushing(receiver.url), clock=Exporting())) as house:
        await tick(house)
        for most in (1, 2, 4, 8, EVERY, EVERY):
            before = len(receiver.pushed)
            house.clock.advance(int(most / 2 * 10**9) - 1)
            await asyncio.sleep(0.02)
            assert len(receiver.pushed) == before
            await tick(house, most / 2 + 1e-6)
            assert len(receiver.pushed) == before + 1
        assert outcomes(house) == (0, 7)
        await house.call()
        receiver.status = 200
        await tick(house)
        assert outcomes(house) == (1, 7)
        told = [line for line in house.lines if line["event"].startswith("series")]
        assert [line["event"] for line in told] == ["series not pushed", "series pushed again"]
        assert told[0]["reason"] == "HTTP 503"
        assert told[1]["failures"] == 7
        # Nothing is missing: what is pushed are totals.
        assert receiver.samples()["mahavishnu_limit_decisions_total{limit=few,outcome=allowed}"] == 1


@pytest.mark.parametrize("status", [400, 401, 404, 500])
async def test_what_would_be_refused_again_is_not_pushed_before_its_time(
    receiver: Collector, status: int
) -> None:
    """The next one, in the usual time, holds more than what was refused."""
    receiver.status = status
    async with served(harden(site(), pushing(receiver.url), clock=Exporting())) as house:
        await tick(house)
        for failed in (2, 3):
            house.clock.advance(EVERY * 10**9 - 1)
            await asyncio.sleep(0.02)
            assert len(receiver.pushed) == failed - 1
            await tick(house, 1e-6)
            assert outcomes(house) == (0, failed)


async def test_what_is_taken_in_part_counts_as_that(receiver: Collector) -> None:
    """It is no failure, nor tried again before its time; the log says so once, with the collector's reason."""
    said = ExportMetricsServiceResponse()
    said.partial_success.rejected_data_points = 3
    said.partial_success.error_message = "too many series for tenant"
    async with served(harden(site(), pushing(receiver.url), clock=Exporting())) as house:
        receiver.body = said.SerializeToString()
        await tick(house)
        house.clock.advance(EVERY * 10**9 - 1)
        await asyncio.sleep(0.02)
        await tick(house, 1e-6)
        assert (*outcomes(house), in_part(house)) == (0, 0, 2)
        receiver.status = 400
        await tick(house)
        receiver.status, receiver.body = 200, b""
        await tick(house)
        assert (*outcomes(house), in_part(house)) == (1, 1, 2)
    told = [(line["event"], line.get("reason")) for line in house.lines if line["event"].startswith("series")]
    assert [event for event, _ in told] == [
        "series pushed in part",
        "series not pushed",
        "series pushed again",
    ]
    assert told[0][1] == "3 series were rejected: too many series for tenant"


async def test_a_collector_that_wants_to_be_left_alone_is(receiver: Collector) -> None:
    """`Retry-After`, up to five minutes."""
    receiver.status, receiver.said = 429, {"retry-after": "60"}
    async with served(harden(site(), pushing(receiver.url), clock=Exporting())) as house:
        await tick(house)
        house.clock.advance("59s")
        await asyncio.sleep(0.02)
        assert len(receiver.pushed) == 1
        await tick(house, 1)
        assert len(receiver.pushed) == 2


async def test_requests_are_served_while_a_collector_hangs(receiver: Collector) -> None:
    """And no second push is begun beside the one that waits."""
    receiver.delay = 0.5
    async with served(harden(site(), pushing(receiver.url), clock=Exporting())) as house:
        house.clock.advance(EVERY * 10**9)
        await asyncio.sleep(0.05)
        house.clock.advance("5m")
        assert await house.status() == 200
        assert outcomes(house) == (0, 0)
        receiver.delay = 0
        await until(lambda: outcomes(house) == (1, 0))
        assert len(receiver.pushed) == 1


def test_a_collector_that_hangs_does_not_keep_a_server_from_ending(
    receiver: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last push is given up; nobody waits for its thread."""
    monkeypatch.setattr("mahavishnu.runtime.pushing.LAST", 10**7)
    released = threading.Event()

    def hang(*_: Any) -> None:
        released.wait()

    async def scenario() -> House:
        async with served(harden(site(), pushing(receiver.url), clock=Exporting())) as house:
            monkeypatch.setattr("mahavishnu.runtime.telemetry.otlp.post", hang)
        return house

    house = run(scenario())
    assert outcomes(house) == (0, 1)
    assert [line["reason"] for line in house.lines if "reason" in line] == ["TimeoutError"]
    released.set()


def test_each_way_to_fail_has_a_reason(receiver: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody there, nobody who answers, no collector, no name."""
    partial = ExportMetricsServiceResponse()
    partial.partial_success.rejected_data_points = 3
    receiver.body = partial.SerializeToString()
    assert post(receiver.url, b"", 5) == Failure("3 series were rejected", final=True, partial=True)
    partial.partial_success.error_message = "too many series\nfor tenant"
    receiver.body = partial.SerializeToString()
    said = "3 series were rejected: too many series for tenant"
    assert post(receiver.url, b"", 5) == Failure(said, final=True, partial=True)
    receiver.body = b"<html>"
    assert post(receiver.url, b"", 5) is None
    receiver.status, receiver.said = 404, {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}
    assert post(receiver.url, b"", 5) == Failure("HTTP 404: <html>", final=True)
    receiver.said = {"retry-after": "99999"}
    assert post(receiver.url, b"", 5) == Failure("HTTP 404: <html>", 300, final=True)
    receiver.status, receiver.said, receiver.body = 400, {}, b"key s/ecret: out of order sample"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=s%2Fecret")
    assert post(receiver.url, b"", 5) == Failure("HTTP 400: key <secret>: out of order sample", final=True)
    receiver.delay = 0.5
    found = post(receiver.url, b"", 0.05)
    assert found is not None
    assert "timed out" in found.reason
    found = post("http://127.0.0.1:1", b"", 5)
    assert found is not None
    assert "refused" in found.reason
    found = post("http://no-such-host.invalid", b"", 5)
    assert found is not None


def test_a_collector_that_drips_has_no_more_time_than_one_that_is_silent() -> None:
    """Whoever sends a byte now and then would hold the sender for as long as he likes."""
    with dripping() as url:
        assert post(url, b"", 0.2) == Failure("timed out")


async def test_secret_headers_reach_the_collector_and_nobody_else(
    receiver: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By OpenTelemetry's own variable; not the place of a redirect, nor the log."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=s%2Fecret, x-tenant = shop,nonsense")
    with collector() as elsewhere:
        async with served(harden(site(), pushing(receiver.url), clock=Exporting())) as house:
            await tick(house)
            sent = {key.lower(): value for key, value in receiver.headers[0].items()}
            assert (sent["api-key"], sent["x-tenant"]) == ("s/ecret", "shop")
            receiver.status, receiver.said = 302, {"location": elsewhere.url + "/v1/metrics"}
            await tick(house)
            assert outcomes(house) == (1, 1)
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=hush%0d%0ax: y")
            await tick(house)
            assert outcomes(house) == (1, 2)
            monkeypatch.delenv("OTEL_EXPORTER_OTLP_HEADERS")
        assert elsewhere.paths == []
        assert "hush" not in house.stream.getvalue()
        assert "ecret" not in house.stream.getvalue()


async def test_whatever_goes_wrong_the_next_one_is_pushed(
    receiver: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what nobody has thought of."""

    def broken(*_: Any) -> bytes:
        raise ZeroDivisionError

    async with served(harden(site(), pushing(receiver.url), clock=Exporting())) as house:
        with monkeypatch.context() as patch:
            patch.setattr("mahavishnu.runtime.telemetry.otlp.encoded", broken)
            await tick(house)
            assert outcomes(house) == (0, 1)
        await tick(house)
        assert outcomes(house) == (1, 1)
        assert [line["reason"] for line in house.lines if "reason" in line] == ["ZeroDivisionError"]


def test_without_a_collector_nothing_is_pushed_nor_shown() -> None:
    """And no package is needed."""

    async def scenario() -> None:
        async with served(harden(site(), spec_of())) as house:
            assert not any("otlp" in name for name in house.samples())

    run(scenario())
    code = "import sys; sys.modules['opentelemetry'] = None; import mahavishnu.asgi"
    subprocess.run([sys.executable, "-c", code], check=True)


def without_opentelemetry(folder: Path, shown: str) -> str:
    """The last word of a process that shows this by OTLP, and lacks what it needs for that."""
    (folder / "mahavishnu.yaml").write_text(
        "mahavishnu: 1\nservice: {name: shop, app: a:b}\n"
        f"observability: {{{shown}: {{otlp: 'http://c:4318'}}}}\n"
    )
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from mahavishnu.asgi import Hardening; Hardening(None, 'mahavishnu.yaml')"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    return ended.stderr.splitlines()[-1]


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    """At the start, and how to get it."""
    assert "pip install 'mahavishnu[otel]'" in without_opentelemetry(tmp_path, "metrics")
