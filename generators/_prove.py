"""The promtool tests that prove a contract's alerts, derived from their queries, windows, holds and proofs.

A **threshold** test moves an alert's series through five steady times: healthy, just within the
bound, just beyond it, healthy again, gone where absence is a fault: silent, silent, firing, silent, firing.
Two **level** tests per burn-rate alert hold the share of failures just below and just above its threshold. A
**timing** test starts a fault after a full long window of health and asks for the very steps at which the
alert must begin and end. With e the share of failures: after factor x budget x long / e, and after the fault
short x (1 - factor x budget / e). A **guard** test brings just too few, and just enough, events into a long window in
which all of them are bad. A **budget** test begins with no history at all, so that minutes spend a month's budget and
win it back. Where time is counted instead of events, a share is an average of samples: the timing is that of counting
them, and levels are given as the recorded shares themselves.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Context, Decimal
from fractions import Fraction
from functools import lru_cache, partial
from typing import NamedTuple

from mahavishnu.contract import Contract
from mahavishnu.promql import Binary, Call, Expr, Number, Selector, quoted
from mahavishnu.queries.steady import Moving, Steady, matches, moving
from mahavishnu.signals import AgreementError, Alert, Feed, Kind, Recording, Source
from mahavishnu.units import Duration, plain

_STEPS = 100_000  # a fault's depth is sought in so many steps between healthy and faulty
_MARGIN = Fraction(1, 10_000)
_GUARD = Fraction(1, 1000)  # of the events that a burn rate waits for
_SLACK = 0.15  # of a step: how near to a step a moment may lie before the test looks one step further away
_TRUST = Fraction(1, 10**7)  # below this share of a depth, floats and fractions need not agree
_LOOKBACK = Duration.parse("5m")
_DIGITS = Context(prec=12)


@dataclass(frozen=True, slots=True)
class Series:
    """One input series in promtool's notation."""

    series: str
    values: str


@dataclass(frozen=True, slots=True)
class Check:
    """Whether an alert fires at a moment after the start."""

    at: Duration
    alert: Alert
    firing: bool

    @property
    def expr(self) -> str:
        """A query that answers 1 when it fires, else 0."""
        labels = {"alertname": self.alert.name, "alertstate": "firing", "severity": self.alert.severity.value}
        inside = ",".join(f"{name}={quoted(value)}" for name, value in labels.items())
        return f"count(ALERTS{{{inside}}}) or vector(0)"


