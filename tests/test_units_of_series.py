"""Every series says what its value is, as its name does: by that a query is told from one that cannot hold."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules

import pytest

from mahavishnu import policies, series
from mahavishnu.signals import Kind, Signal, Unit
from mahavishnu.snapshots import series as snapshots_series

ENDINGS = {
    "_timestamp_seconds": {Unit.POINT},
    "_start_time_seconds": {Unit.POINT},
    "_age_seconds": {Unit.AGE},
    "_seconds": {Unit.SECONDS},
    "_bytes": {Unit.BYTES},
    "_ratio": {Unit.SHARE},
    "_cores": {Unit.CORES},
    "_info": {Unit.ONE},
    "_up": {Unit.FLAG},
    ":up:max": {Unit.FLAG},
    "_successful": {Unit.FLAG},
    "_state": {Unit.FLAG},
}


def shown() -> Iterator[Signal]:
    """The series of the service, and of every policy."""
    modules = [
        series,
        snapshots_series,
        *(import_module(f"mahavishnu.policies.{one.name}") for one in iter_modules(policies.__path__)),
    ]
    return (one for module in modules for one in vars(module).values() if isinstance(one, Signal))


SIGNALS = {one.name: one for one in shown()}


@pytest.mark.parametrize("one", SIGNALS.values(), ids=SIGNALS)
def test_a_unit_is_what_the_name_ends_with(one: Signal) -> None:
    """Of a gauge, what it is; of what counts, what it counts."""
    if one.kind is not Kind.GAUGE:
        assert one.unit is not Unit.NUMBER
        return
    endings = (
        units for ending, units in ENDINGS.items() if one.name.endswith(ending) or one.name == ending[1:]
    )
    assert one.unit in next(endings, {Unit.NUMBER})


def test_a_histogram_adds_up_seconds() -> None:
    """Its other parts count what it has observed."""
    of = series.HTTP_DURATION
    assert [of.measured(part) for part in of.parts] == [Unit.REQUESTS, Unit.REQUESTS, Unit.SECONDS]
