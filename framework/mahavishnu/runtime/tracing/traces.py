"""The spans of a process, by OpenTelemetry: what it was asked, whom it called for that, what its policies did."""

from __future__ import annotations

import atexit
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from random import SystemRandom
from typing import Protocol

from opentelemetry import trace
from opentelemetry.context import Context, attach, get_current
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ParentBased, Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import Link, NoOpTracer, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import Attributes

from mahavishnu.events import SPANS_NOT_EXPORTED
from mahavishnu.protocols import Clock
from mahavishnu.runtime.spans import Facts, Ids
from mahavishnu.runtime.telemetry.collector import aside
from mahavishnu.runtime.telemetry.logs import Log
from mahavishnu.runtime.telemetry.outbox import Outbox
from mahavishnu.spec import Traces
from mahavishnu.units import Percent

Headers = Sequence[tuple[bytes, bytes]]
_NAME = "mahavishnu"
_LONGEST = 512
_VALUE = 4096  # characters of one attribute
_NOWHERE = Context()
_PROPAGATOR = TraceContextTextMapPropagator()
_RANDOM = SystemRandom()


class Host(Protocol):
    """Whose spans are made: what it has of time and of a log, and how it counts them."""

    @property
    def clock(self) -> Clock: ...
    @property
    def log(self) -> Log: ...
    def count_spans(self, outcome: str, count: int) -> None: ...


class Tracing:
    """Makes the spans of a process, and sends those of the traces that are kept.

    Until it is started spans are nothing. What requests bring of a trace is believed where a trusted proxy hands it
    over; of all others the new trace has a link to it.
    """

    def __init__(self, settings: Traces, name: str) -> None:
        self._sampler = _Share(settings.sample)
        self._url = settings.otlp
        self._name = name
        self._tracer: Tracer = NoOpTracer()
        self._made: TracerProvider | None = None
        self._outbox: Outbox | None = None
        self._host: Callable[[], Host] | None = None

    def become(self, settings: Traces) -> None:
        """From now on keep as many traces as this says."""
        self._sampler.become(settings.sample)

    def start(self, host: Callable[[], Host], instance: str) -> None:
        """Make and send spans from now on, in this process, which is called so; `host` is the one at work.

        What still waits when the interpreter ends is sent then. In a test's own time they are made, but sent to nobody.
        """
        self._host = host
        if not host().clock.runs:
            self._tracer = self._provider(instance).get_tracer(_NAME)
            return
        if self._outbox is None:
            self._outbox = Outbox(self._url, self._count, self._tell)
            self._made = self._provider(instance)
            self._made.add_span_processor(self._outbox)
            self._tracer = self._made.get_tracer(_NAME)
            atexit.register(self._outbox.close)
        self._outbox.open()

    def adopt(self) -> None:
        """From now on make the app's own spans, too, unless it has set a provider for them by now: it cannot later."""
        if self._made is not None and isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            trace.set_tracer_provider(self._made)

    async def flush(self) -> None:
        """Send what waits, or give up soon: the process has little time to end."""
        if self._outbox is None:
            return
        try:
            await aside(self._outbox.close)
        except Exception as fault:  # noqa: BLE001 - whatever it is, the process ends
            self._tell(type(fault).__name__)

    def request(self, name: str, facts: Facts, headers: Headers, *, trusted: bool) -> Trace:
        """The span of a request that begins, with these headers."""
        claimed = _claimed(headers, trusted)
        links = () if claimed is None or trusted else (Link(claimed),)
        parent = _NOWHERE
        if claimed is not None and trusted:
            parent = trace.set_span_in_context(trace.NonRecordingSpan(claimed), _NOWHERE)
        return Trace(self._tracer.start_span(name, parent, SpanKind.SERVER, facts, links), _NOWHERE)

    def call(self, name: str, facts: Facts, *, client: bool) -> Trace:
        """The span of a call that begins, inside the one that is current; `client`: it is an HTTP request."""
        here = get_current()
        kind = SpanKind.CLIENT if client else SpanKind.INTERNAL
        return Trace(self._tracer.start_span(name, here, kind, facts), here)

    def note(self, name: str, facts: Facts) -> None:
        """An event on the span that is current, the app's own ones included; a span of its own where there is none."""
        span = trace.get_current_span()
        if span.get_span_context().is_valid:
            span.add_event(name, facts)
        else:
            self._tracer.start_span(name, attributes=facts).end()

    def tell(self, facts: Facts) -> None:
        """Say more of the span that is current."""
        trace.get_current_span().set_attributes(dict(facts))

    def ids(self) -> Ids | None:
        """Those of the span that is current."""
        return _ids(trace.get_current_span())

    def carry(self, headers: MutableMapping[str, str]) -> None:
        """Tell whom is called of the span that is current."""
        _PROPAGATOR.inject(headers)

    def _provider(self, instance: str) -> TracerProvider:
        return TracerProvider(
            sampler=self._sampler,
            resource=Resource.create({"service.name": self._name, "service.instance.id": instance}),
            id_generator=_Random(),
            span_limits=SpanLimits(max_attribute_length=_VALUE),
            shutdown_on_exit=False,
        )

    def _count(self, outcome: str, count: int) -> None:
        if self._host is not None and count:
            self._host().count_spans(outcome, count)

    def _tell(self, reason: str) -> None:
        if self._host is None:
            return
        log = self._host().log
        if reason:
            log.warning(SPANS_NOT_EXPORTED, reason=reason, to=self._url)
        else:
            log.info("spans exported again")


