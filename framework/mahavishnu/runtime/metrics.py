"""The series of the contract as plain cells, shown by prometheus_client when they are scraped."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from math import isnan

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from mahavishnu.signals import AgreementError, Kind, Signal, boundary_text

LabelValues = tuple[str, ...]
Bounds = tuple[float, ...]


class CounterCell:
    """A number that only grows. One addition is one bytecode step, so threads lose no counts under the GIL."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def inc(self, amount: float = 1) -> None:
        self.value += amount

    def read(self) -> float:
        return self.value


class HistogramCell:
    """Observations per bucket, and their sum."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum: float = 0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.sum += seconds

    def observe_least(self, count: int, seconds: float) -> None:
        """So many at once, none beyond the first boundary, which together took so long."""
        self.counts[0] += count
        self.sum += seconds

    def buckets(self, texts: tuple[str, ...]) -> list[tuple[str, float]]:
        """Cumulative counts with the text of their upper bounds."""
        total, rows = 0, list[tuple[str, float]]()
        for text, count in zip((*texts, "+Inf"), self.counts, strict=True):
            total += count
            rows.append((text, float(total)))
        return rows


class Cells:
    """What is counted in a process, by series and label values; it outlives every contract.

    Histograms by their boundaries too: those may change, and no count may be lost.
    """

    def __init__(self) -> None:
        self.counters: dict[str, dict[LabelValues, CounterCell]] = {}
        self.histograms: dict[str, dict[Bounds, dict[LabelValues, HistogramCell]]] = {}
        self.settle: Callable[[], object] = _nothing
        """Called before anything is shown: counts what has happened and was not counted yet."""


class Metrics(Collector):
    """The Meter of a process: it knows the signals of the contract and refuses every other one.

    The one of a new contract takes over the cells `before` it: what it shows again goes on from there.
    """

    def __init__(self, signals: Mapping[str, Signal], before: Metrics | None = None) -> None:
        self._signals = signals
        self.cells: Cells = before.cells if before else Cells()
        self._counter_reads: dict[str, dict[LabelValues, Callable[[], float]]] = {}
        self._gauges: dict[str, dict[LabelValues, Callable[[], float]]] = {}
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def counter(self, signal: Signal, **labels: str) -> CounterCell:
        """The cell of a counter for these label values; raises AgreementError outside the contract."""
        shown = self._shown(signal, Kind.COUNTER)
        cells = self.cells.counters.setdefault(shown.name, {})
        values = _values(shown, labels)
        if values not in cells:
            cells[values] = CounterCell()
        self.read_counter(signal, cells[values].read, **labels)
        return cells[values]

    def histogram(self, signal: Signal, **labels: str) -> HistogramCell:
        """The cell of a histogram for these label values; raises AgreementError outside the contract."""
        shown = self._shown(signal, Kind.HISTOGRAM)
        bounds = _bounds(shown)
        cells = self.cells.histograms.setdefault(shown.name, {}).setdefault(bounds, {})
        values = _values(shown, labels)
        if values not in cells:
            cells[values] = HistogramCell(bounds)
        return cells[values]

    def gauge(self, signal: Signal, read: Callable[[], float], **labels: str) -> None:
        """Show what `read` returns at each scrape, nothing for NaN; raises AgreementError outside the contract."""
        shown = self._shown(signal, Kind.GAUGE)
        self._gauges.setdefault(shown.name, {})[_values(shown, labels)] = read

    def read_counter(self, signal: Signal, read: Callable[[], float], **labels: str) -> None:
        """Show a counter that is kept elsewhere; raises AgreementError outside the contract."""
        shown = self._shown(signal, Kind.COUNTER)
        self._counter_reads.setdefault(shown.name, {})[_values(shown, labels)] = read

    def collect(self) -> Iterator[Metric]:
        self.cells.settle()
        for name, counters in self._counter_reads.items():
            yield self._counter_family(self._signals[name], counters)
        for name, gauges in self._gauges.items():
            yield self._gauge_family(self._signals[name], gauges)
        for name in [name for name in self.cells.histograms if name in self._signals]:
            yield self._histogram_family(self._signals[name])

    def expose(self, accept: str = "") -> tuple[bytes, str]:
        """The exposition in the format that the scraper accepts, and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def total(self, name: str, labels: Mapping[str, str]) -> float:
        """The sum of the samples of that name whose labels include these."""
        samples = (sample for family in self.collect() for sample in family.samples if sample.name == name)
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())

    def series(self) -> int:
        """How many series are shown now."""
        return sum(len(family.samples) for family in self.collect())

    def _shown(self, signal: Signal, kind: Kind) -> Signal:
        shown = self._signals.get(signal.name)
        if shown is None or shown.kind is not kind:
            raise AgreementError(f"{signal.name} is no {kind} of the contract")
        return shown

    def _counter_family(self, signal: Signal, cells: Mapping[LabelValues, Callable[[], float]]) -> Metric:
        family = CounterMetricFamily(signal.name.removesuffix("_total"), signal.help, labels=_names(signal))
        for values, read in list(cells.items()):
            family.add_metric(values, read())
        return family

    def _gauge_family(self, signal: Signal, cells: Mapping[LabelValues, Callable[[], float]]) -> Metric:
        family = GaugeMetricFamily(signal.name, signal.help, labels=_names(signal))
        for values, read in list(cells.items()):
            if not isnan(value := read()):
                family.add_metric(values, value)
        return family

    def _histogram_family(self, signal: Signal) -> Metric:
        family = HistogramMetricFamily(signal.name, signal.help, labels=_names(signal))
        texts = tuple(boundary_text(bound) for bound in signal.buckets)
        for values, cell in self._histogram_cells(signal).items():
            family.add_metric(values, cell.buckets(texts), cell.sum)
        return family

    def _histogram_cells(self, signal: Signal) -> Mapping[LabelValues, HistogramCell]:
        """The cells of the label values that the contract knows, with what was counted by other boundaries."""
        bounds, found = _bounds(signal), dict[LabelValues, HistogramCell]()
        known = [None if label.values is None else frozenset(label.values) for label in signal.labels]
        for cells in list(self.cells.histograms[signal.name].values()):
            for values, cell in list(cells.items()):
                if all(one is None or value in one for one, value in zip(known, values, strict=True)):
                    same = cell.bounds == bounds and values not in found
                    found[values] = cell if same else _joined(bounds, cell, found.get(values))
        return found


def _nothing() -> None:
    """Nothing was put off."""


def _bounds(signal: Signal) -> Bounds:
    return tuple(float(bound) for bound in signal.buckets)


def _joined(bounds: Bounds, *cells: HistogramCell | None) -> HistogramCell:
    """One cell with these boundaries: what was counted below another one is below the next larger of these."""
    joined = HistogramCell(bounds)
    for cell in cells:
        if cell is not None:
            for bound, count in zip((*cell.bounds, float("inf")), cell.counts, strict=True):
                joined.counts[bisect_left(bounds, bound)] += count
            joined.sum += cell.sum
    return joined


def _names(signal: Signal) -> list[str]:
    return [label.name for label in signal.labels]


def _values(signal: Signal, labels: Mapping[str, str]) -> LabelValues:
    if set(labels) != {label.name for label in signal.labels}:
        raise AgreementError(f"{signal.name} has the labels {_names(signal)}, not {sorted(labels)}")
    for label in signal.labels:
        if label.values is not None and labels[label.name] not in label.values:
            raise AgreementError(
                f"label {label.name} of {signal.name} never has the value {labels[label.name]}"
            )
    return tuple(labels[label.name] for label in signal.labels)
