"""What became of series that are pushed to a collector."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.series import PUSHES
from mahavishnu.signals import Alert, Signal
from mahavishnu.spec import Spec


def signals(spec: Spec) -> Iterator[Signal]:
    """How often they were pushed, where they are."""
    if spec.observability.metrics.otlp is not None:
        yield PUSHES


def alerts(_: object) -> tuple[Alert, ...]:
    """None: where pushes fail, nobody who is pushed to sees it."""
    return ()
