"""The breaker's state machine: on a clock, on threads, and against a reference that shares no code."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings as examples
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from pydantic import ValidationError

from mahavishnu.errors import BreakerOpen
from mahavishnu.policies.breaker import Breaker, BreakerGuard
from mahavishnu.protocols import Advice, Outcome, Site
from mahavishnu.testing import VirtualClock
from mahavishnu.units import Duration
from tests.figures import FULL, figure
from tests.metering import metrics_for, value
from tests.policies.breaker_model import ENDS, Direct, Driver, Reference, Tasks, Threads, Told

MS = 1_000_000
OK, BAD, GONE = Outcome.SUCCESS, Outcome.FAILURE, Outcome.CANCELLED


class World:
    """A breaker, its clock and its series."""

    def __init__(
        self, timeout: int | None = 2000 * MS, draw: float = 0.5, advice: Advice | None = None, **said: Any
    ) -> None:
        self.settings = Breaker.model_validate(said)
        self.clock = VirtualClock()
        self.metrics = metrics_for(self.settings)
        site = Site("stripe", self.clock, self.metrics, timeout, lambda: draw, advice)
        guard = self.settings.guard(site)
        assert guard is not None
        self.guard: BreakerGuard = guard

    def call(self, outcome: Outcome = OK, duration: int = MS) -> None:
        """A call that is admitted and ends at once."""
        self.leave(self.begin(), outcome, duration)

    def begin(self) -> object:
        """The permit of a call that is admitted, and waits for nothing else."""
        permit = self.guard.enter()
        self.guard.renew(permit)
        return permit

    def leave(self, permit: object, outcome: Outcome = OK, duration: int = MS) -> None:
        self.guard.leave(permit, outcome, duration, self.clock.now())

    def refused(self) -> int:
        """The retry-after of a call that must be refused."""
        with pytest.raises(BreakerOpen) as caught:
            self.guard.enter()
        assert caught.value.retry_after is not None
        return caught.value.retry_after

    def open(self) -> World:
        """Make it fail until it opens."""
        while self.guard.state == "closed":
            self.call(BAD)
        return self

    def recover(self) -> None:
        """Wait and succeed, three times over: what was lost before may open it once more."""
        for _ in range(3):
            self.clock.advance(self.settings.open_for + 2000 * MS)
            for _ in range(self.settings.probes):
                try:
                    self.call(OK)
                except BreakerOpen:
                    break

    def half_open(self) -> list[object]:
        """Open it, wait, and take every probe."""
        self.open()
        self.clock.advance(self.settings.open_for)
        return [self.begin() for _ in range(self.settings.probes)]


def test_it_opens_at_the_rate_and_not_before_enough_calls() -> None:
    """With 50% of at least 4 calls, the fourth call decides, whichever way it ends."""
    for last in (OK, BAD):
        world = World(failure_rate="50%", min_calls=4)
        for outcome in (BAD, BAD, OK):
            world.call(outcome)
            assert world.guard.state == "closed"
        world.call(last)
        assert world.guard.state == "open"


def test_just_under_the_rate_stays_closed() -> None:
    """33.3334% is more than one in three: the comparison is exact, and 1/3 does not open it."""
    world = World(failure_rate="33.3334%", min_calls=3)
    for outcome in (BAD, OK, OK):
        world.call(outcome)
    assert world.guard.state == "closed"
    world = World(failure_rate="33.3333%", min_calls=3)
    for outcome in (BAD, OK, OK):
        world.call(outcome)
    assert world.guard.state == "open"


def test_half_of_a_thousand_calls_opens_it() -> None:
    """A breaker that counts failures in a row never opens at 50% (D23); this one does, by default."""
    world = World()
    for number in range(1000):
        if world.guard.state == "closed":
            world.call(BAD if number % 2 else OK)
    assert world.guard.state == "open"
    assert value(world.metrics, "mahavishnu_breaker_calls_total") == 20


def test_slow_calls_open_it_without_a_failure() -> None:
    """Only what takes longer than `slow_call` is slow; without `slow_rate` the failure rate holds."""
    world = World(slow_call="1s", failure_rate="25%", min_calls=2)
    for _ in range(6):
        world.call(OK, 1000 * MS)
    assert world.guard.state == "closed"
    for _ in range(2):
        world.call(OK, 1000 * MS + 1)
    assert world.guard.state == "open"
    counted = [
        value(world.metrics, "mahavishnu_breaker_calls_total", speed=speed) for speed in ("slow", "fast")
    ]
    assert counted == [2, 6]


def test_failures_in_a_row_open_it() -> None:
    """One success between them starts the count anew, and rates are not judged when nobody asked."""
    world = World(consecutive_failures=3, min_calls=1)
    for outcome in (BAD, BAD, OK, BAD, BAD):
        world.call(outcome)
    assert world.guard.state == "closed"
    world.call(Outcome.TIMEOUT)
    assert world.guard.state == "open"


def test_a_slow_rate_needs_to_know_what_slow_is() -> None:
    """`slow_rate` alone is refused, with the fix in its help."""
    with pytest.raises(ValidationError, match="slow_rate"):
        Breaker.model_validate({"slow_rate": "50%"})


def test_old_calls_leave_the_window() -> None:
    """After a window of silence the failures of before count no more."""
    world = World(failure_rate="50%", min_calls=4, window="20s")
    for _ in range(3):
        world.call(BAD)
    world.clock.advance("20s")
    for _ in range(3):
        world.call(BAD)
    assert world.guard.state == "closed"
    world.clock.advance("19s")
    world.call(BAD)
    assert world.guard.state == "open"


def test_old_slow_calls_leave_the_window() -> None:
    """So do slow ones, a bucket at a time: the running totals stay those of the last twenty."""
    world = World(slow_call="1ms", slow_rate="100%", min_calls=2, window="20s")
    world.call(OK, 2 * MS)
    world.clock.advance("20s")
    for duration in (MS, 2 * MS, 2 * MS):
        world.call(OK, duration)
    world.clock.advance("19s")
    world.call(OK, MS)
    assert world.guard.state == "closed"
    closed: Any = world.guard.enter()
    for _ in range(50):
        world.clock.advance("7s")
        world.call(OK, MS)
        world.call(OK, 2 * MS)
    assert closed.window.totals == [6, 0, 3]


def test_the_retry_after_is_exact() -> None:
    """One nanosecond before it is over it still refuses; then the first call is a probe."""
    world = World(consecutive_failures=1, open_for="30s").open()
    wait = world.refused()
    assert wait == Duration.parse("30s")
    world.clock.advance(wait - 1)
    assert world.refused() == 1
    world.clock.advance(1)
    world.guard.enter()
    assert world.guard.state == "half_open"


def test_refusals_are_never_counted() -> None:
    """Refused calls move no series of judged calls and do not prolong the open time."""
    world = World(consecutive_failures=1, open_for="30s").open()
    judged = value(world.metrics, "mahavishnu_breaker_calls_total")
    for _ in range(100):
        world.refused()
    assert value(world.metrics, "mahavishnu_breaker_calls_total") == judged == 1
    assert world.refused() == Duration.parse("30s")


def test_half_open_lets_only_its_probes_through() -> None:
    """While three probes are out everybody else is refused, until the first lease ends at the latest."""
    world = World(consecutive_failures=1, probes=3)
    world.half_open()
    assert world.refused() == 2000 * MS


@pytest.mark.parametrize(
    ("reports", "then"),
    [
        ([BAD, BAD], "open"),
        ([OK, OK], "closed"),
        ([BAD, OK], "half_open"),
        ([BAD, OK, OK], "closed"),
        ([OK, BAD, BAD], "open"),
        ([OK, GONE, GONE], "half_open"),
    ],
)
def test_probes_decide_as_soon_as_they_can(reports: list[Outcome], then: str) -> None:
    """With 3 probes at 50%, two of a kind decide, early; cancelled ones decide nothing."""
    world = World(failure_rate="50%", min_calls=1, probes=3)
    for probe, outcome in zip(world.half_open(), reports, strict=False):
        world.leave(probe, outcome)
    assert world.guard.state == then


def test_slow_probes_open_it_again() -> None:
    """A dependency that answers, but slowly, is not well."""
    world = World(slow_call="100ms", slow_rate="60%", min_calls=1, consecutive_failures=1, probes=3)
    probes = world.half_open()
    world.leave(probes[0], OK, 200 * MS)
    assert world.guard.state == "half_open"
    world.leave(probes[1], OK, 200 * MS)
    assert world.guard.state == "open"


def test_a_lost_probe_counts_as_failed() -> None:
    """When leases run out half open cannot stick (D25): it opens, and stays so when the late results are failures."""
    world = World(failure_rate="50%", min_calls=1, probes=3, open_for="30s")
    probes = world.half_open()
    world.clock.advance(2000 * MS)
    assert world.refused() == Duration.parse("60s")
    assert world.guard.state == "open"
    for probe in probes:
        world.leave(probe, BAD)
        world.leave(probe, OK)  # a report of that which was made
    assert world.refused() == Duration.parse("60s")


def test_what_is_well_but_slow_closes_it_again() -> None:
    """Probes that outlast their lease, while others call: as soon as enough of them are back, and well, it closes."""
    world = World(failure_rate="50%", min_calls=1, probes=3, open_for="30s")
    probes = world.half_open()
    world.clock.advance(2000 * MS)
    world.refused()
    assert world.guard.state == "open"
    world.leave(probes[0], GONE)
    world.leave(probes[1], OK)
    assert world.guard.state == "open"
    world.leave(probes[2], OK)
    assert world.guard.state == "closed"
    world.leave(probes[0], BAD)
    assert world.guard.state == "closed"


def test_a_late_result_says_nothing_of_what_came_after() -> None:
    """Once it was switched, or probes anew, a probe of an earlier round closes nothing."""
    world = World(consecutive_failures=1, probes=1, open_for="30s")
    (probe,) = world.half_open()
    world.clock.advance(2000 * MS)
    world.refused()
    world.clock.advance("60s")
    world.guard.enter()
    world.leave(probe, OK)
    assert world.guard.state == "half_open"


def test_a_probe_that_has_not_begun_is_not_lost() -> None:
    """What it waits for is not the dependency: it keeps its place, and once it begins its lease does."""
    world = World(consecutive_failures=1, probes=1).open()
    world.clock.advance("30s")
    waits = world.guard.enter()
    world.clock.advance(5000 * MS)
    assert world.refused() == 2000 * MS
    assert world.guard.state == "half_open"
    world.guard.renew(waits)
    world.clock.advance(1999 * MS)
    assert world.refused() == MS
    world.leave(waits, OK)
    assert world.guard.state == "closed"


@pytest.mark.parametrize(("result", "then"), [(OK, "closed"), (BAD, "open"), (GONE, "open")])
def test_a_result_that_comes_after_its_lease_is_what_it_is(result: Outcome, then: str) -> None:
    """Where nobody has called in the meantime; a call that is given up only then has failed."""
    world = World(consecutive_failures=1, probes=1)
    (probe,) = world.half_open()
    world.clock.advance(2000 * MS)
    world.leave(probe, result)
    assert world.guard.state == then


def test_of_the_others_a_failure_is_assumed_at_once() -> None:
    """When one is back too late, those that are not have failed."""
    world = World(failure_rate="50%", min_calls=1, probes=3)
    probes = world.half_open()
    world.clock.advance(2000 * MS)
    world.leave(probes[0], OK)
    assert world.guard.state == "open"
    world.leave(probes[1], OK)
    assert world.guard.state == "closed"


def test_a_probe_that_makes_progress_keeps_its_lease() -> None:
    """A streamed answer renews the lease with every part; only silence loses it."""
    world = World(consecutive_failures=1, probes=1)
    (probe,) = world.half_open()
    for _ in range(10):
        world.clock.advance(1999 * MS)
        world.guard.renew(probe)
    assert world.refused() == 2000 * MS
    world.leave(probe, OK)
    assert world.guard.state == "closed"
    world.guard.renew(probe)


def test_a_lost_probe_cannot_be_renewed() -> None:
    """Progress that comes too late brings nothing back: the probe has been counted as failed."""
    world = World(failure_rate="50%", min_calls=1, probes=4)
    lost, *others = world.half_open()
    world.clock.advance(1999 * MS)
    for probe in others:
        world.guard.renew(probe)
    world.clock.advance(MS)
    world.leave(others[0], OK)
    world.guard.renew(lost)
    world.leave(others[1], OK)
    assert world.guard.state == "half_open"
    world.leave(others[2], OK)
    assert world.guard.state == "closed"


def test_without_a_timeout_the_lease_is_the_open_time() -> None:
    """A dependency without `timeout` still cannot hold a probe for ever."""
    world = World(timeout=None, consecutive_failures=1, probes=1, open_for="7s")
    world.half_open()
    assert world.refused() == Duration.parse("7s")


def test_a_cancelled_call_is_nothing() -> None:
    """Closed, it counts neither way (D21); half open, its permit returns and nothing is decided (D20)."""
    world = World(consecutive_failures=1, min_calls=1, probes=1)
    for _ in range(100):
        world.call(GONE)
    assert (world.guard.state, value(world.metrics, "mahavishnu_breaker_calls_total")) == ("closed", 0)
    (probe,) = world.half_open()
    world.leave(probe, GONE)
    assert world.guard.state == "half_open"
    world.call(OK)
    assert world.guard.state == "closed"


def test_late_results_of_an_older_generation_change_nothing() -> None:
    """A success from before the trip does not close it, a failure from before opens nothing (M10)."""
    world = World(consecutive_failures=1, probes=1)
    before = [world.guard.enter() for _ in range(4)]
    world.leave(before[0], BAD)
    assert world.guard.state == "open"
    world.leave(before[1], OK)
    assert world.guard.state == "open"
    world.clock.advance("30s")
    probe = world.guard.enter()
    world.leave(before[2], BAD)
    assert world.guard.state == "half_open"
    world.leave(probe, OK)
    world.leave(before[3], BAD)
    world.leave(probe, BAD)
    assert world.guard.state == "closed"


def test_a_probe_of_a_decided_round_changes_nothing() -> None:
    """Two of three have decided; the third comes late and neither prolongs the open time nor closes it."""
    world = World(failure_rate="50%", min_calls=1, probes=3, open_for="30s")
    first, second, third = world.half_open()
    world.leave(first, BAD)
    world.leave(second, BAD)
    world.clock.advance("1s")
    world.leave(third, BAD)
    assert world.refused() == Duration.parse("59s")
    world.clock.advance("59s")
    first, second, third = (world.guard.enter() for _ in range(3))
    world.leave(first, OK)
    world.leave(second, OK)
    closed = world.guard.enter()
    world.leave(third, OK)
    assert world.guard.enter() is closed


def test_the_open_time_is_spread_by_a_fifth() -> None:
    """So that a fleet does not probe all at once: 24 to 36 seconds where it says 30."""
    for draw, seconds in ((0.0, 24), (0.5, 30), (1.0, 36)):
        world = World(draw=draw, consecutive_failures=1, open_for="30s").open()
        assert world.refused() == seconds * 1000 * MS


def test_the_open_time_has_a_ceiling_of_its_own() -> None:
    """Ten times `open_for` when nothing is said; less than `open_for` is refused."""
    world = World(consecutive_failures=1, open_for="1s", probes=1)
    waits: list[int] = []
    for _ in range(8):
        world.call(BAD)
        waits.append(world.refused() // (1000 * MS))
        world.clock.advance(world.refused())
    assert waits == [1, 2, 4, 8, 10, 10, 10, 10]
    with pytest.raises(ValidationError, match="max_open_for"):
        Breaker.model_validate({"open_for": "30s", "max_open_for": "29s"})


def test_a_group_with_one_recorded_failure_is_one() -> None:
    """Ignored and recorded together: the failure counts; what is only ignored is nothing."""
    world = World(consecutive_failures=1, ignore=["ValueError"])
    failed, ignored = (BAD, frozenset({"KeyError"})), (BAD, frozenset({"ValueError", "Exception"}))
    permit = world.guard.enter()
    world.guard.leave(permit, BAD, MS, world.clock.now(), (ignored, ignored))
    assert world.guard.state == "closed"
    world.guard.leave(permit, BAD, MS, world.clock.now(), (ignored, failed))
    assert world.guard.state == "open"


def test_what_was_cut_short_is_nothing_whatever_is_recorded() -> None:
    """A call that its request has ended says nothing, though it is a timeout by name."""
    world = World(consecutive_failures=1, failure_on=["timeout"])
    permit = world.guard.enter()
    late = (Outcome.TIMEOUT, frozenset({"timeout"}))
    world.guard.leave(permit, GONE, MS, world.clock.now(), (late,))
    assert world.guard.state == "closed"
    world.guard.leave(permit, Outcome.TIMEOUT, MS, world.clock.now(), (late,))
    assert world.guard.state == "open"


@pytest.mark.parametrize(
    "word", ["Declined", "BaseException", "KeyboardInterrupt", "shop.errors.declined", 200, True]
)
def test_a_word_that_can_never_be_is_refused(word: object) -> None:
    """An exception is Python's own, or has its module; a status is one of a failure."""
    for key in ("ignore", "failure_on"):
        with pytest.raises(ValidationError):
            Breaker.model_validate({key: [word]})


