"""Spans of requests, as a collector gets them: what, in whose trace, and no more; their ids in lines and series."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from io import StringIO
from pathlib import Path
from typing import Any, cast

import pytest
from opentelemetry import trace
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from prometheus_client.openmetrics import parser as openmetrics
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from mahavishnu import dependency
from mahavishnu.asgi import Hardening
from mahavishnu.series import EXEMPLIFIED
from tests.otlp_receiver import Collector, Exporting
from tests.runtime.asgi_client import House, handshake, harden, ok, run, site
from tests.runtime.telemetry.test_otlp import served
from tests.runtime.tracing.traced import NOTHING, current, events, exchanged, facts, outcomes, tracing

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
PROXY = "10.0.0.1"
TRUSTS = {"trusted_proxies": ["10.0.0.0/8"]}


# --- of requests -----------------------------------------------------------------------------------


def test_a_request_has_a_span_by_the_semantic_conventions(receiver: Collector) -> None:
    """And what it says is no more than the log does: no query, header, body or secret."""
    app = site(Route("/orders/{id}", ok, methods=["GET"]))
    asked = {
        "path": "/orders/7",
        "headers": {"authorization": "Bearer hush", "x-any": "hush", "user-agent": "hush"},
        "query_string": b"token=hush",
    }
    house = exchanged(receiver, app, tracing(receiver.url), asked)
    (span,) = receiver.spans()
    assert span.name == "GET /orders/{id}"
    assert span.kind == Span.SPAN_KIND_SERVER
    assert facts(span) == {
        "http.request.method": "GET",
        "http.route": "/orders/{id}",
        "url.scheme": "http",
        "url.path": "/orders/7",
        "client.address": "203.0.113.1",
        "http.response.status_code": 200,
        "mahavishnu.request_id": house.lines[-1]["request_id"],
    }
    assert span.status.code == Status.STATUS_CODE_UNSET
    assert span.start_time_unix_nano <= span.end_time_unix_nano
    assert (span.parent_span_id, list(span.links)) == (b"", [])
    (sent,) = receiver.traced
    assert b"hush" not in sent.SerializeToString()
    resource = facts(sent.resource_spans[0].resource)
    assert resource["service.name"] == "shop"
    assert {*receiver.paths} == {"/v1/traces"}


def test_what_is_redacted_in_the_log_is_not_in_the_span(receiver: Collector) -> None:
    shown = {"logs": {"redact": ["path", "client"]}}
    exchanged(receiver, site(), tracing(receiver.url, shown=shown), {})
    (span,) = receiver.spans()
    assert not {"url.path", "client.address"} & facts(span).keys()


async def _broken(request: Request) -> Response:
    raise ZeroDivisionError("hush")


async def _unavailable(request: Request) -> Response:
    raise HTTPException(503)


async def _left(request: Request) -> Response:
    async def parts() -> AsyncIterator[bytes]:
        yield b"half"
        raise ClientDisconnect

    return StreamingResponse(parts())


async def _teapot(request: Request) -> Response:
    return PlainTextResponse("", 418)


@pytest.mark.parametrize(
    ("handler", "status", "error"),
    [
        (_broken, 500, "ZeroDivisionError"),
        (_unavailable, 503, "503"),
        (_teapot, 418, None),
        (_left, 200, None),
    ],
)
async def test_only_a_failure_of_the_server_is_an_error(
    receiver: Collector, handler: Any, status: int, error: str | None
) -> None:
    """By its kind: never its words."""
    async with served(harden(site(Route("/", handler)), tracing(receiver.url), clock=Exporting())) as house:
        if handler in (_broken, _left):
            with pytest.raises((ZeroDivisionError, ClientDisconnect)):
                await house.call()
        else:
            await house.call()
    (span,) = receiver.spans()
    assert facts(span)["http.response.status_code"] == status
    assert facts(span).get("error.type") == error
    assert (span.status.code == Status.STATUS_CODE_ERROR) is (error is not None)
    assert b"hush" not in receiver.traced[0].SerializeToString()


def test_names_are_bounded_whatever_clients_invent(receiver: Collector) -> None:
    asked = [{"path": "/nowhere/1"}, {"method": "BREW", "path": "/nowhere/2"}, {"method": "BREW"}]
    exchanged(receiver, site(), tracing(receiver.url), *asked)
    names = [(one.name, facts(one)["http.request.method"]) for one in receiver.spans()]
    assert names == [("GET", "GET"), ("HTTP", "_OTHER"), ("HTTP /", "_OTHER")]


async def test_a_client_that_is_gone_is_no_failure(receiver: Collector) -> None:
    async def hangs(request: Request) -> Response:
        await asyncio.sleep(3600)
        return Response()

    async with served(harden(site(Route("/", hangs)), tracing(receiver.url), clock=Exporting())) as house:
        asked = asyncio.create_task(house.call())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
    (span,) = receiver.spans()
    assert facts(span)["http.response.status_code"] == 499
    assert span.status.code == Status.STATUS_CODE_UNSET


def test_a_websocket_has_a_span_from_its_handshake_to_its_end(receiver: Collector) -> None:
    """One that is refused, and one whose handler fails, too; what is inside of it is, and its line has its ids."""
    seen: list[tuple[str, str]] = []

    async def socket(websocket: WebSocket) -> None:
        seen.append(current())
        await websocket.accept()
        if len(seen) == 2:
            raise ValueError("hush")

    async def scenario() -> House:
        spec = tracing(receiver.url, limits={"few": {"rate": "2/minute"}})
        async with served(harden(site(WebSocketRoute("/ws/{id}", socket)), spec, clock=Exporting())) as house:
            await handshake(house.app, "/ws/7", client="2001:db8::1")
            with pytest.raises(ValueError, match="hush"):
                await handshake(house.app, "/ws/7", client="2001:db8::1")
            await handshake(house.app, "/ws/7", client="2001:db8::1")
        return house

    house = run(scenario())
    lines = [line for line in house.lines if line["event"] == "websocket"]
    good, failed, refused = receiver.spans()
    assert (good.name, good.kind) == ("GET /ws/{id}", Span.SPAN_KIND_SERVER)
    assert facts(good) == {
        "http.request.method": "GET",
        "http.route": "/ws/{id}",
        "url.scheme": "http",
        "url.path": "/ws/7",
        "client.address": lines[0]["client"],
        "mahavishnu.request_id": facts(good)["mahavishnu.request_id"],
    }
    assert len({facts(one)["mahavishnu.request_id"] for one in (good, failed, refused)}) == 3
    ids = [(one.trace_id.hex(), one.span_id.hex()) for one in (good, failed, refused)]
    assert [(line["trace_id"], line["span_id"]) for line in lines] == ids
    assert seen == ids[:2]
    assert (good.status.code, failed.status.code) == (Status.STATUS_CODE_UNSET, Status.STATUS_CODE_ERROR)
    assert facts(failed)["error.type"] == "ValueError"
    ((name, told),) = events(refused)
    assert (name, told["mahavishnu.limit"]) == ("mahavishnu.limit.refused", "few")
    assert b"hush" not in b"".join(one.SerializeToString() for one in receiver.traced)
    assert current() == ("0" * 32, "0" * 16)


def test_what_the_middleware_answers_itself_has_none(receiver: Collector) -> None:
    """Scrapes and probes would be most of all spans."""
    exchanged(receiver, site(), tracing(receiver.url), {"path": "/metrics"}, {"path": "/healthz"})
    assert receiver.spans() == []


# --- whose trace it is -----------------------------------------------------------------------------


async def test_a_span_ends_with_the_response(receiver: Collector) -> None:
    """What the app does after it is nobody's latency."""
    clock = Exporting()

    async def later(request: Request) -> Response:
        clock.advance("100ms")
        return PlainTextResponse("ok", background=BackgroundTask(clock.advance, "30s"))

    async with served(harden(site(Route("/", later)), tracing(receiver.url), clock=clock)) as house:
        assert await house.status() == 200
    assert clock.now() >= 30 * 10**9
    (span,) = receiver.spans()
    assert span.end_time_unix_nano - span.start_time_unix_nano == 10**8


