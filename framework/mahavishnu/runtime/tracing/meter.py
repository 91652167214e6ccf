"""The series of a process that traces: what is counted in a request is an event of it, what is measured an exemplar."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from mahavishnu.errors import MahavishnuError
from mahavishnu.policies.retry import RETRIES
from mahavishnu.protocols import Counter, Histogram
from mahavishnu.runtime.current import inherited
from mahavishnu.runtime.spans import Facts, Note
from mahavishnu.runtime.telemetry.cells import Exemplar, HistogramCell
from mahavishnu.series import BREAKER_TRANSITIONS, EXEMPLIFIED, LIMIT_DECISIONS
from mahavishnu.signals import Signal
from mahavishnu.spec import Spec

if TYPE_CHECKING:
    from mahavishnu.runtime.telemetry.metrics import Metrics
    from mahavishnu.runtime.tracing.traces import Tracing

_MISSING = "`observability.traces` needs more packages: pip install 'mahavishnu[otel]'"
# What is counted in the midst of a request, and is an event of it: the series, the label that tells, and which of its
# values are one.
_EVENTS: Mapping[str, tuple[str, str, tuple[str, ...]]] = {
    LIMIT_DECISIONS.name: ("mahavishnu.limit", "outcome", ("observed",)),
    BREAKER_TRANSITIONS.name: ("mahavishnu.breaker", "to", ("open", "half_open", "closed")),
    RETRIES.name: ("mahavishnu.retry", "outcome", ("exhausted", "budget", "deadline")),
}


def tracing_of(spec: Spec) -> Tracing | None:
    """What traces this process, where the spec asks for it; raises MahavishnuError where a package is missing."""
    settings = spec.observability.traces
    if settings is None:
        return None
    parents = inherited()
    if parents is not None and parents.tracing is not None:  # also the app's own spans are made by it
        parents.tracing.become(settings)
        return parents.tracing
    try:
        from mahavishnu.runtime.tracing.traces import Tracing
    except ImportError:
        raise MahavishnuError(_MISSING) from None
    return Tracing(settings, spec.service.name)


class NotedMeter:
    """The Meter of a process that traces: what is counted is noted on the span in which it is."""

    def __init__(self, metrics: Metrics, tracing: Tracing) -> None:
        self._metrics = metrics
        self._tracing = tracing
        self.gauge = metrics.gauge
        self.settles = metrics.settles

    def counter(self, signal: Signal, **labels: str) -> Counter:
        """As of any Meter."""
        cell = self._metrics.counter(signal, **labels)
        prefix, label, values = _EVENTS.get(signal.name, ("", "", ()))
        if labels.get(label) not in values:
            return cell
        facts = {f"mahavishnu.{name}": value for name, value in labels.items() if name != label}
        noted = _NotedCounter(cell, f"{prefix}.{labels[label]}", facts, self._tracing.note)
        return cast("Counter", noted)  # of which `value` is a property

    def histogram(self, signal: Signal, **labels: str) -> Histogram:
        """As of any Meter."""
        cell = self._metrics.histogram(signal, **labels)
        return _Exemplified(cell, self._tracing) if signal.name in EXEMPLIFIED else cell


class _NotedCounter:
    """A counter, each count of which is an event."""

    def __init__(self, cell: Counter, event: str, facts: Facts, note: Note) -> None:
        self._cell = cell
        self._event, self._facts, self._note = event, facts, note

    @property
    def value(self) -> float:
        """What was counted."""
        return self._cell.value

    @value.setter
    def value(self, value: float) -> None:
        self._cell.value = value

    def inc(self, amount: float = 1) -> None:
        self._cell.inc(amount)
        self._note(self._event, self._facts)


class _Exemplified:
    """A histogram that remembers the trace in which it observed something."""

    def __init__(self, cell: HistogramCell, tracing: Tracing) -> None:
        self._cell = cell
        self._ids = tracing.ids
        self.observe_least = cell.observe_least

    def observe(self, seconds: float, count: int = 1) -> None:
        self._cell.observe(seconds, count)
        ids = self._ids()
        if ids is not None and ids.sampled:
            self._cell.exemplify(Exemplar(seconds, ids.trace, ids.span, time.time()))