@dataclass(frozen=True, slots=True)
class Test:
    """One world of series, sampled every `interval`, and what must hold in it when."""

    __test__ = False  # pytest: not yours

    name: str
    interval: Duration
    series: tuple[Series, ...]
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a test file evaluates, and how often its steady and its burning series are sampled."""

    step: Duration
    burning: Duration
    sample: Duration


_MINUTE = Duration.parse("1m")
FAST = Pace(step=_MINUTE, burning=_MINUTE, sample=_MINUTE)
SLOW = Pace(step=Duration.parse("30m"), burning=Duration.parse("10m"), sample=_MINUTE)
_FAST_HOLD = Duration.parse("30m")
_FAST_LONG = Duration.parse("1h")


class Burn(NamedTuple):
    """A burn-rate alert as its query says it: two recorded shares above one threshold, over two windows.

    `events`: so many are needed in the long window; `timed`: the shares are of time.
    """

    alert: Alert
    threshold: Fraction
    long: Duration
    short: Duration
    ratios: tuple[Selector, Selector]
    events: Fraction | None
    timed: bool


class Phase(NamedTuple):
    """So many samples at one depth of the fault (0 healthy, 1 faulty; None: the series is gone)."""

    depth: Fraction | None
    samples: int


def fast(contract: Contract) -> tuple[Test, ...]:
    """Tests whose file evaluates every minute: thresholds, levels, the timing of short windows."""
    burns = _burns(contract)
    steady = [one for one in _plain(contract) if _quick(one, contract)]
    return (
        *_packed(contract, steady, FAST),
        *(test for burn in burns for test in _levels(burn, burns, contract)),
        *(_budget(alert, contract) for alert in contract.alerts if _left(alert, contract) is not None),
        *_timings([burn for burn in burns if _short(burn)], FAST),
        *_guards([burn for burn in burns if _short(burn)], FAST),
    )


def slow(contract: Contract) -> tuple[Test, ...]:
    """Tests whose file evaluates every half hour: long holds, and the timing of windows of hours and days."""
    steady = [one for one in _plain(contract) if not _quick(one, contract)]
    late = [burn for burn in _burns(contract) if not _short(burn)]
    return (*_packed(contract, steady, SLOW), *_timings(late, SLOW), *_guards(late, SLOW))


def _short(burn: Burn) -> bool:
    """Whether its windows are too short to be seen in samples as far apart as the slow ones are."""
    return burn.long <= _FAST_LONG or burn.short < 2 * SLOW.burning


def _quick(alert: Alert, contract: Contract) -> bool:
    hold = alert.hold or 0
    # A hold that is no whole number of slow steps cannot be told from the next one that is.
    return hold <= _FAST_HOLD and (_window(alert, contract) < _FAST_LONG or hold % SLOW.step != 0)


# --- thresholds -------------------------------------------------------------------------------------------


World = Callable[[Fraction], tuple[Moving, ...]]
"""The series of a proof as they are at a depth of the fault."""


class Fault(NamedTuple):
    """How deep the fault of an alert may be (0 healthy, 1 as proved) for it to be just silent, and to just fire.

    From `silent` up and `firing` down it is known what it does; in between it must be asked.
    """

    asked: Callable[..., bool]
    within: Fraction
    beyond: Fraction
    silent: Fraction
    firing: Fraction

    def fires(self, depth: Fraction) -> bool:
        """Whether it fires at a depth."""
        return depth > self.silent and (depth >= self.firing or self.asked(depth))

    def begins(self, seen: Fraction, *, trust: Fraction, mixed: bool) -> bool:
        """Whether it fires when windows have seen so much of the fault; `mixed`: not only windows are asked."""
        depth = min(Fraction(1), (self.within + seen * (self.beyond - self.within)) * trust)
        return self.asked(depth, self.beyond) if mixed else self.fires(depth)


def fault(alert: Alert, recordings: tuple[Recording, ...]) -> Fault:
    """The fault that an alert's own proof describes; AgreementError when it does not tell the two apart."""
    world = _worsening(alert)

    def fires(depth: Fraction, now: Fraction | None = None) -> bool:
        if now is None:
            return Steady(world(depth), recordings).fires(alert.expr)
        return Steady(world(now), recordings, world(depth)).fires(alert.expr)

    if fires(Fraction(0)) or not fires(Fraction(1)):
        raise AgreementError(
            f"the proof of {alert.name} does not show it silent when healthy and firing when not"
        )
    if any(feed.healthy is None or feed.faulty is None for feed in alert.proof):
        return Fault(fires, Fraction(0), Fraction(1), Fraction(0), Fraction(1))
    silent, firing = _crossed(fires, _guess(alert.expr, world, recordings))
    within, beyond = math.floor(silent * (1 - _MARGIN)), min(_STEPS, math.ceil(firing * (1 + _MARGIN)))
    known = (Fraction(one, _STEPS) for one in (within, beyond, silent, firing))
    return Fault(fires, *known)


def _crossed(fires: Callable[[Fraction], bool], guess: int) -> tuple[int, int]:
    """The last step of depth at which an alert is silent, and the next one; a good guess spares most of the search."""
    silent, firing = 0, _STEPS
    near = [guess - 1, guess, guess + 1]
    while firing - silent > 1:
        middle = near.pop() if near else (silent + firing) // 2
        if silent < middle < firing:
            silent, firing = (silent, middle) if fires(Fraction(middle, _STEPS)) else (middle, firing)
    return silent, firing


