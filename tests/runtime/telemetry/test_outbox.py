"""Spans on their way to a collector: in bounded memory and time, and what is lost is counted."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.trace import TracerProvider
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mahavishnu.runtime.calls.call import Call
from mahavishnu.runtime.context import current_request
from mahavishnu.runtime.telemetry.outbox import ROOM, Outbox
from tests.otlp_receiver import Collector, Exporting
from tests.runtime.asgi_client import House, harden, run, site, spec_of
from tests.runtime.telemetry.test_otlp import served, until, without_opentelemetry
from tests.runtime.tracing.traced import NOTHING, exchanged, outcomes, tracing


def test_all_that_waits_is_sent_before_the_server_ends(receiver: Collector) -> None:
    """1,000 requests of the last moment, in batches; then no thread is left."""
    house = exchanged(receiver, site(), tracing(receiver.url), *[NOTHING] * 1000)
    assert len({one.span_id for one in receiver.spans()}) == 1000
    assert all(len(one.resource_spans[0].scope_spans[0].spans) <= 512 for one in receiver.traced)
    assert outcomes(house) == (1000, 0, 0)
    assert not [one.name for one in threading.enumerate() if "Otel" in one.name]


async def test_what_has_no_room_is_dropped_and_counted(receiver: Collector) -> None:
    """Neither memory nor a request is lost to a collector that hangs."""
    receiver.open.clear()
    async with served(harden(site(), tracing(receiver.url), clock=Exporting())) as house:
        for _ in range(ROOM + 500):
            await house.call()
        house.app.service.process_state.ended.settle()
        assert outcomes(house) == (0, 0, 500)
        receiver.open.set()
    assert outcomes(house) == (ROOM, 0, 500)
    assert len(receiver.spans()) == ROOM


def test_a_server_that_starts_again_in_its_process_has_all_its_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """What its first life has sent waits no more."""

    def takes(*_: Any) -> bytes:
        return b""

    monkeypatch.setattr("mahavishnu.runtime.telemetry.outbox.post", takes)
    counted = Counter[str]()
    box = Outbox("http://collector", lambda outcome, count: counted.update({outcome: count}), print)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(box)
    tracer = provider.get_tracer("shop")
    for _ in range(2):
        box.open()
        for _ in range(ROOM):
            tracer.start_span("one").end()
        box.close()
    assert +counted == {"exported": 2 * ROOM}


async def test_a_collector_that_is_gone_costs_no_request_and_no_end(receiver: Collector) -> None:
    """Its spans are lost, counted, and said to be, once."""
    receiver.status = 503
    async with served(harden(site(), tracing(receiver.url), clock=Exporting())) as house:
        for _ in range(3):
            assert await house.status() == 200
    assert outcomes(house) == (0, 3, 0)
    told = [line for line in house.lines if line["event"].startswith("spans")]
    assert [(line["event"], line["reason"]) for line in told] == [("spans not exported", "HTTP 503")]


async def test_a_collector_that_is_back_is_sent_what_waited(
    receiver: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mahavishnu.runtime.telemetry.outbox._EVERY", 5)
    receiver.status, receiver.said = 503, {"retry-after": "0"}
    async with served(harden(site(), tracing(receiver.url), clock=Exporting())) as house:
        await house.call()
        house.app.service.process_state.ended.settle()
        await until(lambda: len(receiver.traced) == 1)
        receiver.status = 200
        await until(lambda: outcomes(house) == (1, 0, 0))
    told = [line["event"] for line in house.lines if line["event"].startswith("spans")]
    assert told == ["spans not exported", "spans exported again"]
    assert len({one.span_id for one in receiver.spans()}) == 1


def test_a_collector_that_hangs_does_not_keep_a_server_from_ending(
    receiver: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last batch is given up; nobody waits for its thread."""
    monkeypatch.setattr("mahavishnu.runtime.telemetry.outbox.LAST", 10**7)
    released = threading.Event()

    def hang(*_: Any) -> None:
        released.wait()

    monkeypatch.setattr("mahavishnu.runtime.telemetry.outbox.post", hang)

    async def scenario() -> House:
        async with served(harden(site(), tracing(receiver.url), clock=Exporting())) as house:
            await house.call()
        return house

    house = run(scenario())
    assert [line["reason"] for line in house.lines if "reason" in line] == ["no time is left"]
    released.set()


