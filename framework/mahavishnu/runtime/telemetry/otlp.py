"""The series as OpenTelemetry's collector takes them: OTLP over HTTP, in protobuf."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import NamedTuple

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE, ScopeMetrics

from mahavishnu.runtime.telemetry import collector
from mahavishnu.runtime.telemetry.cells import HistogramCell
from mahavishnu.runtime.telemetry.collector import Failure
from mahavishnu.runtime.telemetry.shown import Shown
from mahavishnu.runtime.telemetry.snapshot import LabelValues
from mahavishnu.signals import Signal
from mahavishnu.units import SECOND

_PATH = "/v1/metrics"


class Times(NamedTuple):
    """Since when is counted, and now: ns since 1970."""

    since: int
    now: int


def encoded(shown: Shown, resource: Mapping[str, str], times: Times) -> bytes:
    """One request with all series, under the names they have for Prometheus; totals count since `times.since`."""
    request = ExportMetricsServiceRequest()
    of = request.resource_metrics.add()
    of.resource.attributes.extend(_attributes(resource.items()))
    scope = of.scope_metrics.add()
    scope.scope.name = "mahavishnu"
    for name, counters in shown.counters.items():
        _counter(scope, shown.signal(name), counters, times)
    for name, gauges in shown.gauges.items():
        _gauge(scope, shown.signal(name), gauges, times)
    for name, cells in shown.histograms.items():
        _histogram(scope, shown.signal(name), cells, times)
    return bytes(request.SerializeToString())


def post(url: str, body: bytes, timeout: float) -> Failure | None:
    """Send one request to a collector; None when it has taken all of it. `timeout` is that of `collector.post`."""
    answer = collector.post(url, _PATH, body, timeout)
    return answer if isinstance(answer, Failure) else _judged(answer)


def _judged(answer: bytes) -> Failure | None:
    said = ExportMetricsServiceResponse()
    with suppress(Exception):  # protobuf's own error; a collector that says nothing of the kind has taken all
        said.ParseFromString(answer)
    partial = said.partial_success
    rejected = partial.rejected_data_points
    return collector.refused(rejected, "series", partial.error_message) if rejected else None


def _counter(scope: ScopeMetrics, signal: Signal, cells: Mapping[LabelValues, float], times: Times) -> None:
    total = scope.metrics.add(name=signal.name, description=signal.help).sum
    total.aggregation_temporality = AGGREGATION_TEMPORALITY_CUMULATIVE
    total.is_monotonic = True
    for values, value in cells.items():
        point = total.data_points.add(start_time_unix_nano=times.since, time_unix_nano=times.now)
        point.as_double = value
        point.attributes.extend(_labels(signal, values))


def _gauge(scope: ScopeMetrics, signal: Signal, cells: Mapping[LabelValues, float], times: Times) -> None:
    gauge = scope.metrics.add(name=signal.name, description=signal.help).gauge
    for values, value in cells.items():
        point = gauge.data_points.add(time_unix_nano=times.now, as_double=value)
        point.attributes.extend(_labels(signal, values))


def _histogram(
    scope: ScopeMetrics, signal: Signal, cells: Mapping[LabelValues, HistogramCell], times: Times
) -> None:
    histogram = scope.metrics.add(name=signal.name, description=signal.help).histogram
    histogram.aggregation_temporality = AGGREGATION_TEMPORALITY_CUMULATIVE
    for values, cell in cells.items():
        point = histogram.data_points.add(start_time_unix_nano=times.since, time_unix_nano=times.now)
        point.count, point.sum = sum(cell.counts), cell.sum
        point.bucket_counts.extend(cell.counts)
        point.explicit_bounds.extend(cell.bounds)
        point.attributes.extend(_labels(signal, values))
        for one in (cell.exemplars or {}).values():
            point.exemplars.add(
                time_unix_nano=int(one.at * SECOND),
                as_double=one.value,
                trace_id=bytes.fromhex(one.trace),
                span_id=bytes.fromhex(one.span),
            )


def _labels(signal: Signal, values: LabelValues) -> Iterable[KeyValue]:
    return _attributes(zip((label.name for label in signal.labels), values, strict=True))


def _attributes(pairs: Iterable[tuple[str, str]]) -> Iterable[KeyValue]:
    return (KeyValue(key=key, value=AnyValue(string_value=value)) for key, value in pairs)
