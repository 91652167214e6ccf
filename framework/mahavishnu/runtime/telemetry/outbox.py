"""Spans on their way to a collector: so many may wait, each is taken or given up, and nobody waits for it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from random import SystemRandom

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from mahavishnu.runtime.telemetry.collector import LAST, Failure, begun, post, refused
from mahavishnu.units import SECOND

ROOM = 2048
"""So many spans may wait, those included that are being sent; further ones are dropped."""
_BATCH = 512
_EVERY = 1000  # ms
_PATH = "/v1/traces"
_PATIENCE = 3.0  # seconds, for each try
_LATE = "no time is left"
_PAUSES = (1.0, 2.0, 4.0)
_CHANCE = SystemRandom()


class Outbox(SpanProcessor):
    """What waits to be sent to the collector at `url`; a thread of OpenTelemetry's sends it, a second later.

    `count` is called with `exported`, `failed` or `dropped` and how many; `tell` with the reason when a collector
    begins to take nothing, and with an empty one when it takes spans again.
    """

    def __init__(self, url: str, count: Callable[[str, int], object], tell: Callable[[str], object]) -> None:
        self._url, self._count, self._tell = url, count, tell
        self._sender: _Sender | None = None
        self._batches: BatchSpanProcessor | None = None
        self._taken = 0
        self._process = 0

    def open(self) -> None:
        """Take spans from now on, in this process."""
        if self._batches is None:
            sender = self._sender = _Sender(self._url, self._count, self._tell)
            self._begin()
            # Larger than what is let in, so that it drops nothing by itself.
            self._batches = BatchSpanProcessor(sender, 2 * ROOM, _EVERY, _BATCH)

    def close(self) -> None:
        """Send what waits, and take no more; a collector is waited for LAST in all, whatever it does, and no longer."""
        (batches, self._batches), sender = (self._batches, None), self._sender
        if batches is not None and sender is not None:
            sender.hurry()
            # By itself it waits for half a minute.
            if (ending := begun(batches.shutdown)) is not None:
                ending.join(LAST / SECOND)
                if ending.is_alive():
                    sender.give_up(self._taken)

    def on_end(self, span: ReadableSpan) -> None:
        """One more, if its trace is kept."""
        if span.context is None or not span.context.trace_flags.sampled:
            return
        batches, sender = self._batches, self._sender
        if self._process != os.getpid():  # a fork: what waits is its parent's
            self._begin()
        if batches is None or sender is None or self._taken - sender.done >= ROOM:
            self._count("dropped", 1)
            return
        self._taken += 1
        batches.on_end(span)

    def shutdown(self) -> None:
        """As `close`."""
        self.close()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Send what waits now."""
        batches = self._batches
        return batches is None or batches.force_flush(timeout_millis)

    def _begin(self) -> None:
        self._process = os.getpid()
        self._taken = 0 if self._sender is None else self._sender.done


class _Sender(SpanExporter):
    """Sends a batch, and four times at the most: a collector that is being replaced is back in seconds."""

    def __init__(self, url: str, count: Callable[[str, int], object], tell: Callable[[str], object]) -> None:
        self._url, self._count, self._tell = url, count, tell
        self._ending = threading.Event()
        self._until: float | None = None
        self._well = True
        self._over = False
        self.done = 0

    def hurry(self) -> None:
        """From now on wait for nothing, and in all a few seconds at the most."""
        self._until = time.monotonic() + LAST / SECOND
        self._ending.set()

    def give_up(self, taken: int) -> None:
        """Of so many spans those are lost that are not done by now, however that goes on."""
        self._over = True
        self._count("failed", taken - self.done)
        self._said(Failure(_LATE))

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send them; nothing is raised."""
        lost = len(spans)
        try:
            lost -= self._exported(spans)
        except Exception as fault:  # noqa: BLE001 - whatever it is, the next batch is sent
            self._said(Failure(type(fault).__name__))
        if not self._over:
            self._count("failed", lost)
            self._count("exported", len(spans) - lost)
            self.done += len(spans)
        return SpanExportResult.FAILURE if lost else SpanExportResult.SUCCESS

    def _exported(self, spans: Sequence[ReadableSpan]) -> int:
        """How many of them the collector has taken."""
        good, body = _encoded(spans)
        answer = self._asked(body)
        if isinstance(answer, Failure):
            self._said(answer)
            return 0
        partial = _partial(answer)
        rejected = min(int(partial.rejected_spans), good)
        self._said(refused(rejected, "spans", partial.error_message) if rejected else None)
        return good - rejected

    def _asked(self, body: bytes) -> bytes | Failure:
        for pause in _PAUSES:
            answer = self._posted(body)
            if not isinstance(answer, Failure) or answer.final or self._ending.is_set():
                return answer
            self._said(answer)
            self._ending.wait(max(answer.after, _CHANCE.uniform(0.5, 1) * pause))
        return self._posted(body)

    def _posted(self, body: bytes) -> bytes | Failure:
        left = _PATIENCE if self._until is None else min(_PATIENCE, self._until - time.monotonic())
        return Failure(_LATE) if left <= 0 else post(self._url, _PATH, body, left)

    def _said(self, failure: Failure | None) -> None:
        if self._well is not (failure is None):
            self._tell("" if failure is None else failure.reason)
        self._well = failure is None


def _encoded(spans: Sequence[ReadableSpan]) -> tuple[int, bytes]:
    """Them as bytes, and how many: what the app's own code has put into one may have none, like half a character."""
    try:
        return len(spans), _bytes(spans)
    except Exception:  # noqa: BLE001 - whatever the encoder stumbles over
        good = [one for one in spans if _encodable(one)]
        return len(good), _bytes(good)


def _encodable(span: ReadableSpan) -> bool:
    try:
        _bytes((span,))
    except Exception:  # noqa: BLE001 - ditto
        return False
    return True


def _bytes(spans: Iterable[ReadableSpan]) -> bytes:
    return bytes(encode_spans([*spans]).SerializeToString())


def _partial(answer: bytes) -> ExportTracePartialSuccess:
    said = ExportTraceServiceResponse()
    with suppress(Exception):  # protobuf's own error; a collector that says nothing of the kind has taken all
        said.ParseFromString(answer)
    return said.partial_success
