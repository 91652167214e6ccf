"""The requests of a service, as OpenTelemetry's semantic conventions show them, and connections that bring none."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.series import HTTP_ACTIVE, HTTP_DURATION
from mahavishnu.signals import Alert, Kind, Signal, Unit

HEAD_TIMEOUTS = Signal(
    "mahavishnu_head_timeouts_total",
    Kind.COUNTER,
    "Connections closed because the head of a request did not arrive in time (service.head_timeout).",
    waived="A flood of them costs one connection each, and is cut short: it is looked at, and nobody is woken.",
    unit=Unit.CONNECTIONS,
)


def signals(_: object) -> Iterator[Signal]:
    """How long they take, how many there are now, and whose head never came."""
    yield from (HTTP_DURATION, HTTP_ACTIVE, HEAD_TIMEOUTS)


def alerts(_: object) -> tuple[Alert, ...]:
    """None: objectives and thresholds say what is too much."""
    return ()
