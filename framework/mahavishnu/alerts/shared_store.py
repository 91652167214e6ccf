"""Whether the server answers on which all processes count their limits together."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from mahavishnu.events import STORE_LOST
from mahavishnu.promql import total
from mahavishnu.signals import WINDOW, Across, Alert, Feed, Kind, Label, Severity, Signal, Unit
from mahavishnu.spec import Spec
from mahavishnu.units import Duration

_FLAKY = Decimal("0.05")
_IMPACT = (
    "Each limit does what its `on_store_failure` says: `local` counts in every process apart, `open` lets "
    "everything through, `closed` answers 503. `mahavishnu check` says how much that is."
)

STORE_CALLS = Signal(
    "mahavishnu_limit_store_calls_total",
    Kind.COUNTER,
    "Calls to the shared store of limits, by how they ended; skipped: it was lost, and not asked.",
    (Label("outcome", ("ok", "error", "timeout", "skipped")),),
    unit=Unit.STORE_CALLS,
)
STORE_DURATION = Signal(
    "mahavishnu_limit_store_duration_seconds",
    Kind.HISTOGRAM,
    "Time from a call to the shared store of limits to its answer.",
    (),
    tuple(Decimal(bound) for bound in ("0.0005", "0.001", "0.0025", "0.005", "0.01", "0.02", "0.05", "0.1")),
    waived="How long it takes is looked at; too long is a timeout of the store, and an alert.",
    unit=Unit.STORE_CALLS,
)
STORE_UP = Signal(
    "mahavishnu_limit_store_up",
    Kind.GAUGE,
    "1 while the shared store of limits answers this process.",
    across=Across.MIN,
    unit=Unit.FLAG,
)


def signals(spec: Spec) -> Iterator[Signal]:
    """Its calls, how long they take, and whether it is asked at all."""
    if spec.shared:
        yield from (STORE_CALLS, STORE_DURATION, STORE_UP)


def alerts(spec: Spec) -> Iterator[Alert]:
    """It is lost; or it answers, but not always."""
    if spec.shared:
        yield from (_lost(), _flaky())


def _lost() -> Alert:
    return Alert(
        name="LimitStoreLost",
        severity=Severity.P2,
        expr=STORE_UP.lately().equals(0),
        hold=Duration.parse("30s"),
        summary="The shared store of the limits does not answer: they hold for each process alone.",
        meaning="The last calls to the store failed or came too late. It is tried again every few seconds.",
        impact=_IMPACT,
        action=f"The service's log says why (`{STORE_LOST}`). Look at the server, its memory, its password and "
        "the way to it; nothing has to be restarted, the service comes back to it by itself.",
        path=("store",),
        proof=(Feed(STORE_UP.select(), healthy=1, faulty=0),),
    )


def _flaky() -> Alert:
    ok, skipped = STORE_CALLS.select(outcome="ok"), STORE_CALLS.select(outcome="skipped")
    failed = total(STORE_CALLS.rate(WINDOW, outcome_not="ok"))
    return Alert(
        name="LimitStoreFlaky",
        severity=Severity.P3,
        expr=failed / total(STORE_CALLS.rate(WINDOW)) > _FLAKY,
        bad=failed,
        hold=Duration.parse("10m"),
        summary="The shared store of the limits did not decide $value of the requests.",
        unit="ratio",
        meaning="More than 5% of the calls to the store failed, came too late, or were not made after that.",
        impact=_IMPACT,
        action="Compare the outcomes of mahavishnu_limit_store_calls_total: `timeout` is a slow server or way, "
        "`error` is in the service's log.",
        path=("store",),
        proof=(Feed(ok, healthy=600, faulty=540), Feed(skipped, healthy=0, faulty=60)),
    )
