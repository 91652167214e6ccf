"""Tests of when a burn rate begins and ends: after a fault began, and after it was over."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction

from mahavishnu.signals import Feed
from mahavishnu.units import Duration

from ._burns import Burn, kin_of
from ._promtool import MINUTE, Check, Pace, Phase, Series, Test, around, moved


def timings(burns: Iterable[Burn], pace: Pace) -> Iterator[Test]:
    """One fault for all burn rates of an objective, and the steps at which each begins and ends."""
    for kin in kin_of(burns):
        yield _counted(kin, pace) if kin[0].timed else _timing(kin, pace)


def _timing(burns: Sequence[Burn], pace: Pace) -> Test:
    # Deep enough that the quickest alert needs four and a half steps, or as deep as can be.
    share = min(Fraction(1), *(2 * one.threshold * one.long / (9 * pace.step) for one in burns))
    # A quarter more than the longest window, so that one that looks further back is seen to be late.
    healthy = -(-max(one.long for one in burns) * 5 // (4 * pace.step))
    begins = {one: one.threshold * one.long / share / pace.step for one in burns}
    fault = (
        max(*(math.ceil(at) for at in begins.values()), *(-(-one.short // pace.step) for one in burns)) + 1
    )
    ends = {one: one.short * (1 - one.threshold / share) / pace.step for one in burns}
    last = healthy + fault + max(math.ceil(at) for at in ends.values()) + 1
    per_step = pace.step // pace.burning
    phases = [
        Phase(Fraction(0), healthy * per_step + 1),
        Phase(share, fault * per_step),
        Phase(Fraction(0), (last - healthy - fault) * per_step),
    ]
    # Prometheus 3 leaves the sample at the window's far end out: its windows are one sample shorter.
    moments = {
        one: (
            *around(healthy, begins[one], 1 - Fraction(pace.burning, one.long), True),
            *around(healthy + fault, ends[one], 1 - Fraction(pace.burning, one.short), False),
        )
        for one in burns
    }
    checks = [
        Check(Duration(pace.step * step), one.alert, firing)
        for one, found in moments.items()
        for step, firing in ((healthy, False), *found)
    ]
    series = tuple(moved(burns[0].alert.proof, phases, pace.burning // MINUTE))
    names = ", ".join(one.alert.name for one in burns)
    return Test(f"timing: {names}", pace.burning, series, tuple(checks))


def _counted(burns: Sequence[Burn], pace: Pace) -> Test:
    """A fault that lasts from one step to another, where each evaluation is one sample of time, good or bad.

    A window holds a sample at its far end in Prometheus 2, and none there in Prometheus 3; both are counted.
    """
    healthy = -(-max(one.long for one in burns) * 5 // (4 * pace.step))
    fault = max(
        max(_sample(one, pace, False) for one in burns) + 2, *(-(-one.short // pace.step) for one in burns)
    )
    length = healthy + fault + max(-(-one.short // pace.step) for one in burns) + 2
    bad = [healthy < step <= healthy + fault for step in range(length)]
    checks = [check for one in burns for check in _changes(one, bad, pace)]
    series = tuple(_stale(burns[0].alert.proof, bad, pace))
    return Test(f"timing: {', '.join(one.alert.name for one in burns)}", pace.step, series, tuple(checks))


def _sample(burn: Burn, pace: Pace, closed: bool) -> int:
    """How many bad samples of a long window are too many."""
    return math.floor(burn.threshold * (burn.long // pace.step + closed)) + 1


def _changes(burn: Burn, bad: Sequence[bool], pace: Pace) -> Iterator[Check]:
    """Each step at which the alert surely begins or ends, and the last one before at which it surely has not."""
    readings = [
        {_burning(burn, bad, step, pace, closed) for closed in (True, False)} for step in range(len(bad))
    ]
    sure = [(step, fires) for step, found in enumerate(readings) if len(found) == 1 for fires in found]
    for (before, was), (step, fires) in itertools.pairwise(sure):
        if was is not fires:
            yield Check(Duration(pace.step * before), burn.alert, was)
            yield Check(Duration(pace.step * step), burn.alert, fires)


def _burning(burn: Burn, bad: Sequence[bool], step: int, pace: Pace, closed: bool) -> bool:
    shares: list[Fraction] = []
    for window in (burn.long, burn.short):
        width = max(window // pace.step + closed, 1)
        seen = bad[max(0, step - width + 1) : step + 1]
        shares.append(Fraction(sum(seen), len(seen)))
    return min(shares) > burn.threshold


def _stale(feeds: Iterable[Feed], bad: Sequence[bool], pace: Pace) -> Iterator[Series]:
    """The feeds, healthy or faulty at each step."""
    runs = [(worse, sum(1 for _ in group)) for worse, group in itertools.groupby(bad)]
    phases = [Phase(Fraction(worse), count) for worse, count in runs]
    return moved(feeds, phases, pace.step // MINUTE)
