"""Tests of alerts whose series can be moved through their bound: just within, just beyond, and back."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import count
from typing import NamedTuple

from mahavishnu.alerts.handful import parts
from mahavishnu.contract import Contract
from mahavishnu.promql import Binary, Call, Expr, Number, Selector
from mahavishnu.queries.lookup import Lookup
from mahavishnu.queries.recorded import Recorded
from mahavishnu.queries.steady import Moving, Steady, moving
from mahavishnu.signals import AgreementError, Alert
from mahavishnu.units import Duration

from ._promtool import MINUTE, Check, Pace, Phase, Series, Test, line_of, moved

_STEPS = 100_000  # a fault's depth is sought in so many steps between healthy and faulty
MARGIN = Fraction(1, 10_000)
_TRUST = 10**7  # parts of a depth: within one of them floats and fractions need not agree
_LOOKBACK = Duration.parse("5m")
_LOADED = (
    9_000  # samples of one series: no query of promtool loads more than ten thousand, of whatever window
)
_STEADY = 4  # so many steady times have samples
_WIDTHS = (1, 2, 3, 5, 6, 10)  # minutes between two samples; every step is a whole number of them
_IN_A_WINDOW = 5
World = Callable[[Fraction], tuple[Moving, ...]]
"""The series of a proof as they are at a depth of the fault."""


class Sampling(NamedTuple):
    """How far samples lie apart, and how many of those of each step are there: the last ones."""

    sample: Duration
    seen: int


class Fault(NamedTuple):
    """How deep the fault of an alert may be, in steps of its depth, for it to be just silent, and to just fire.

    From `silent` up and `firing` down it is known what it does; in between it must be asked.
    """

    asked: Callable[..., bool]
    within: int
    beyond: int
    silent: int
    firing: int

    def begins(self, seen: int, reach: int, *, trust: int, mixed: bool) -> bool:
        """Whether it fires when windows of `reach` have seen so much of the fault; `mixed`: not only they are asked."""
        deep, whole = (self.within * (reach - seen) + self.beyond * seen) * trust, reach * _TRUST
        if deep >= self.firing * whole:
            return True
        if mixed:
            return self.asked(depth(deep, whole), depth(self.beyond))
        return deep > self.silent * whole and self.asked(depth(deep, whole))


def depth(steps: int, parts: int = 1) -> Fraction:
    """How deep a fault is (0 healthy, 1 as proved, and no deeper) after so many steps, or parts of one."""
    return min(Fraction(steps, parts * _STEPS), Fraction(1))


def fault(alert: Alert, recorded: Recorded) -> Fault:
    """The fault that an alert's own proof describes; AgreementError when it does not tell the two apart."""
    world = world_of(alert)

    def fires(deep: Fraction, now: Fraction | None = None) -> bool:
        if now is None:
            return Steady(world(deep), recorded).fires(alert.expr)
        return Steady(world(now), recorded, world(deep)).fires(alert.expr)

    healthy, faulty = (Steady(world(Fraction(deep)), recorded) for deep in (0, 1))
    if healthy.fires(alert.expr) or not faulty.fires(alert.expr):
        raise AgreementError(
            f"the proof of {alert.name} does not show it silent when healthy and firing when not"
        )
    if any(feed.healthy is None or feed.faulty is None for feed in alert.proof):
        return Fault(fires, 0, _STEPS, 0, _STEPS)
    silent, firing = _crossed(fires, _guess(alert.expr, healthy, faulty))
    within, beyond = math.floor(silent * (1 - MARGIN)), min(_STEPS, math.ceil(firing * (1 + MARGIN)))
    return Fault(fires, within, beyond, silent, firing)


def _crossed(fires: Callable[[Fraction], bool], guess: int) -> tuple[int, int]:
    """The last step of depth at which an alert is silent, and the next one; a good guess spares most of the search."""
    silent, firing = 0, _STEPS
    near = [guess - 1, guess + 1, guess]
    while firing - silent > 1:
        middle = near.pop() if near else (silent + firing) // 2
        if silent < middle < firing:
            silent, firing = (silent, middle) if fires(depth(middle)) else (middle, firing)
    return silent, firing


