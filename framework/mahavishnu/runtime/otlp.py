"""The series as OpenTelemetry's collector takes them: OTLP over HTTP, in protobuf."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterable, Mapping
from contextlib import suppress
from http.client import HTTPException
from typing import NamedTuple
from urllib.error import HTTPError

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE, ScopeMetrics

from mahavishnu.runtime.cells import HistogramCell
from mahavishnu.runtime.shown import Shown
from mahavishnu.runtime.snapshot import LabelValues
from mahavishnu.signals import Signal

_PATH = "/v1/metrics"
_TYPE = "application/x-protobuf"
_LONGEST = 64 * 1024


class Failure(NamedTuple):
    """Why a collector has not taken the series, and after how many seconds it wants to be asked again."""

    reason: str
    after: float = 0


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


def post(url: str, body: bytes, headers: Mapping[str, str], timeout: float) -> Failure | None:
    """Send one request to a collector; None when it has taken it. Each wait for it ends after so many seconds."""
    place = url.rstrip("/").removesuffix(_PATH) + _PATH
    request = urllib.request.Request(place, body, {**headers, "Content-Type": _TYPE}, method="POST")  # noqa: S310
    try:
        with _OPENER.open(request, timeout=timeout) as answer:
            return _judged(answer.read1(_LONGEST))
    except HTTPError as fault:
        with fault:
            return Failure(f"HTTP {fault.code}", _seconds(fault.headers.get("retry-after", "")))
    except OSError as fault:
        return Failure(str(fault) or type(fault).__name__)
    except (ValueError, HTTPException) as fault:
        return Failure(type(fault).__name__)  # its words may hold a header, which may be a secret


def _judged(answer: bytes) -> Failure | None:
    said = ExportMetricsServiceResponse()
    with suppress(Exception):  # protobuf's own error; a collector that says nothing of the kind has taken all
        said.ParseFromString(answer)
    if said.partial_success.rejected_data_points:
        return Failure(f"{said.partial_success.rejected_data_points} series were rejected")
    return None


def _seconds(said: str) -> float:
    """What `Retry-After` asks for; a date, which collectors do not send, is not waited for."""
    return min(float(said), 300) if said.isascii() and said.isdigit() else 0


def _opener() -> urllib.request.OpenerDirector:
    """What opens URLs and follows no redirect: that would go without the series, but with the headers' secrets."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    return opener


_OPENER = _opener()


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


def _labels(signal: Signal, values: LabelValues) -> Iterable[KeyValue]:
    return _attributes(zip((label.name for label in signal.labels), values, strict=True))


def _attributes(pairs: Iterable[tuple[str, str]]) -> Iterable[KeyValue]:
    return (KeyValue(key=key, value=AnyValue(string_value=value)) for key, value in pairs)
