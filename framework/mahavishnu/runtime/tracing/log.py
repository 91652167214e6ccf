"""The access log of a process that traces: a request's span ends with its line, and both say the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from mahavishnu.protocols import Decision
from mahavishnu.runtime.spans import Facts
from mahavishnu.runtime.telemetry.access_log import AccessLog, Served
from mahavishnu.runtime.telemetry.cells import Exemplar
from mahavishnu.runtime.telemetry.logs import named
from mahavishnu.units import SECOND

if TYPE_CHECKING:
    from mahavishnu.runtime.tracing.traces import Trace


class TracedLog(AccessLog):
    """An AccessLog whose lines have the ids of the request's span, which ends with it.

    The histogram that has counted the request remembers those of a trace that is kept.
    """

    def add(self, one: Served, took: int, at: int) -> None:
        super().add(one, took, at)
        trace = _trace(one)
        if trace is None:
            return
        if one.refused is not None and one.refused.where is None:  # else the span of the call says so
            trace.event("mahavishnu.limit.refused", refusal(one.refused), at)
        trace.end({"http.response.status_code": one.status}, _error(one), took)
        cell = cast("Any", one.plan).cells.get(one.status)
        if cell is not None and trace.ids is not None and trace.ids.sampled:
            cell.exemplify(Exemplar(took / SECOND, trace.ids.trace, trace.ids.span, at / SECOND))

    def _line(self, one: Served, took: int, at: int, level: str) -> str:
        line = super()._line(one, took, at, level)
        return line[:-2] + "".join(f', "{name}": "{value}"' for name, value in self._ids(one).items()) + "}\n"

    def _ids(self, one: Served) -> dict[str, str]:
        trace = _trace(one)
        return {} if trace is None or trace.ids is None else named(trace.ids)


def _trace(one: Served) -> Trace | None:
    return getattr(one, "trace", None)


def _error(one: Served) -> str:
    """What kind of failure it is (empty: none), by the semantic conventions: a client that is gone is no failure."""
    if one.fault is not None and one.broken:
        return one.fault
    return str(one.status) if one.status >= 500 else ""


def refusal(refused: Decision) -> Facts:
    """Which limit it was, why, and when to come back."""
    after = refused.retry_after
    wait: Facts = {} if after is None else {"mahavishnu.retry_after": after / SECOND}
    return {"mahavishnu.limit": refused.limit, "mahavishnu.reason": refused.detail, **wait}
