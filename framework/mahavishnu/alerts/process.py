"""What a process uses, and what the spec gives it."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.series import CPU, CPU_LIMIT, MEMORY, MEMORY_LIMIT
from mahavishnu.signals import Alert, Signal


def signals(_: object) -> Iterator[Signal]:
    """Memory and processor time."""
    yield from (MEMORY, MEMORY_LIMIT, CPU, CPU_LIMIT)


def alerts(_: object) -> tuple[Alert, ...]:
    """None: thresholds say what is too much."""
    return ()
