"""The requests of a service, as OpenTelemetry's semantic conventions show them, and connections that bring none."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.series import HEAD_TIMEOUTS, HTTP_ACTIVE, HTTP_DURATION
from mahavishnu.signals import Alert, Signal


def signals(_: object) -> Iterator[Signal]:
    """How long they take, how many there are now, and whose head never came."""
    yield from (HTTP_DURATION, HTTP_ACTIVE, HEAD_TIMEOUTS)


def alerts(_: object) -> tuple[Alert, ...]:
    """None: objectives and thresholds say what is too much."""
    return ()