def _guess(expr: Expr, world: World, recordings: tuple[Recording, ...]) -> int:
    """The step of depth at which the first condition holds if what it measures grows evenly; else the last one."""
    match _conditions(expr):
        case [Binary(left=measured, right=Number(value=bound)), *_]:
            low, high = (max(Steady(world(Fraction(depth)), recordings).vector(measured).values(), default=Fraction(0))
                         for depth in (0, 1))  # fmt: skip
            return math.floor((Fraction(bound) - low) / (high - low) * _STEPS) if high != low else _STEPS
        case _:
            return _STEPS


def _worsening(alert: Alert) -> World:
    feeds = [(moving(feed.series, Fraction(0)), -1 if feed.since else 1, _line(feed)) for feed in alert.proof]

    def at(depth: Fraction) -> tuple[Moving, ...]:
        # To the arithmetic now is zero: a point in time lies before it.
        levels = [(one, sign, level) for one, sign, line in feeds if (level := line(depth)) is not None]
        return tuple(Moving(one.name, one.labels, sign * level, one.grows) for one, sign, level in levels)

    return at


def _line(feed: Feed) -> Callable[[Fraction], Fraction | None]:
    """Where the series of a feed is at a depth of the fault; None: gone."""
    if feed.healthy is None or feed.faulty is None:
        said = [None if one is None else Fraction(one) for one in (feed.healthy, feed.faulty)]
        return lambda depth: said[depth == 1]
    healthy = Fraction(feed.healthy)
    rise = Fraction(feed.faulty) - healthy
    return lambda depth: healthy + depth * rise


@lru_cache(maxsize=4)
def _plain(contract: Contract) -> list[Alert]:
    """Those whose series can be moved through their bound in any length of time."""
    burning = {burn.alert.name for burn in _burns(contract)}
    rest = (alert for alert in contract.alerts if alert.name not in burning)
    return [alert for alert in rest if _left(alert, contract) is None]


def _packed(contract: Contract, alerts: Sequence[Alert], pace: Pace) -> Iterator[Test]:
    """Alerts whose series do not meet share a test: most of a test's cost is its start."""
    packs: dict[int, list[list[Alert]]] = {}
    fed = {alert.name: [moving(feed.series, Fraction(0)) for feed in alert.proof] for alert in alerts}

    def meet(one: Alert, other: Alert) -> bool:
        return any(
            matches(selector, series)
            for mine, yours in ((one, other), (other, one))
            for selector in _base(mine, contract)
            for series in fed[yours.name]
        )

    for alert in alerts:
        same = packs.setdefault(_length(alert, contract, pace), [])
        free = (pack for pack in same if not any(meet(alert, other) for other in pack))
        if (pack := next(free, None)) is not None:
            pack.append(alert)
        else:
            same.append([alert])
    for length in sorted(packs):
        yield from (_threshold(contract, pack, length, pace) for pack in packs[length])


