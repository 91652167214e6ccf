"""The words of spans, for those who know nothing of OpenTelemetry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

Facts = Mapping[str, str | int | float]
Note = Callable[[str, Facts], None]
"""Notes an event on the span that is current."""


class Ids(NamedTuple):
    """A span's ids as they are written, and whether its trace is kept."""

    trace: str
    span: str
    sampled: bool


def nothing(_: str, __: Facts) -> None:
    """How events are noted where nobody traces."""
