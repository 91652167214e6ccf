"""A collector: takes what is pushed to it by OTLP over HTTP, or does not, as a test says."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from mahavishnu.testing import VirtualClock


class Exporting(VirtualClock):
    """A time of a test's own in which collectors are told all the same."""

    runs = True


@dataclass
class Collector:
    """What it was sent, and how it answers: a status, headers, a body, and after so many seconds."""

    url: str
    traced: list[ExportTraceServiceRequest] = field(default_factory=list[ExportTraceServiceRequest])
    pushed: list[ExportMetricsServiceRequest] = field(default_factory=list[ExportMetricsServiceRequest])
    paths: list[str] = field(default_factory=list[str])
    headers: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    status: int = 200
    said: dict[str, str] = field(default_factory=dict[str, str])
    body: bytes = ExportMetricsServiceResponse().SerializeToString()
    delay: float = 0
    open: threading.Event = field(default_factory=threading.Event)
    """Where it is not set, nothing is answered yet."""

    def spans(self) -> list[Any]:
        """All spans that it was sent, in the order in which they ended."""
        return [
            span
            for one in self.traced
            for resource in one.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def samples(self, push: int = -1) -> dict[str, float]:
        """One push as Prometheus would show it: names with sorted labels, buckets cumulative."""
        found: dict[str, float] = {}
        for metric in self.metrics(push):
            for point in (*metric.sum.data_points, *metric.gauge.data_points):
                found[_name(metric.name, point)] = point.as_double
            for point in metric.histogram.data_points:
                bounds = [*(str(bound) for bound in point.explicit_bounds), "+Inf"]
                running = 0
                for bound, count in zip(bounds, point.bucket_counts, strict=True):
                    running += count
                    found[_name(metric.name + "_bucket", point, le=bound)] = running
                found[_name(metric.name + "_count", point)] = point.count
                found[_name(metric.name + "_sum", point)] = point.sum
        return found

    def metrics(self, push: int = -1) -> list[Any]:
        """The metrics of one push."""
        return list(self.pushed[push].resource_metrics[0].scope_metrics[0].metrics)

    def resource(self, push: int = -1) -> dict[str, str]:
        """Who it says that it is."""
        attributes = self.pushed[push].resource_metrics[0].resource.attributes
        return {one.key: one.value.string_value for one in attributes}


def _name(name: str, point: Any, **more: str) -> str:
    labels = {one.key: one.value.string_value for one in point.attributes} | more
    return f"{name}{{{','.join(f'{key}={value}' for key, value in sorted(labels.items()))}}}"


@contextmanager
def collector() -> Generator[Collector]:
    """One that listens."""
    made = Collector("")
    made.open.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            time.sleep(made.delay)
            made.open.wait(60)
            body = self.rfile.read(int(self.headers["content-length"]))
            made.paths.append(self.path)
            made.headers.append(dict(self.headers.items()))
            if self.path.endswith("/v1/traces"):
                made.traced.append(ExportTraceServiceRequest.FromString(body))
            elif self.headers["content-type"] == "application/x-protobuf":
                made.pushed.append(ExportMetricsServiceRequest.FromString(body))
            self.send_response(made.status)
            for key, value in made.said.items():
                self.send_header(key, value)
            self.send_header("content-length", str(len(made.body)))
            self.end_headers()
            self.wfile.write(made.body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its own name
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def dripping(drops: int = 400, every: float = 0.02) -> Generator[str]:
    """The URL of one that answers with so many bytes of a head, a byte each time, and then hangs up."""
    answer, over = b"HTTP/1.1 200 OK\r\nx-slow: " + b"a" * drops, threading.Event()

    def serve() -> None:
        while not over.is_set():
            with suppress(OSError), listening.accept()[0] as connection:
                connection.recv(1000)
                for one in answer[:drops]:
                    if over.wait(every):
                        break
                    connection.sendall(bytes((one,)))

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            over.set()
            socket.create_connection(listening.getsockname()).close()
            thread.join()