def test_a_trusted_proxy_says_which_trace_a_request_belongs_to(receiver: Collector) -> None:
    asked = {"client": PROXY, "headers": {"traceparent": PARENT, "tracestate": "vendor=1"}}
    exchanged(receiver, site(), tracing(receiver.url, service=TRUSTS), asked)
    (span,) = receiver.spans()
    assert span.trace_id.hex() == PARENT[3:35]
    assert span.parent_span_id.hex() == PARENT[36:52]
    assert span.trace_state == "vendor=1"
    assert list(span.links) == []


def test_of_anybody_else_it_is_a_link(receiver: Collector) -> None:
    """A client cannot put its requests into a trace of its choice, nor make us keep it."""
    asked = {"headers": {"traceparent": PARENT, "tracestate": "vendor=1"}}
    exchanged(receiver, site(), tracing(receiver.url, service=TRUSTS), asked)
    exchanged(receiver, site(), tracing(receiver.url, "0.0001%", service=TRUSTS), asked)
    (span,) = receiver.spans()
    assert span.trace_id.hex() != PARENT[3:35]
    assert (span.parent_span_id, span.trace_state) == (b"", "")
    (link,) = span.links
    assert (link.trace_id.hex(), link.span_id.hex()) == (PARENT[3:35], PARENT[36:52])