def test_a_collector_that_hangs_does_not_keep_a_process_from_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one without a server, which has no event loop to wait by: it is said what is given up."""
    monkeypatch.setattr("mahavishnu.runtime.telemetry.outbox.LAST", 10**7)
    released, told, counted = threading.Event(), list[str](), Counter[str]()

    def hang(*_: Any) -> None:
        released.wait()

    monkeypatch.setattr("mahavishnu.runtime.telemetry.outbox.post", hang)
    box = Outbox("http://collector", lambda outcome, count: counted.update({outcome: count}), told.append)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(box)
    box.open()
    provider.get_tracer("shop").start_span("one").end()
    box.close()
    assert (told, counted) == (["no time is left"], {"failed": 1})
    released.set()


async def test_a_collector_that_takes_long_is_given_less_and_less_time(
    receiver: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All batches together have LAST at the end, not each of them."""
    monkeypatch.setattr("mahavishnu.runtime.telemetry.outbox.LAST", 3 * 10**8)
    receiver.delay = 0.2
    receiver.open.clear()
    async with served(harden(site(), tracing(receiver.url), clock=Exporting())) as house:
        for _ in range(ROOM):
            await house.call()
        receiver.open.set()  # however long that took, no batch has been taken yet
    exported, failed, dropped = outcomes(house)
    assert exported + failed == ROOM
    assert failed >= 2 * 512
    assert dropped == 0


