"""The series of the contract as plain cells, and what is shown of them when they are scraped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from heapq import nlargest
from math import isnan
from operator import itemgetter

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar as ShownExemplar

from mahavishnu.runtime.telemetry.cells import Cells, CounterCell, Exemplar, HistogramCell
from mahavishnu.runtime.telemetry.exposition import text_of
from mahavishnu.runtime.telemetry.shown import Shown
from mahavishnu.runtime.telemetry.snapshot import Example, LabelValues, Number, Snapshot
from mahavishnu.signals import Across, AgreementError, Kind, Signal, boundary_text

_RENAMED = ("dots", "values")  # ways to spell names that hardly anybody asks for
_EXEMPLARS = 2000  # the newest: there could be one for each bucket of each route and status


class Metrics(Collector):
    """The Meter of a process: it knows the signals of the contract and refuses every other one.

    The one of a new contract takes over the cells `before` it: what it shows again goes on from there.
    """

    def __init__(self, signals: Mapping[str, Signal], before: Metrics | None = None) -> None:
        self._signals = signals
        self.cells: Cells = before.cells if before else Cells()
        self._counter_reads: dict[str, dict[LabelValues, Callable[[], float]]] = {}
        self._gauges: dict[str, dict[LabelValues, Callable[[], float]]] = {}
        self._across: dict[tuple[str, LabelValues], Across] = {}
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def counter(self, signal: Signal, **labels: str) -> CounterCell:
        """The cell of a counter for these label values; raises AgreementError outside the contract."""
        shown = self._shown(signal, Kind.COUNTER)
        cells = self.cells.counters.setdefault(shown.name, {})
        values = _values(shown, labels)
        if values not in cells:
            cells[values] = CounterCell()
        return cells[values]

    def histogram(self, signal: Signal, **labels: str) -> HistogramCell:
        """The cell of a histogram for these label values; raises AgreementError outside the contract."""
        shown = self._shown(signal, Kind.HISTOGRAM)
        bounds = shown.bounds
        cells = self.cells.histograms.setdefault(shown.name, {}).setdefault(bounds, {})
        values = _values(shown, labels)
        if values not in cells:
            cells[values] = HistogramCell(bounds)
        return cells[values]

    def gauge(self, signal: Signal, read: Callable[[], float], **labels: str) -> None:
        """Show what `read` returns at each scrape, nothing for NaN; raises AgreementError outside the contract.

        Of several workers that is what `across` of the very `signal` says, which may be another one for some labels.
        """
        shown = self._shown(signal, Kind.GAUGE)
        if signal.across is None:
            raise AgreementError(f"{signal.name} does not say what it is `across` workers")
        values = _values(shown, labels)
        self._gauges.setdefault(shown.name, {})[values] = read
        self._across[shown.name, values] = signal.across

    def settles(self, name: str, settle: Callable[[], object]) -> None:
        """Before anything is shown, `settle` counts what it has put off; the one of that name before it is let go."""
        self.cells.settles[name] = settle

    def read_counter(self, signal: Signal, read: Callable[[], float], **labels: str) -> None:
        """Show a counter that is kept elsewhere; raises AgreementError outside the contract."""
        shown = self._shown(signal, Kind.COUNTER)
        self._counter_reads.setdefault(shown.name, {})[_values(shown, labels)] = read

    def snapshot(self) -> Snapshot:
        """All that this process counts and shows now; counters also of earlier contracts."""
        for settle in list(self.cells.settles.values()):
            settle()
        counters = [
            (name, values, cell.value)
            for name, cells in list(self.cells.counters.items())
            for values, cell in list(cells.items())
        ]
        histograms = [
            (name, values, cell.bounds, tuple(cell.counts), cell.sum)
            for name, families in list(self.cells.histograms.items())
            for cells in list(families.values())
            for values, cell in list(cells.items())
        ]
        counters += _read(self._counter_reads)
        exemplars = nlargest(_EXEMPLARS, self._exemplars(), itemgetter(-1))
        return Snapshot(counters, histograms, [*_read(self._gauges)], exemplars=exemplars)

    def shown(self) -> Shown:
        """What is shown now: the sums over all workers, as far as they are in the contract."""
        found = Shown(self._signals, self._across)
        for one in self.cells.together(self.snapshot()):
            found.add(one)
        return found

    def collect(self) -> Iterator[Metric]:
        shown = self.shown()
        for name, counters in shown.counters.items():
            yield _filled(CounterMetricFamily, self._signals[name], name.removesuffix("_total"), counters)
        for name, gauges in shown.gauges.items():
            yield _filled(GaugeMetricFamily, self._signals[name], name, gauges)
        for name, cells in shown.histograms.items():
            yield _histogram_family(self._signals[name], cells)

    def expose(self, accept: str = "") -> tuple[bytes, str]:
        """The exposition in the format that the scraper accepts, else as text, and its content type."""
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # prometheus_client compares whatever is asked for as a version
            encode, content_type = choose_encoder("")
        if content_type.endswith(_RENAMED):
            return encode(self._registry), content_type
        return text_of(self.shown(), openmetrics="openmetrics" in content_type), content_type

    def total(self, name: str, labels: Mapping[str, str]) -> float:
        """The sum of the samples of that name whose labels include these."""
        samples = (sample for family in self.collect() for sample in family.samples if sample.name == name)
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())

    def series(self) -> int:
        """How many series are shown now."""
        return sum(len(family.samples) for family in self.collect())

    def _exemplars(self) -> Iterator[Example]:
        for name, families in list(self.cells.histograms.items()):
            for cells in list(families.values()):
                for values, cell in list(cells.items()):
                    for one in list((cell.exemplars or {}).values()):
                        yield name, values, one.value, one.trace, one.span, one.at

    def _shown(self, signal: Signal, kind: Kind) -> Signal:
        shown = self._signals.get(signal.name)
        if shown is None or shown.kind is not kind:
            raise AgreementError(f"{signal.name} is no {kind} of the contract")
        return shown


def _read(cells: Mapping[str, Mapping[LabelValues, Callable[[], float]]]) -> Iterator[Number]:
    for name, reads in list(cells.items()):
        for values, read in list(reads.items()):
            if not isnan(value := read()):
                yield name, values, value


def _filled(
    kind: type[CounterMetricFamily | GaugeMetricFamily],
    signal: Signal,
    name: str,
    numbers: Mapping[LabelValues, float],
) -> Metric:
    family = kind(name, signal.help, labels=_names(signal))
    for values, value in numbers.items():
        family.add_metric(values, value)
    return family


def _histogram_family(signal: Signal, cells: Mapping[LabelValues, HistogramCell]) -> Metric:
    family = HistogramMetricFamily(signal.name, signal.help, labels=_names(signal))
    texts = tuple(boundary_text(bound) for bound in signal.buckets)
    for values, cell in cells.items():
        family.add_metric(values, [_bucket(*row) for row in cell.buckets(texts)], cell.sum)
    return family


def _bucket(
    text: str, count: float, one: Exemplar | None
) -> tuple[str, float] | tuple[str, float, ShownExemplar]:
    if one is None:
        return text, count
    return text, count, ShownExemplar({"trace_id": one.trace, "span_id": one.span}, one.value, one.at)


def _names(signal: Signal) -> list[str]:
    return [label.name for label in signal.labels]


def _values(signal: Signal, labels: Mapping[str, str]) -> LabelValues:
    if set(labels) != {label.name for label in signal.labels}:
        raise AgreementError(f"{signal.name} has the labels {_names(signal)}, not {sorted(labels)}")
    for label in signal.labels:
        if label.values is not None and labels[label.name] not in label.known:
            raise AgreementError(
                f"label {label.name} of {signal.name} never has the value {labels[label.name]}"
            )
    return tuple(labels[label.name] for label in signal.labels)