def test_good_calls_are_counted_without_being_judged() -> None:
    """While it is well: they join the window when it matters, and the series whenever it is read."""
    world = World(failure_rate="50%", min_calls=4)
    told: list[tuple[int, int]] = []
    world.guard.told = lambda fresh, ns: told.append((fresh, ns))
    closed: Any = world.guard.enter()
    world.call(OK)
    assert (closed.well, closed.until, closed.passes) == (True, 1500 * MS, True)
    closed.fresh, closed.ns = 2, 7 * MS
    assert value(world.metrics, "mahavishnu_breaker_calls_total") == 3
    closed.fresh, closed.ns = 2, 5 * MS
    world.call(BAD)
    assert (closed.well, closed.until, closed.window.totals) == (False, 0, [6, 1, 0])
    assert told == [(2, 7 * MS), (2, 5 * MS)]
    closed.fresh += 1
    for _ in range(4):
        world.call(BAD)
    assert value(world.metrics, "mahavishnu_breaker_calls_total") == 11
    assert world.guard.state == "closed"
    world.call(BAD)
    assert world.guard.state == "open"
    assert told == [(2, 7 * MS), (2, 5 * MS), (1, 0)]


def test_whoever_still_has_its_permit_finds_that_it_is_no_longer_closed() -> None:
    """Nothing is counted any more without being judged; and no other state lets anybody pass who does not ask."""
    world = World(consecutive_failures=2, probes=1)
    closed: Any = world.guard.enter()
    world.call(OK)
    assert closed.until > 0
    world.guard.become(world.settings.model_copy(update={"mode": "open"}), None)
    assert (closed.until, world.guard.now_state.passes) == (0, False)
    world.guard.become(world.settings, None)
    world.open()
    assert not world.guard.now_state.passes
    world.clock.advance("60s")
    world.guard.enter()
    assert (world.guard.state, world.guard.now_state.passes) == ("half_open", False)


