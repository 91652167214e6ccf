"""Requests of a service, as OpenTelemetry's semantic conventions show them, and connections with none, or that stay."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.series import HTTP_ACTIVE, HTTP_DURATION
from mahavishnu.signals import Alert, Kind, Label, Signal, Unit

HEAD_TIMEOUTS = Signal(
    "mahavishnu_head_timeouts_total",
    Kind.COUNTER,
    "Connections closed because the head of a request did not arrive in time (service.head_timeout).",
    waived="A flood of them costs one connection each, and is cut short: it is looked at, and nobody is woken.",
    unit=Unit.CONNECTIONS,
)
WEBSOCKETS = Signal(
    "mahavishnu_websockets_total",
    Kind.COUNTER,
    "Websockets that are over: ended by either side, refused by a limit or a dependency, or failed: their handler did.",
    (Label("outcome", ("ended", "refused", "failed")),),
    waived="No objective is about them: how many of them fail is looked at, and each has a line of the log.",
    unit=Unit.CONNECTIONS,
)


def signals(_: object) -> Iterator[Signal]:
    """How long they take, how many there are now, whose head never came, and how websockets ended."""
    yield from (HTTP_DURATION, HTTP_ACTIVE, HEAD_TIMEOUTS, WEBSOCKETS)


def alerts(_: object) -> tuple[Alert, ...]:
    """None: objectives and thresholds say what is too much."""
    return ()