@pytest.mark.parametrize(
    ("client", "parent", "kept"),
    [
        (PROXY, PARENT, True),
        (PROXY, PARENT[:-1] + "0", False),
        ("203.0.113.1", PARENT, False),
        (PROXY, None, False),
    ],
)
def test_the_proxys_decision_is_kept_to(
    receiver: Collector, client: str, parent: str | None, kept: bool
) -> None:
    """Nothing that begins here is kept at next to 0 %; where a trusted proxy has decided, that holds."""
    headers = {} if parent is None else {"traceparent": parent}
    asked = {"client": client, "headers": headers}
    exchanged(receiver, site(), tracing(receiver.url, "0.0001%", service=TRUSTS), asked)
    assert bool(receiver.spans()) is kept


@pytest.mark.parametrize(
    "headers",
    [
        [("traceparent", "")],
        [("traceparent", PARENT[:-3])],
        [("traceparent", PARENT.replace("0af", "xyz"))],
        [("traceparent", "00-" + "0" * 32 + PARENT[35:])],
        [("traceparent", PARENT), ("traceparent", PARENT)],
        [("traceparent", PARENT + "-" + "x" * 600)],
        [("traceparent", "\xff" * 55)],
    ],
)
@pytest.mark.parametrize("client", [PROXY, "203.0.113.1"])
def test_what_cannot_be_read_begins_a_trace(
    receiver: Collector, client: str, headers: list[tuple[str, str]]
) -> None:
    exchanged(receiver, site(), tracing(receiver.url, service=TRUSTS), {"client": client, "headers": headers})
    (span,) = receiver.spans()
    assert (span.parent_span_id, list(span.links)) == (b"", [])


@pytest.mark.parametrize(("members", "length"), [(3, 200), (40, 1)])
def test_a_state_that_is_too_much_is_left_out(receiver: Collector, members: int, length: int) -> None:
    state = ",".join(f"k{one}={'y' * length}" for one in range(members))
    asked = {"client": PROXY, "headers": {"traceparent": PARENT, "tracestate": state}}
    exchanged(receiver, site(), tracing(receiver.url, service=TRUSTS), asked)
    (span,) = receiver.spans()
    assert (span.trace_id.hex(), span.trace_state) == (PARENT[3:35], "")


def test_a_share_is_kept(receiver: Collector) -> None:
    """A quarter of 400 is 100, and chance: 5 sigma are 43. All have ids in the log."""
    house = exchanged(receiver, site(), tracing(receiver.url, "25%"), *[NOTHING] * 400)
    assert 57 <= len(receiver.spans()) <= 143
    assert len({line["trace_id"] for line in house.lines}) == 400


async def test_a_reload_changes_the_share_and_nothing_else(receiver: Collector, tmp_path: Path) -> None:
    """Also where it begins: another collector needs a restart."""
    path = tmp_path / "mahavishnu.yaml"

    def write(url: str, sample: str) -> None:
        shown = f"observability: {{traces: {{otlp: '{url}', sample: {sample}}}}}"
        path.write_text(f"mahavishnu: 1\nservice: {{name: shop, app: a:b}}\n{shown}\n")

    write(receiver.url, "0.0001%")
    clock, stream = Exporting(), StringIO()
    async with served(House(Hardening(site(), path, clock=clock, log_to=stream), clock, stream)) as house:
        await house.call()
        write(receiver.url, "100%")
        await house.app.reload()
        await house.call()
        write("http://elsewhere:4318", "0.0001%")
        await house.app.reload()
        await house.call()
    assert outcomes(house) == (2, 0, 0)
    refused = [line for line in house.lines if "traces.otlp" in str(line)]
    assert refused
    assert len(receiver.spans()) == 2