def test_it_is_well_again_when_what_was_wrong_has_left_the_window() -> None:
    """A failure, a slow call, and the row of failures: each keeps it from being well."""
    for outcome, duration in ((BAD, MS), (OK, 20 * MS)):
        world = World(slow_call="10ms", min_calls=100, consecutive_failures=5)
        world.call(outcome, duration)
        closed: Any = world.guard.enter()
        world.call(OK)
        assert not closed.well
        world.clock.advance("30s")
        world.call(OK)
        assert closed.well


def test_it_goes_on_under_another_window() -> None:
    """A reload keeps what is in the window, whatever its buckets are now; of the same window, every bucket."""
    for window, left in (("40s", [4, 3, 0]), ("20s", [3, 2, 0]), ("10s", [4, 3, 0])):
        world = World(failure_rate="90%", min_calls=100, window="20s")
        world.call(BAD)
        world.clock.advance("15s")
        world.call(OK)
        world.call(BAD)
        world.guard.become(world.settings.model_copy(update={"window": Duration.parse(window)}), None)
        world.clock.advance("6s")
        world.call(BAD)
        closed: Any = world.guard.enter()
        assert closed.window.totals == left
        world.clock.advance("1m")
        world.call(BAD)
        assert closed.window.totals == [1, 1, 0]


