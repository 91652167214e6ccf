"""A length of time as people and headers are told it."""

from __future__ import annotations

_SECOND = 10**9


def seconds(ns: int) -> int:
    """Nanoseconds as whole seconds, rounded up: who waits that long has waited long enough."""
    return -(-ns // _SECOND)
