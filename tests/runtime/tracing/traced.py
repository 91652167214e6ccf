"""A traced house: what it is asked, and what a collector gets of it."""

from __future__ import annotations

from typing import Any

from opentelemetry import trace
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from mahavishnu.spec import Spec
from tests.otlp_receiver import Collector, Exporting
from tests.runtime.asgi_client import House, harden, run, spec_of
from tests.runtime.telemetry.test_otlp import served

NOTHING: dict[str, Any] = {}
"""A request that is nothing special."""


def tracing(url: str, sample: str = "100%", **more: Any) -> Spec:
    """A spec that traces there."""
    return spec_of(observability={"traces": {"otlp": url, "sample": sample}, **more.pop("shown", {})}, **more)


def facts(one: Any) -> dict[str, Any]:
    """The attributes of a span, a link or an event."""
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in one.attributes}


def events(span: Span) -> list[tuple[str, dict[str, Any]]]:
    """What happened in it, in order."""
    return [(one.name, facts(one)) for one in span.events]


def outcomes(house: House) -> tuple[float, float, float]:
    """How many spans were exported, failed and dropped."""
    shown, name = house.samples(), "mahavishnu_spans_total{{outcome={}}}"
    return shown[name.format("exported")], shown[name.format("failed")], shown[name.format("dropped")]


def exchanged(receiver: Collector, app: Any, spec: Spec, *asked: dict[str, Any]) -> House:
    """Ask for all of that, and end."""

    async def scenario() -> House:
        async with served(harden(app, spec, clock=Exporting())) as house:
            for one in asked:
                await house.call(**one)
        return house

    house: House = run(scenario())
    return house


def current() -> tuple[str, str]:
    """The ids of the span that is current."""
    said = trace.get_current_span().get_span_context()
    return trace.format_trace_id(said.trace_id), trace.format_span_id(said.span_id)