class Colleague:
    """What the store hears from a breaker, and what it would tell it."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []
        self.asked: list[Callable[[int], object]] = []

    def tell_open(self, name: str, span: int) -> None:
        self.told.append((name, span))

    def ask_open(self, name: str, told: Callable[[int], object]) -> None:
        self.asked.append(told)


def test_a_breaker_of_the_fleet_tells_when_it_opens() -> None:
    """For how long; one that keeps to itself, observes, or is told itself, tells nothing."""
    fleet: dict[str, Any] = {"scope": "fleet"}
    cases: list[tuple[dict[str, Any], int]] = [(fleet, 1), ({}, 0), ({**fleet, "mode": "observe"}, 0)]
    for said, told in cases:
        colleague = Colleague()
        World(advice=colleague, consecutive_failures=1, **said).open()
        assert colleague.told == [("stripe", 30_000 * MS)] * told


def test_a_breaker_of_the_fleet_takes_advice_once_something_is_wrong() -> None:
    """It asks once for each bucket; while it sees nothing but successes it knows better."""
    colleague = Colleague()
    world = World(advice=colleague, scope="fleet", min_calls=100)
    world.clock.advance("60s")
    for _ in range(5):
        world.call(OK)
    assert len(colleague.asked) == 1
    colleague.asked[0](5000 * MS)
    assert world.guard.state == "closed"
    world.clock.advance("1500ms")
    world.call(BAD)
    assert len(colleague.asked) == 2
    colleague.asked[1](5000 * MS)
    assert (world.guard.state, world.refused(), colleague.told) == ("open", 5000 * MS, [])
    colleague.asked[1](9000 * MS)
    assert world.refused() == 5000 * MS


def test_observing_it_shows_its_state_and_refuses_nobody() -> None:
    """With `mode: observe` calls pass while it would be open, uncounted, and its probes still decide."""
    world = World(consecutive_failures=1, mode="observe", probes=1).open()
    assert not world.guard.refuses()
    for _ in range(10):
        permit = world.guard.enter()
        assert world.guard.observed(permit)
        world.leave(permit, BAD)
    assert value(world.metrics, "mahavishnu_breaker_state", state="open") == 1
    world.clock.advance("30s")
    probe, other = world.guard.enter(), world.guard.enter()
    assert [world.guard.observed(one) for one in (probe, other)] == [False, True]
    world.leave(other, BAD)
    world.leave(probe, OK)
    assert world.guard.state == "closed"


def test_switched_off_it_guards_nothing() -> None:
    """With `mode: off` there is no guard; nor a series or an alert, as test_contract.py shows."""
    assert Breaker(mode="off").guard(Site("stripe", VirtualClock(), metrics_for())) is None


def test_its_series_show_every_state_and_transition() -> None:
    """Exactly one state is 1 at any time, and each transition is counted once."""
    world = World(consecutive_failures=1, probes=1)

    def states() -> dict[str, float]:
        names = ("closed", "open", "half_open")
        return {name: value(world.metrics, "mahavishnu_breaker_state", state=name) for name in names}

    assert states() == {"closed": 1, "open": 0, "half_open": 0}
    (probe,) = world.half_open()
    assert states() == {"closed": 0, "open": 0, "half_open": 1}
    world.leave(probe, BAD)
    assert states() == {"closed": 0, "open": 1, "half_open": 0}
    counted = [value(world.metrics, "mahavishnu_breaker_transitions_total", to=to) for to in states()]
    assert counted == [0, 2, 1]
    world.clock.advance("2m")
    assert states() == {"closed": 0, "open": 0, "half_open": 1}, "nobody called, and nobody would be refused"


def test_it_tells_whether_trying_again_is_of_any_use() -> None:
    """Open it refuses everybody, until its time is over."""
    world = World(consecutive_failures=1)
    assert not world.guard.refuses()
    world.open()
    assert world.guard.refuses()
    world.clock.advance("30s")
    assert not world.guard.refuses()
    assert World(mode="open").guard.refuses()
    assert not World(mode="closed").guard.refuses()


def test_it_is_busy_while_somebody_decides() -> None:
    """Who must not wait asks before."""
    guard: Any = World().guard
    assert not guard.busy()
    with guard._lock:
        assert guard.busy()


def test_every_probe_is_counted_and_no_other_report_of_one() -> None:
    """By how long it took, also when its lease is over; one that was cancelled says nothing."""
    world = World(consecutive_failures=1, probes=3, slow_call="1s")

    def counted() -> list[float]:
        return [value(world.metrics, "mahavishnu_breaker_calls_total", speed=one) for one in ("fast", "slow")]

    first, second, third = world.half_open()
    assert counted() == [1, 0]
    world.leave(first, OK)
    world.leave(second, OK, 1500 * MS)
    assert counted() == [2, 1]
    world.leave(third, GONE)
    late = world.begin()
    world.clock.advance("2s")
    world.leave(late, OK)
    world.leave(late, OK)
    assert counted() == [3, 1]


def _everybody(count: int, work: Any) -> None:
    """Run `work` in so many threads, all released at the same moment."""
    start = threading.Barrier(count)

    def run(number: int) -> None:
        start.wait()
        work(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_threads_lose_no_count() -> None:
    """Sixteen threads, each with its own share of failures: the running totals are exact."""
    world = World(failure_rate="100%", min_calls=1_000_000)

    def work(number: int) -> None:
        for turn in range(500):
            world.call(BAD if turn % 16 == number else OK, MS)

    _everybody(16, work)
    closed: Any = world.guard.enter()
    failures = sum(len(range(number, 500, 16)) for number in range(16))
    assert closed.window.totals == [8000, failures, 0]


def test_threads_share_the_probes() -> None:
    """Of sixteen threads that come at once to a half-open breaker, exactly three get through."""
    for _ in range(20):
        world = World(consecutive_failures=1, probes=3).open()
        world.clock.advance("30s")
        admitted: list[object] = []

        def work(number: int, world: World = world, admitted: list[object] = admitted) -> None:
            try:
                admitted.append(world.guard.enter())
            except BreakerOpen:
                return

        _everybody(16, work)
        assert len(admitted) == 3


WORDS = st.lists(
    st.sampled_from(
        [
            "timeout",
            404,
            503,
            f"{Told.__module__}.Told",
            f"{Told.__module__}.Declined",
        ]
    ),
    unique=True,
    max_size=3,
).map(tuple)


def _that_fits(said: dict[str, Any]) -> dict[str, Any]:
    """What is slow is said with how many may be; nothing is ignored that is all that counts."""
    failures = {*(said["failure_on"] or ())}
    dead = failures <= {*said["ignore"]} and not (said["slow_call"] and not failures)
    return {
        **said,
        "slow_rate": said["slow_rate"] if said["slow_call"] else None,
        "failure_on": None if dead else said["failure_on"],
    }


RATES = st.sampled_from([None, "25%", "33.3333%", "50%", "99.9%", "100%"])
BREAKERS = st.fixed_dictionaries(
    {
        "failure_rate": RATES,
        "slow_call": st.sampled_from([None, "10ms"]),
        "slow_rate": RATES,
        "consecutive_failures": st.sampled_from([None, None, 1, 2, 5]),
        "min_calls": st.integers(1, 6),
        "window": st.sampled_from(["20ms", "100ms", "33ms"]),
        "open_for": st.sampled_from(["5ms", "50ms"]),
        "max_open_for": st.sampled_from([None, "50ms", "150ms"]),
        "probes": st.integers(1, 5),
        "failure_on": st.one_of(st.none(), st.none(), WORDS),
        "ignore": st.one_of(st.just(()), WORDS),
        "mode": st.sampled_from(["enforce", "enforce", "enforce", "observe"]),
    }
).map(_that_fits)


class Agreement(RuleBasedStateMachine):
    """The breaker and the reference, driven alike, never disagree on an answer or on the state."""

    steps = 0
    drivers: tuple[Callable[[Breaker, int], Driver], ...] = (Direct,)

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple[int, int | None], int]] = []
        self.waiting: list[tuple[Any, tuple[int, int | None]]] = []

    @initialize(said=BREAKERS, lease=st.sampled_from([3 * MS, 40 * MS]), data=st.data())
    def begin(self, said: dict[str, Any], lease: int, data: st.DataObject) -> None:
        make = data.draw(st.sampled_from(self.drivers))
        self.said = Breaker.model_validate(said)
        self.lease = lease if make is Direct else int(self.said.open_for)
        self.driver = make(self.said, lease)
        self.clock, self.guard = self.driver.clock, self.driver.guard
        self.reference = Reference(self.said, self.lease)

    @rule(waits=st.sampled_from([False, False, True]))
    def enter(self, waits: bool) -> None:
        expected = self.reference.enter(self.clock.now())
        if isinstance(expected, tuple):
            self.waiting.append((self.driver.enter(), expected))
            if not (waits and self.driver.may_wait):
                self.begin_call(-1)
        else:
            with pytest.raises(BreakerOpen) as refused:
                self.driver.enter()
            assert refused.value.retry_after == expected

    @precondition(lambda self: self.waiting)
    @rule(choice=st.randoms(use_true_random=False))
    def begin_one(self, choice: random.Random) -> None:
        """One that has waited for something else is made."""
        self.begin_call(choice.randrange(len(self.waiting)))

    def begin_call(self, number: int) -> None:
        call, ticket = self.waiting.pop(number)
        self.reference.begin(ticket, self.clock.now())
        self.driver.begin(call)
        self.calls.append((call, ticket, self.clock.now()))

    @precondition(lambda self: self.waiting)
    @rule(choice=st.randoms(use_true_random=False))
    def give_up(self, choice: random.Random) -> None:
        """One has waited for nothing."""
        call, ticket = self.waiting.pop(choice.randrange(len(self.waiting)))
        self.reference.leave(ticket, ENDS["gone"](), 0, self.clock.now())
        self.driver.leave(call, ENDS["gone"]())

    @precondition(lambda self: self.calls)
    @rule(choice=st.randoms(use_true_random=False), end=st.sampled_from(["ok", "ok", "ok", *ENDS]))
    def leave(self, choice: random.Random, end: str) -> None:
        call, ticket, began = self.calls.pop(choice.randrange(len(self.calls)))
        how = ENDS[end]()
        self.reference.leave(ticket, how, self.clock.now() - began, self.clock.now())
        self.driver.leave(call, how)

    @rule(by=st.sampled_from([1, MS // 2, MS, 3 * MS, 5 * MS, 21 * MS, 100 * MS]))
    def wait(self, by: int) -> None:
        self.clock.advance(by)

    @rule(mode=st.sampled_from(["enforce", "enforce", "observe", "open", "closed"]))
    def switch(self, mode: str) -> None:
        """A reload says another mode."""
        said = self.reference.said.model_copy(update={"mode": mode})
        self.reference.become(said, self.clock.now())
        self.guard.become(said, self.lease if self.driver.__class__ is Direct else None)

    def teardown(self) -> None:
        """From wherever it is, a dependency that is well again closes it: nothing is stuck for ever."""
        if not hasattr(self, "guard"):
            return
        for call, *_ in (*self.calls, *self.waiting):
            self.driver.leave(call, ENDS["gone"]())
        self.guard.become(self.reference.said.model_copy(update={"mode": "enforce"}), None)
        for _ in range(3):
            self.clock.advance(20 * int(self.said.open_for) + 2000 * MS)
            for _ in range(self.said.probes):
                try:
                    call = self.driver.enter()
                    self.driver.begin(call)
                    self.driver.leave(call, ENDS["ok"]())
                except BreakerOpen:
                    break
        self.driver.close()
        assert self.guard.state == "closed"

    @invariant()
    def agree(self) -> None:
        Agreement.steps += 1
        if hasattr(self, "guard"):
            assert self.guard.state == self.reference.state


class InTheProcess(Agreement):
    """The same, driven by tasks and by threads."""

    drivers = (Tasks, Threads)


@pytest.mark.parametrize("machine", [Agreement, InTheProcess])
def test_it_agrees_with_the_reference(machine: type[Agreement]) -> None:
    """A quick look at every commit."""
    short = examples(max_examples=40, stateful_step_count=40)
    run_state_machine_as_test(machine, settings=short)


@pytest.mark.proof
def test_many_thousand_steps_agree_with_the_reference() -> None:
    """The same machines, at length: on a fake clock, on tasks and on threads."""
    Agreement.steps = 0
    often, wanted = (10_000, 50_000) if FULL else (150, 10_000)
    long = examples(max_examples=often, stateful_step_count=50)
    run_state_machine_as_test(Agreement, settings=long)
    run_state_machine_as_test(InTheProcess, settings=long)
    figure(
        "breaker: steps of fake clock, tasks and threads that agree with a reference",
        f"{wanted:,}, 0 apart",
        f"{Agreement.steps:,}, 0 apart",
    )
    assert Agreement.steps >= wanted