class Trace:
    """One span of ours, and the context in which it is the current one."""

    __slots__ = ("_context", "_span", "ids")

    def __init__(self, span: trace.Span, around: Context) -> None:
        self._span = span
        self._context = trace.set_span_in_context(span, around)
        self.ids = _ids(span)

    def enter(self) -> Context:
        """What follows is inside; what was current before."""
        before = get_current()
        attach(self._context)
        return before

    def leave(self, before: Context) -> None:
        """What follows is not; in a context that it is not current in nothing changes."""
        if self.around(get_current()):
            attach(before)

    def around(self, context: Context) -> bool:
        """Whether it is the current one there."""
        return trace.get_current_span(context) is self._span

    def event(self, name: str, facts: Facts, at: int | None = None) -> None:
        """Something has happened, at this time (ns since 1970; None: now)."""
        self._span.add_event(name, facts, at)

    def end(self, facts: Facts, error: str = "", took: int | None = None) -> None:
        """It is over, after so many ns (None: now); `error` is what kind of, where it has failed."""
        self._span.set_attributes(dict(facts))
        if error:
            self._span.set_attribute("error.type", error)
            self._span.set_status(Status(StatusCode.ERROR))
        began: int | None = getattr(self._span, "start_time", None)  # one that nobody keeps has none
        self._span.end(None if took is None or began is None else began + took)


class _Share(Sampler):
    """Keeps a share of the traces that begin here, told by their ids; others as was decided where they began."""

    def __init__(self, share: Percent) -> None:
        self.become(share)

    def become(self, share: Percent) -> None:
        self._inside = ParentBased(TraceIdRatioBased(float(share.ratio)))

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: trace.TraceState | None = None,
    ) -> SamplingResult:
        return self._inside.should_sample(
            parent_context, trace_id, name, kind, attributes, links, trace_state
        )

    def get_description(self) -> str:
        return "what `observability.traces.sample` says"


class _Random(IdGenerator):
    """From the system's own randomness: an app may seed Python's, and workers then share what it draws."""

    def generate_span_id(self) -> int:
        return _RANDOM.getrandbits(64) or 1

    def generate_trace_id(self) -> int:
        return _RANDOM.getrandbits(128) or 1

    def is_trace_id_random(self) -> bool:
        """Whether it may say so (W3C Trace Context, level 2)."""
        return True


def _ids(span: trace.Span) -> Ids | None:
    said = span.get_span_context()
    if not said.is_valid:
        return None
    return Ids(
        trace.format_trace_id(said.trace_id), trace.format_span_id(said.span_id), said.trace_flags.sampled
    )


def _claimed(headers: Headers, trusted: bool) -> trace.SpanContext | None:
    """The span that a request says it comes from; None where it says none, or nothing that can be read."""
    parents = [value for name, value in headers if name == b"traceparent"]
    if len(parents) != 1 or len(parents[0]) > _LONGEST:
        return None
    carrier = {"traceparent": parents[0].decode("latin-1")}
    if trusted:
        carrier |= _state(value for name, value in headers if name == b"tracestate")
    found = trace.get_current_span(_PROPAGATOR.extract(carrier, _NOWHERE)).get_span_context()
    return found if found.is_valid else None


def _state(said: Iterable[bytes]) -> Mapping[str, str]:
    """What vendors say beside it, unless it is more than they may."""
    text = b",".join(said).decode("latin-1")
    return {"tracestate": text} if text and len(text) <= _LONGEST else {}