# --- ids in the log and on the series --------------------------------------------------------------


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("sample", ["100%", "0.0001%"])
def test_every_line_of_a_request_has_its_ids(receiver: Collector, form: str, sample: str) -> None:
    """The access line those of the server's span; a line in the midst, those of the span that is current."""
    seen: list[tuple[str, str]] = []

    async def handler(request: Request) -> Response:
        seen.append(current())
        request.app.state.log().info("inside")
        with trace.get_tracer("own").start_as_current_span("own"):
            seen.append(current())
            request.app.state.log().info("deeper")
        return Response()

    async def scenario() -> House:
        app = site(Route("/", handler))
        async with served(
            harden(app, tracing(receiver.url, sample, shown={"logs": {"format": form}}), clock=Exporting())
        ) as house:
            app.state.log = lambda: house.app.service.log
            await house.call()
            house.app.service.log.info("outside")
        return house

    house = run(scenario())
    text = house.stream.getvalue()
    (outer, inner) = seen
    assert outer[0] == inner[0]
    if form == "json":
        lines = {line["event"]: line for line in house.lines}
        ids = {event: (line.get("trace_id"), line.get("span_id")) for event, line in lines.items()}
        assert ids["request"] == ids["inside"] == outer
        assert ids["deeper"] == inner
        assert ids["outside"] == (None, None)
    else:
        assert text.count(f"trace_id={outer[0]}") == 3
        assert text.count(f"span_id={outer[1]}") >= 2
    if sample == "100%":
        assert outer in {(one.trace_id.hex(), one.span_id.hex()) for one in receiver.spans()}
    else:
        assert receiver.spans() == []


async def test_a_histogram_remembers_a_trace_that_is_kept(receiver: Collector) -> None:
    """In OpenMetrics, as its own parser reads it, on the bucket the observation is in; and as it is pushed."""
    metrics = {"metrics": {"otlp": receiver.url, "every": "15s"}}
    spec = tracing(receiver.url, shown=metrics, dependencies={"stripe": {}})

    async def handler(request: Request) -> Response:
        @dependency("stripe")
        async def charge() -> int:
            return 1

        house.clock.advance("30ms")
        await charge()
        return Response()

    async with served(harden(site(Route("/", handler)), spec, clock=Exporting())) as house:
        await house.call()
        house.app.service.process_state.ended.settle()
        answer = await house.call(
            path="/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"}
        )
        plain = await house.call(path="/metrics")
    read = cast("Any", openmetrics).text_string_to_metric_families
    families = {one.name: one for one in read(answer.body.decode())}
    server = _exemplars(families["http_server_request_duration_seconds"])
    client = _exemplars(families["mahavishnu_dependency_duration_seconds"])
    assert {name for name, one in families.items() if _exemplars(one)} == EXEMPLIFIED
    spans = {one.kind: one for one in receiver.spans()}
    one = spans[Span.SPAN_KIND_SERVER]
    assert server == [(0.03, {"trace_id": one.trace_id.hex(), "span_id": one.span_id.hex()})]
    one = spans[Span.SPAN_KIND_INTERNAL]
    assert client == [(0.0, {"trace_id": one.trace_id.hex(), "span_id": one.span_id.hex()})]
    assert b"trace_id" not in plain.body
    pushed = [
        (each.as_double, each.trace_id, each.span_id)
        for metric in receiver.metrics()
        if metric.name == "http_server_request_duration_seconds"
        for point in metric.histogram.data_points
        for each in point.exemplars
    ]
    one = spans[Span.SPAN_KIND_SERVER]
    assert pushed == [(0.03, one.trace_id, one.span_id)]


def _exemplars(family: Any) -> list[tuple[float, dict[str, str]]]:
    for one in family.samples:
        if one.exemplar is not None:
            assert one.exemplar.value <= float(one.labels["le"])
            assert float(one.exemplar.timestamp) > 1.7e9
    return [(one.exemplar.value, one.exemplar.labels) for one in family.samples if one.exemplar is not None]


async def test_what_is_not_kept_is_no_exemplar(receiver: Collector) -> None:
    async def handler(request: Request) -> Response:
        with dependency("stripe"):
            return Response()

    spec = tracing(receiver.url, "0.0001%", dependencies={"stripe": {}})
    async with served(harden(site(Route("/", handler)), spec, clock=Exporting())) as house:
        await house.call()
        house.app.service.process_state.ended.settle()
        answer = await house.call(path="/metrics", headers={"accept": "application/openmetrics-text"})
    assert b"http_server_request_duration_seconds_count" in answer.body
    assert b"mahavishnu_dependency_duration_seconds_count" in answer.body
    assert b"trace_id" not in answer.body