def _guess(expr: Expr, healthy: Steady, faulty: Steady) -> int:
    """The step of depth at which the first condition holds if what it measures grows evenly; else the last one."""
    match conditions(expr):
        case [Binary(left=measured, right=Number(value=bound)), *_]:
            low, high = (max(one.vector(measured).values(), default=Fraction(0)) for one in (healthy, faulty))
            return math.floor((Fraction(bound) - low) / (high - low) * _STEPS) if high != low else _STEPS
        case _:
            return _STEPS


def world_of(alert: Alert) -> World:
    """The series of its proof, the worse the deeper."""
    feeds = [(moving(feed.series, Fraction(0)), feed.since, line_of(feed)) for feed in alert.proof]

    def at(deep: Fraction) -> tuple[Moving, ...]:
        levels = [(one, since, level) for one, since, line in feeds if (level := line(deep)) is not None]
        # To the arithmetic now is zero: a point in time lies before it.
        return tuple(
            Moving(one.name, one.labels, -level if since else level, one.grows)
            for one, since, level in levels
        )

    return at


def packed(contract: Contract, alerts: Sequence[Alert], pace: Pace) -> Iterator[Test]:
    """Alerts whose series do not meet share a test: most of a test's cost is its start."""
    lengths: dict[tuple[int, Sampling], list[Alert]] = {}
    for alert in alerts:
        length = _length(alert, contract, pace)
        lengths.setdefault((length, _sampling(alert, contract, length, pace)), []).append(alert)
    for length, sampling in sorted(lengths):
        for pack in packs_of(lengths[length, sampling], contract):
            yield _threshold(contract, pack, length, pace, sampling)


def packs_of(alerts: Sequence[Alert], contract: Contract) -> list[list[Alert]]:
    """Each alert goes into the first pack in which nobody sees what it is fed, or is fed what it sees."""
    fed = {alert.name: [moving(feed.series, Fraction(0)) for feed in alert.proof] for alert in alerts}
    known = Lookup((one.name, one.labels, one) for one in {one for some in fed.values() for one in some})
    feeding, seeing = defaultdict[Moving, set[int]](set), defaultdict[Moving, set[int]](set)
    packs: list[list[Alert]] = []
    for alert in alerts:
        feeds = fed[alert.name]
        sees = {one for base in contract.bases(alert.expr) for one in known.selected(base)}
        taken = set[int]().union(*(feeding[one] for one in sees), *(seeing[one] for one in feeds))
        place = next(one for one in count() if one not in taken)
        packs += [[]] if place == len(packs) else []
        packs[place].append(alert)
        for series, places in ((feeds, feeding), (sees, seeing)):
            for one in series:
                places[one].add(place)
    return packs


