"""Tests of the number of bad events for which an alert on a share waits: just too few, and just enough."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

from mahavishnu.alerts.handful import Enough, parts
from mahavishnu.contract import Contract
from mahavishnu.queries.steady import Steady
from mahavishnu.signals import Alert, Feed
from mahavishnu.units import Duration

from ._promtool import MINUTE, Check, Pace, Phase, Test, decimal, moved
from ._thresholds import packs_of, world_of

_OFF = Fraction(1, 1000)  # of the events that it waits for
_LOADED = 9_000  # samples of one series: no query of promtool loads more than ten thousand


def handfuls(contract: Contract, pace: Pace) -> Iterator[Test]:
    """Those of all alerts on shares; a window is steady for so long that few steps show it."""
    lengths = defaultdict[int, list[Alert]](list)
    for alert in contract.alerts:
        _, enough = parts(alert)
        if enough is not None:
            lengths[_length(alert, enough, pace)].append(alert)
    for steps, alerts in sorted(lengths.items()):
        for pack in packs_of(alerts, contract):
            yield _test("too few", pack, steps, 1 - _OFF, pace)
            yield _test("enough", pack, steps, 1 + _OFF, pace)


def _length(alert: Alert, enough: Enough, pace: Pace) -> int:
    """After so many steps the window is full, and what then holds has held for as long as it must."""
    return -(-enough.window // pace.step) + 1 + -(-(alert.hold or 0) // pace.step)


def _test(word: str, alerts: Sequence[Alert], steps: int, part: Fraction, pace: Pace) -> Test:
    sample = pace.sample
    while steps * pace.step // sample > _LOADED:
        sample = Duration(2 * sample)
    phases = [Phase(Fraction(1), steps * (pace.step // sample) + 1)]
    series = [one for alert in alerts for one in moved(_feeds(alert, part), phases, sample // MINUTE)]
    checks = tuple(Check(Duration(steps * pace.step), alert, part > 1) for alert in alerts)
    names = ", ".join(alert.name for alert in alerts)
    return Test(f"handful, {word}: {names}", sample, tuple(series), checks)


def _feeds(alert: Alert, part: Fraction) -> Iterator[Feed]:
    """Its proof, in which such a part of the events that it waits for comes in each window; the share stays."""
    _, enough = parts(alert)
    if enough is not None:
        (came,) = Steady(world_of(alert)(Fraction(1))).vector(enough.counted).values()
        part *= enough.least / came
        for feed in alert.proof:
            yield replace(feed, faulty=decimal(Fraction(feed.faulty or 0) * part))