@pytest.mark.parametrize("status", [302, 400, 401, 404])
async def test_what_would_be_refused_again_is_not_sent_again(
    receiver: Collector, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mahavishnu.runtime.telemetry.outbox._EVERY", 5)
    receiver.status = status
    async with served(harden(site(), tracing(receiver.url), clock=Exporting())) as house:
        await house.call()
        house.app.service.process_state.ended.settle()
        await until(lambda: outcomes(house) == (0, 1, 0))
    assert len(receiver.traced) == 1


def test_what_a_collector_rejects_is_counted_as_failed(receiver: Collector) -> None:
    said = ExportTraceServiceResponse()
    said.partial_success.rejected_spans = 2
    said.partial_success.error_message = "too old"
    receiver.body = said.SerializeToString()
    house = exchanged(receiver, site(), tracing(receiver.url), *[NOTHING] * 5)
    assert outcomes(house) == (3, 2, 0)
    assert [line["reason"] for line in house.lines if "reason" in line] == ["2 spans were rejected: too old"]


async def test_a_span_that_has_no_bytes_takes_no_other_with_it(receiver: Collector) -> None:
    """As one with half a character, which the app's own code may put there."""
    async with served(harden(site(), tracing(receiver.url), clock=Exporting())) as house:
        await house.call()
        traces = house.app.service.tracing
        assert traces is not None
        traces.call("half \ud800", {}, client=False).end({})
        assert await house.status(path="/\ud800") == 404
    assert outcomes(house) == (2, 1, 0)
    assert [one.name for one in receiver.spans()] == ["GET /", "GET"]


def test_secret_headers_reach_the_collector(receiver: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=s%2Fecret")
    house = exchanged(receiver, site(), tracing(receiver.url), {})
    assert {key.lower(): value for key, value in receiver.headers[0].items()}["api-key"] == "s/ecret"
    assert "ecret" not in house.stream.getvalue()


SCRIPT = """
from mahavishnu import dependency
from opentelemetry import trace
stripe = dependency("stripe")
@stripe
def charge():
    with trace.get_tracer("own").start_as_current_span("own inside"):
        pass
charge()
with trace.get_tracer("own").start_as_current_span("own around"):
    charge()
"""


def script(code: str, receiver: Collector, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run it to its end, beside a spec that traces."""
    (folder / "mahavishnu.yaml").write_text(
        "mahavishnu: 1\nservice: {name: shop, app: a:b}\ndependencies: {stripe: {timeout: 1s}}\n"
        f"observability: {{traces: {{otlp: '{receiver.url}'}}}}\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )


def test_a_script_traces_with_spans_of_its_own(receiver: Collector, tmp_path: Path) -> None:
    """By OpenTelemetry's own interface, around and inside of ours; what waits at its end is sent."""
    ended = script(SCRIPT, receiver, tmp_path)
    assert ended.returncode == 0, ended.stderr
    spans = {one.span_id: one for one in receiver.spans()}
    above = sorted((one.name, getattr(spans.get(one.parent_span_id), "name", "")) for one in spans.values())
    assert above == [
        ("own around", ""),
        ("own inside", "stripe"),
        ("own inside", "stripe"),
        ("stripe", ""),
        ("stripe", "own around"),
    ]
    assert len({one.trace_id for one in spans.values()}) == 2


SERVER = """
import contextlib
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient
from mahavishnu.asgi import Hardening

own, tracer = InMemorySpanExporter(), trace.get_tracer("own")

@contextlib.asynccontextmanager
async def life(app):
    if OWN:
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(own))
        trace.set_tracer_provider(provider)
    yield

async def handler(request):
    with tracer.start_as_current_span("own"):
        return Response()

app = Starlette(routes=[Route("/", handler)], middleware=[Middleware(Hardening)], lifespan=life)
with TestClient(app) as client:
    client.get("/")
print(*(span.name for span in own.get_finished_spans()))
"""


@pytest.mark.parametrize("own", [True, False])
def test_an_app_may_set_a_provider_of_its_own_while_it_starts(
    receiver: Collector, tmp_path: Path, own: bool
) -> None:
    """Then its own spans are its own to send; else they are ours."""
    ended = script(SERVER.replace("OWN", str(own)), receiver, tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "Overriding" not in ended.stderr
    assert ended.stdout.splitlines()[-1] == ("own" if own else "")
    assert {one.name for one in receiver.spans()} == {"GET /", *([] if own else ["own"])}


def test_a_server_that_tells_nothing_of_its_start_makes_the_apps_spans_from_its_first_request(
    receiver: Collector, tmp_path: Path
) -> None:
    """As uvicorn with `--lifespan off`."""
    code = SERVER.replace("OWN", "True").replace(
        "with TestClient(app) as client:", "if client := TestClient(app):"
    )
    ended = script(code, receiver, tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert {one.name for one in receiver.spans()} == {"GET /", "own"}


FORKS = f"""
import os, sys
from mahavishnu import dependency
from opentelemetry import trace
stripe = dependency("stripe")
for _ in range({ROOM}):
    with stripe:
        pass
child = os.fork()
if child == 0:
    trace.get_tracer("own").start_span("child").end()
    sys.exit()
os.waitpid(child, 0)
"""


def test_a_fork_sends_its_own(receiver: Collector, tmp_path: Path) -> None:
    """What waits is its parent's: it is sent once, and takes no room of the child's."""
    receiver.delay = 0.5  # nothing is taken before it begins
    ended = script(FORKS, receiver, tmp_path)
    assert ended.returncode == 0, ended.stderr
    spans = receiver.spans()
    assert "child" in {one.name for one in spans}
    assert len({one.span_id for one in spans}) == len(spans) > 512


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    """At the start, and how to get it; without traces no package is needed, nor loaded."""
    assert "pip install 'mahavishnu[otel]'" in without_opentelemetry(tmp_path, "traces")


async def test_without_traces_nothing_is_made_nor_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request takes the very way it takes where nobody has thought of them."""
    monkeypatch.setattr("mahavishnu.asgi.TracedEdition", None)
    monkeypatch.setattr("mahavishnu.runtime.service.TracedLog", None)
    monkeypatch.setattr("mahavishnu.runtime.service.NotedMeter", None)
    seen: list[Any] = []

    async def handler(request: Request) -> Response:
        seen.append(current_request())
        return Response()

    async with served(harden(site(Route("/", handler)), spec_of(dependencies={"stripe": {}}))) as house:
        await house.call()
        assert not any("spans" in name for name in house.samples())
        guard = house.app.service.dependencies["stripe"]
        assert (guard.calls, guard.requests, guard.stands_by, guard.tracing) == (Call, Call, False, None)
    assert not hasattr(seen[0], "trace")