def _length(alert: Alert, contract: Contract, pace: Pace) -> int:
    """How many steps one steady time must last: the longest window, the hold, and a step at each end."""
    gone = _LOOKBACK if _absent(alert) else 0
    return -(-(_window(alert, contract) + (alert.hold or 0) + gone) // pace.step) + 2


def _window(alert: Alert, contract: Contract) -> int:
    return max((one.window for one in _base(alert, contract) if one.window is not None), default=0)


def _absent(alert: Alert) -> bool:
    return any(isinstance(node, Call) and node.name == "absent" for node in alert.expr.walk())


def _threshold(contract: Contract, alerts: Sequence[Alert], steps: int, pace: Pace) -> Test:
    samples = steps * (pace.step // pace.sample)
    faults = [(alert, fault(alert, contract.recordings)) for alert in alerts]
    series = [one for alert, found in faults for one in _five(alert, found, samples)]
    checks = [check for alert, found in faults for check in _states(contract, alert, found, steps, pace)]
    names = ", ".join(alert.name for alert in alerts)
    return Test(f"threshold: {names}", pace.sample, tuple(series), tuple(checks))


def _five(alert: Alert, found: Fault, samples: int) -> Iterator[Series]:
    phases = [Phase(depth, samples) for depth in (Fraction(0), found.within, found.beyond, Fraction(0))]
    return _moved(alert.proof, [*phases, Phase(None, samples)] if _absent(alert) else phases, 1)


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
    moments += [(4 * steps - 1, False), *([(5 * steps - 1, True)] if _absent(alert) else [])]
    return (Check(Duration(pace.step * step), alert, fires) for step, fires in moments)


def _crossing(contract: Contract, alert: Alert, found: Fault, pace: Pace) -> tuple[int, int]:
    """The last step after the fault's beginning without, and the first one with, its condition surely true.

    A rate sees the fault grow into its window. Prometheus 3 leaves the sample at the window's far end out, so
    that a window is full one sample earlier: both readings are allowed.
    """
    if _absent(alert) and any(feed.faulty is None for feed in alert.proof):
        last = (
            _LOOKBACK // pace.step
        )  # so long the last sample is still seen, in Prometheus 3 one moment less
        return max(last - 1, 0), last + 1
    if not _fires_while_remembered(alert, contract.recordings):
        remembered = _LOOKBACK // pace.step
        return max(0, remembered - 1), remembered + 1
    filled, waited = _filled(alert, contract), _waited(alert, found)
    if any(isinstance(node, Call) and node.name == "avg_over_time" for node in alert.expr.walk()):
        filled += pace.sample  # it counts the samples at both ends, where a rate sees what lies between
    windows = [one.window is not None for one in _base(alert, contract)]
    begins = partial(found.begins, mixed=any(windows) and not all(windows))
    crossed = {
        max(
            _first(partial(begins, trust=trust), max(filled - late, 1), pace),
            _full(waited + pace.sample - late, pace),
        )
        for late in (0, pace.sample)
        for trust in (1 - _TRUST, 1 + _TRUST)
    }
    return min(crossed) - 1, max(crossed)


_EXTREMES = ("max_over_time", "min_over_time")


def _extremes(expr: Expr) -> list[tuple[Call, Selector]]:
    """The greatest or least of a window, and of what."""
    calls = [node for node in expr.walk() if isinstance(node, Call) and node.name in _EXTREMES]
    return [(node, one) for node in calls for one in node.selectors()]


def _filled(alert: Alert, contract: Contract) -> int:
    """The longest window that a fault fills little by little."""
    sudden = [one for _, one in _extremes(alert.expr)]
    base = (one for one in _base(alert, contract) if one not in sudden)
    return max((one.window for one in base if one.window is not None), default=0)


def _waited(alert: Alert, found: Fault) -> int:
    """The longest window whose extreme no fault changes before every sample that was better has left it."""
    world = _worsening(alert)

    def waits(call: Call) -> bool:
        before, after = (Steady(world(one)).vector(call) for one in (found.within, found.beyond))
        rises = any(after[labels] > value for labels, value in before.items())
        return rises is (call.name == "min_over_time")

    return max((one.window or 0 for call, one in _extremes(alert.expr) if waits(call)), default=0)


def _first(fires: Callable[[Fraction], bool], reach: int, pace: Pace) -> int:
    """The first step at which a window of so many ns has seen enough of a fault, or nothing else."""

    def at(step: int) -> bool:
        return fires(Fraction((step - 1) * pace.step + pace.sample, reach))

    return bisect_left(range(1, _full(reach, pace)), True, key=at) + 1


def _full(reach: int, pace: Pace) -> int:
    """The first step at which a window of so many ns has seen nothing else than the fault."""
    return max(1, -(-(reach - pace.sample) // pace.step) + 1)


def _fires_while_remembered(alert: Alert, recordings: tuple[Recording, ...]) -> bool:
    """Whether a fault shows at once, though Prometheus still remembers what it has taken away."""
    if all(feed.faulty is not None for feed in alert.proof):
        return True
    remembered = [replace(feed, faulty=feed.healthy) if feed.faulty is None else feed for feed in alert.proof]
    world = _worsening(replace(alert, proof=tuple(remembered)))
    return Steady(world(Fraction(1)), recordings).fires(alert.expr)


# --- burn rates -------------------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def _burns(contract: Contract) -> list[Burn]:
    return [burn for alert in contract.alerts if (burn := _burn(alert, contract)) is not None]


def _burn(alert: Alert, contract: Contract) -> Burn | None:
    match _conditions(alert.expr):
        case [
            Binary(op=">", left=Selector() as long, right=Number(value=threshold)),
            Binary(op=">", left=Selector() as short, right=Number()),
            *guard,
        ] if long.signal.source is short.signal.source is Source.RULE:
            (longest,), (shortest,) = ({one.window for one in _resolved(each, contract) if one.window}
                                       for each in (long, short))  # fmt: skip
            timed = any(one.signal.source is Source.RULE for one in _resolved(long, contract))
            events = next((Fraction(one.right.value) for one in guard if isinstance(one.right, Number)), None)
            return Burn(alert, Fraction(threshold), longest, shortest, (long, short), events, timed)
        case _:
            return None


def _conditions(expr: Expr) -> list[Binary]:
    """What must all hold."""
    if isinstance(expr, Binary) and expr.op == "and":
        return [*_conditions(expr.left), *_conditions(expr.right)]
    return [expr] if isinstance(expr, Binary) else []


def _levels(burn: Burn, burns: Sequence[Burn], contract: Contract) -> Iterator[Test]:
    """Ten minutes of one share of failures: a share does not depend on how much of its window has passed."""
    kin = [one for one in burns if one.alert.path == burn.alert.path]
    above = min(burn.threshold * (1 + _MARGIN), (burn.threshold + 1) / 2)
    for word, share in (("below", burn.threshold * (1 - _MARGIN)), ("above", above)):
        phases = [Phase(share, 11)]
        series = _recorded(kin, phases) if burn.timed else _moved(burn.alert.proof, phases, 1)
        checks = tuple(Check(Duration.parse("10m"), one.alert, share > one.threshold) for one in kin)
        yield Test(f"level {word}: {burn.alert.name}", FAST.sample, tuple(series), checks)
    if burn.timed:
        yield from _bound(burn, contract)


def _recorded(burns: Sequence[Burn], phases: Sequence[Phase]) -> Iterator[Series]:
    """The shares themselves, as if they had been recorded."""
    ratios = dict.fromkeys(ratio for one in burns for ratio in one.ratios)
    return _moved([Feed(one, healthy=0, faulty=1) for one in ratios], phases, 1)


def _bound(burn: Burn, contract: Contract) -> Iterator[Test]:
    """What is measured stands just within, and just beyond, what is called bad."""
    found = fault(burn.alert, contract.recordings)
    for word, depth, fires in (("within", found.within, False), ("beyond", found.beyond, True)):
        series = tuple(_moved(burn.alert.proof, [Phase(depth, 11)], 1))
        checks = (Check(Duration.parse("10m"), burn.alert, fires),)
        yield Test(f"bound {word}: {burn.alert.name}", FAST.sample, series, checks)


# --- guards and budgets -----------------------------------------------------------------------------------


def _guards(burns: Iterable[Burn], pace: Pace) -> Iterator[Test]:
    for burn in burns:
        if burn.events is not None:
            few, enough = (burn.events * (1 + sign * _GUARD) for sign in (-1, 1))
            yield _guard(burn, few, False, pace)
            yield _guard(burn, enough, True, pace)


def _guard(burn: Burn, events: Fraction, fires: bool, pace: Pace) -> Test:
    """All events bad, and so many of them in every long window; asked when one is full."""
    steps = -(-burn.long // pace.step) + 1
    traffic = max(Fraction(feed.faulty or 0) for feed in burn.alert.proof)
    part = events * _MINUTE / burn.long / traffic
    scaled = [
        replace(feed, healthy=0, faulty=_decimal(Fraction(feed.faulty or 0) * part))
        for feed in burn.alert.proof
    ]
    series = _moved(
        scaled, [Phase(Fraction(1), steps * (pace.step // pace.burning) + 1)], pace.burning // _MINUTE
    )
    word = "enough" if fires else "too few"
    checks = (Check(Duration(pace.step * steps), burn.alert, fires),)
    return Test(f"guard {word}: {burn.alert.name}", pace.burning, tuple(series), checks)


def _left(alert: Alert, contract: Contract) -> Fraction | None:
    """The budget behind an alert that is raised when nothing is left of it; None: it is another kind of alert."""
    match alert.expr:
        case Binary(op="<=", left=Selector() as left, right=Number()) if left.signal.source is Source.RULE:
            return next((found for one in contract.recordings if (found := _spends(one, left))), None)
        case _:
            return None


def _spends(one: Recording, left: Selector) -> Fraction | None:
    """The budget by which a recording says what is left: 1 - share / budget; None: it is another recording."""
    made = Moving(one.signal.name, frozenset(one.labels), Fraction(0), grows=False)
    match one.expr:
        case Binary(
            op="-", left=Number(), right=Binary(op="/", left=Selector(), right=Number(value=budget))
        ) if matches(left, made):
            return Fraction(budget)
        case _:
            return None


def _budget(alert: Alert, contract: Contract) -> Test:
    """Of the very first ten minutes some are lost: twice the budget for as long as they last, then it is won back.

    With h steps of health, a fault of twice the budget spends all of it after h more, and after a steps of that it is
    there again a - h steps later. Where time is counted the shares are given.
    """
    budget = _left(alert, contract) or Fraction(0)
    if any(feed.since or feed.faulty is None for feed in alert.proof) or _timed(alert, contract):
        return _given(alert, contract, budget)
    health, rest, deep = 10, 10, min(Fraction(1), 2 * budget)
    spent = health * budget / (deep - budget)
    fault = math.ceil(spent) + 5
    back = fault * deep / budget - health - fault
    phases = [Phase(Fraction(0), health + 1), Phase(deep, fault), Phase(Fraction(0), math.ceil(back) + rest)]
    moments = [(health, False), *_around(health, spent, Fraction(1), True)]
    moments += [*_around(health + fault, back, Fraction(1), False)]
    checks = tuple(Check(Duration(_MINUTE * step), alert, fires) for step, fires in moments)
    return Test(f"budget: {alert.name}", FAST.sample, tuple(_moved(alert.proof, phases, 1)), checks)


def _timed(alert: Alert, contract: Contract) -> bool:
    return any(one.signal.source is Source.RULE and one.window is not None for one in _base(alert, contract))


def _given(alert: Alert, contract: Contract, budget: Fraction) -> Test:
    """The recorded share just below the budget, just above it, and below it again."""
    left = next(iter(alert.expr.selectors()))
    recording = next(one for one in contract.recordings if _spends(one, left))
    share = next(iter(recording.expr.selectors()))
    depths = [budget * (1 + sign * _MARGIN) for sign in (-1, 1, -1)]
    series = _moved([Feed(share, healthy=0, faulty=1)], [Phase(depth, 5) for depth in depths], 1)
    checks = tuple(
        Check(Duration(_MINUTE * at), alert, fires) for at, fires in ((4, False), (9, True), (14, False))
    )
    return Test(f"budget: {alert.name}", FAST.sample, tuple(series), checks)


# --- timing -----------------------------------------------------------------------------------------------


def _timings(burns: Sequence[Burn], pace: Pace) -> Iterator[Test]:
    for path in dict.fromkeys(burn.alert.path for burn in burns):
        kin = [burn for burn in burns if burn.alert.path == path]
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
            *_around(healthy, begins[one], 1 - Fraction(pace.burning, one.long), True),
            *_around(healthy + fault, ends[one], 1 - Fraction(pace.burning, one.short), False),
        )
        for one in burns
    }
    checks = [
        Check(Duration(pace.step * step), one.alert, firing)
        for one, found in moments.items()
        for step, firing in ((healthy, False), *found)
    ]
    series = tuple(_moved(burns[0].alert.proof, phases, pace.burning // _MINUTE))
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
    return _moved(feeds, phases, pace.step // _MINUTE)


def _around(since: int, moment: Fraction, early: Fraction, becomes: bool) -> Iterator[tuple[int, bool]]:
    """The last step before a change and the first one after it; `early` is how much sooner it may come."""
    before, after = math.floor(moment * early - Fraction(_SLACK)), math.ceil(moment + Fraction(_SLACK))
    if before >= 0:
        yield since + before, not becomes
    yield since + after, becomes


# --- series -----------------------------------------------------------------------------------------------


def _base(alert: Alert, contract: Contract) -> tuple[Selector, ...]:
    """Every selector an alert rests on, recording rules resolved."""
    return _bases(contract)[alert.name]


@lru_cache(maxsize=4)
def _bases(contract: Contract) -> dict[str, tuple[Selector, ...]]:
    return {
        alert.name: tuple(one for selector in alert.expr.selectors() for one in _resolved(selector, contract))
        for alert in contract.alerts
    }


def _resolved(selector: Selector, contract: Contract) -> Iterator[Selector]:
    if selector.signal.source is not Source.RULE:
        yield selector
        return
    if selector.window is not None:
        yield selector
    for one in contract.recordings:
        if matches(selector, Moving(one.signal.name, frozenset(one.labels), Fraction(0), grows=False)):
            for below in one.expr.selectors():
                yield from _resolved(below, contract)


def _moved(feeds: Iterable[Feed], phases: Sequence[Phase], minutes: int) -> Iterator[Series]:
    """The feeds' series through the phases, sampled every so many minutes."""
    for feed in feeds:
        grows = feed.series.signal.kind is not Kind.GAUGE
        parts: list[str] = []
        last: Fraction | None = None
        reached, since = 0.0, 0
        line = _line(feed)
        for phase in phases:
            level = None if phase.depth is None else line(phase.depth)
            passed, since = since, since + phase.samples
            if level is None:
                parts.append(f"_x{phase.samples}")
                continue
            if feed.since:
                now = passed * minutes * 60 - level
                parts.append(f"{_text(now)}+{minutes * 60}x{phase.samples - 1}")
                continue
            growth = _text(level * minutes) if grows else "0"
            start = level if not grows else Fraction(0) if last is None else last + Fraction(growth)
            # What stands still must not grow by a rounding, and what grows must not seem to begin anew.
            still = grows and growth == "0" and last is not None
            exact = not grows or (float(_text(start)) >= reached and not still)
            first = _text(start) if exact else f"{Decimal(reached):f}"
            parts.append(f"{first}+{growth}x{phase.samples - 1}")
            last = start + Fraction(growth) * (phase.samples - 1)
            reached = _added(float(first), float(growth), phase.samples - 1)
        yield Series(replace(feed.series, window=None).render(), " ".join(parts))


def _added(start: float, growth: float, times: int) -> float:
    """Where promtool arrives by adding: a next part that began below it would be a counter's reset."""
    for _ in range(times):
        start += growth
    return start


def _text(number: Fraction) -> str:
    return f"{_decimal(number):f}"


def _decimal(number: Fraction) -> Decimal:
    return plain(_DIGITS.divide(Decimal(number.numerator), Decimal(number.denominator)))
