"""What several processes count and show, added up as the contract says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import add

from mahavishnu.runtime.telemetry.cells import Exemplar, HistogramCell
from mahavishnu.runtime.telemetry.snapshot import LabelValues, Snapshot
from mahavishnu.signals import Across, Kind, Signal


class Shown:
    """Snapshots added up, by series and label values: what the contract does not know is left out.

    Of a gauge's label values `across` says what their number is; for those that only others show, the signal does.
    """

    def __init__(
        self, signals: Mapping[str, Signal], across: Mapping[tuple[str, LabelValues], Across]
    ) -> None:
        self._signals = signals
        self._across = across
        self.counters: dict[str, dict[LabelValues, float]] = {}
        self.gauges: dict[str, dict[LabelValues, float]] = {}
        self.histograms: dict[str, dict[LabelValues, HistogramCell]] = {}

    def signal(self, name: str) -> Signal:
        """What a series of that name is."""
        return self._signals[name]

    def add(self, one: Snapshot) -> None:
        """Add what another process counts and shows."""
        for name, values, value in one.counters:
            if self._agreed(name, Kind.COUNTER, values):
                cells = self.counters.setdefault(name, {})
                cells[values] = cells.get(values, 0) + value
        for name, values, value in one.gauges:
            if self._agreed(name, Kind.GAUGE, values):
                self._gauge(name, values, value)
        for name, values, bounds, counts, total in one.histograms:
            if self._agreed(name, Kind.HISTOGRAM, values):
                found = self.histograms.setdefault(name, {})
                if values not in found:
                    found[values] = HistogramCell(self._signals[name].bounds)
                found[values].add(bounds, counts, total)
        for name, values, value, trace, span, at in one.exemplars:
            if (cell := self.histograms.get(name, {}).get(values)) is not None:
                cell.exemplify(Exemplar(value, trace, span, at))

    def _gauge(self, name: str, values: LabelValues, value: float) -> None:
        cells = self.gauges.setdefault(name, {})
        across = self._across.get((name, values)) or self._signals[name].across
        cells[values] = _ACROSS[across or Across.MAX](cells[values], value) if values in cells else value

    def _agreed(self, name: str, kind: Kind, values: LabelValues) -> bool:
        signal = self._signals.get(name)
        if signal is None or signal.kind is not kind or len(values) != len(signal.labels):
            return False
        pairs = zip(signal.labels, values, strict=True)
        return all(label.values is None or value in label.known for label, value in pairs)


_ACROSS: Mapping[Across, Callable[[float, float], float]] = {
    Across.SUM: add,
    Across.MAX: max,
    Across.MIN: min,
}