def _length(alert: Alert, contract: Contract, pace: Pace) -> int:
    """How many steps one steady time must last: the longest window, the hold, and a step at each end."""
    gone = _LOOKBACK if _absent(alert, contract) else 0
    return -(-(window_of(alert, contract) + (alert.hold or 0) + gone) // pace.step) + 2


def window_of(alert: Alert, contract: Contract) -> int:
    """The longest window that an alert looks back over (ns); 0: it looks at now alone."""
    return max((one.window for one in _bases(alert, contract) if one.window is not None), default=0)


def _bases(alert: Alert, contract: Contract) -> tuple[Selector, ...]:
    """What decides whether it fires: enough bad events have come by the time at which that is asked."""
    condition, _ = parts(alert)
    return contract.bases(condition)


def _absent(alert: Alert, contract: Contract) -> bool:
    """Whether it is told when all that it asks for is gone: by `absent`, or by a recorded `or vector(0)`, and not where
    something else must be there."""
    recorded = (one.expr for base in alert.expr.selectors() for one in contract.recorded.of(base))
    nodes = (node for expr in (alert.expr, *recorded) for node in expr.walk())
    told = any(isinstance(node, Call) and node.name in ("absent", "vector") for node in nodes)
    return told and Steady((), contract.recorded).fires(alert.expr)


def _sampling(alert: Alert, contract: Contract, steps: int, pace: Pace) -> Sampling:
    """Every sample, unless they were more than promtool loads: then those alone that the windows of a step look at."""
    every = Sampling(pace.sample, pace.step // pace.sample)
    windows = sorted(one.window for one in _bases(alert, contract) if one.window is not None)
    if not windows or _STEADY * steps * every.seen <= _LOADED:
        return every
    wide = next(one for one in _WIDTHS if _IN_A_WINDOW * one * MINUTE >= windows[0] or one == _WIDTHS[-1])
    seen = min(windows[-1], pace.step - wide * MINUTE) // (wide * MINUTE) + 1
    fewer = Sampling(Duration(wide * MINUTE), seen)
    return fewer if _STEADY * steps * seen <= _LOADED else every


def _threshold(
    contract: Contract, alerts: Sequence[Alert], steps: int, pace: Pace, sampling: Sampling
) -> Test:
    faults = [(alert, fault(alert, contract.recorded)) for alert in alerts]
    for alert, found in faults:
        _brings_enough(alert, found, steps * pace.step)
    pace = pace._replace(sample=sampling.sample)
    series = [
        one
        for alert, found in faults
        for one in _five(alert, found, steps, pace, sampling.seen, gone=_absent(alert, contract))
    ]
    checks = [check for alert, found in faults for check in _states(contract, alert, found, steps, pace)]
    names = ", ".join(alert.name for alert in alerts)
    return Test(f"threshold: {names}", pace.sample, tuple(series), tuple(checks))


def _brings_enough(alert: Alert, found: Fault, time: int) -> None:
    """A share just within its bound brings what the alert waits for in such a time; AgreementError where it does not:
    the number would decide, and no test would notice another bound."""
    _, enough = parts(alert)
    if enough is not None:
        (came,) = Steady(world_of(alert)(depth(found.within))).vector(enough.counted).values()
        if came * time < enough.least * enough.window:
            raise AgreementError(f"the proof of {alert.name} brings fewer bad events than it waits for")


def _five(alert: Alert, found: Fault, steps: int, pace: Pace, seen: int, *, gone: bool) -> Iterator[Series]:
    a_step = pace.step // pace.sample
    phases = [Phase(depth(one), steps * a_step) for one in (0, found.within, found.beyond, 0)]
    if seen < a_step:
        phases = [part for phase in phases for part in _thinned(phase, a_step, seen)]
    last = [Phase(None, steps * a_step)] if gone else []
    return moved(alert.proof, [*phases, *last], pace.sample // MINUTE)


def _thinned(phase: Phase, a_step: int, seen: int) -> Iterator[Phase]:
    """A time that begins at a step, of which only the last samples up to each step are seen."""
    unseen = phase._replace(samples=a_step - seen, seen=False)
    yield phase._replace(samples=1)
    for _ in range(phase.samples // a_step - 1):
        yield from (unseen, phase._replace(samples=seen))
    yield from (unseen, phase._replace(samples=seen - 1)) if seen > 1 else (unseen,)


def _states(contract: Contract, alert: Alert, found: Fault, steps: int, pace: Pace) -> Iterator[Check]:
    hold = -(-(alert.hold or 0) // pace.step)
    silent, firing = _crossing(contract, alert, found, pace)
    begun = 2 * steps - 1
    moments = [
        (steps - 1, False),
        (begun, False),
        (begun + silent + hold, False),
        (begun + firing + hold, True),
    ]
    moments += [(4 * steps - 1, False), *([(5 * steps - 1, True)] if _absent(alert, contract) else [])]
    return (Check(Duration(pace.step * step), alert, fires) for step, fires in moments)


def _crossing(contract: Contract, alert: Alert, found: Fault, pace: Pace) -> tuple[int, int]:
    """The last step after the fault's beginning without, and the first one with, its condition surely true.

    A rate sees the fault grow into its window. Prometheus 3 leaves the sample at the window's far end out, so
    that a window is full one sample earlier: both readings are allowed.
    """
    if _absent(alert, contract) and any(feed.faulty is None for feed in alert.proof):
        last = (
            _LOOKBACK // pace.step
        )  # so long the last sample is still seen, in Prometheus 3 one moment less
        return max(last - 1, 0), last + 1
    if not _fires_while_remembered(alert, contract.recorded):
        remembered = _LOOKBACK // pace.step
        return max(0, remembered - 1), remembered + 1
    filled, waited = _filled(alert, contract), _waited(alert, found)
    if any(isinstance(node, Call) and node.name == "avg_over_time" for node in alert.expr.walk()):
        filled += pace.sample  # it counts the samples at both ends, where a rate sees what lies between
    windows = [one.window is not None for one in _bases(alert, contract)]
    begins = partial(found.begins, mixed=any(windows) and not all(windows))
    crossed = {
        max(
            _first(partial(begins, trust=trust), max(filled - late, 1), pace),
            _full(waited + pace.sample - late, pace),
        )
        for late in (0, pace.sample)
        for trust in (_TRUST - 1, _TRUST + 1)
    }
    return min(crossed) - 1, max(crossed)


_EXTREMES = ("max_over_time", "min_over_time")


def _windows(expr: Expr, *functions: str) -> list[tuple[Call, Selector]]:
    """What is asked of windows by these functions, and of what."""
    calls = [node for node in expr.walk() if isinstance(node, Call) and node.name in functions]
    return [(node, one) for node in calls for one in node.selectors()]


def _filled(alert: Alert, contract: Contract) -> int:
    """The longest window that a fault fills little by little."""
    sudden = [one for _, one in _windows(alert.expr, *_EXTREMES, "last_over_time")]
    base = (one for one in _bases(alert, contract) if one not in sudden)
    return max((one.window for one in base if one.window is not None), default=0)


def _waited(alert: Alert, found: Fault) -> int:
    """The longest window whose extreme no fault changes before every sample that was better has left it."""
    world = world_of(alert)

    def waits(call: Call) -> bool:
        before, after = (Steady(world(depth(one))).vector(call) for one in (found.within, found.beyond))
        rises = any(after[labels] > value for labels, value in before.items())
        return rises is (call.name == "min_over_time")

    return max((one.window or 0 for call, one in _windows(alert.expr, *_EXTREMES) if waits(call)), default=0)


def _first(fires: Callable[[int, int], bool], reach: int, pace: Pace) -> int:
    """The first step at which a window of so many ns has seen enough of a fault, or nothing else."""

    def at(step: int) -> bool:
        return fires((step - 1) * pace.step + pace.sample, reach)

    return bisect_left(range(1, _full(reach, pace)), True, key=at) + 1


def _full(reach: int, pace: Pace) -> int:
    """The first step at which a window of so many ns has seen nothing else than the fault."""
    return max(1, -(-(reach - pace.sample) // pace.step) + 1)


def _fires_while_remembered(alert: Alert, recorded: Recorded) -> bool:
    """Whether a fault shows at once, though Prometheus still remembers what it has taken away."""
    if all(feed.faulty is not None for feed in alert.proof):
        return True
    remembered = [replace(feed, faulty=feed.healthy) if feed.faulty is None else feed for feed in alert.proof]
    world = world_of(replace(alert, proof=tuple(remembered)))
    return Steady(world(Fraction(1)), recorded).fires(alert.expr)


def conditions(expr: Expr) -> list[Binary]:
    """What must all hold."""
    if isinstance(expr, Binary) and expr.op == "and":
        return [*conditions(expr.left), *conditions(expr.right)]
    return [expr] if isinstance(expr, Binary) else []
