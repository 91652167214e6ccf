"""The throttle: how much it keeps back, of whom, and that what is well again is found out."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mahavishnu.errors import Throttled
from mahavishnu.policies.throttle import Throttle, ThrottleGuard
from mahavishnu.protocols import Leaf, Outcome, Site
from mahavishnu.series import DEPENDENCY_CALLS
from mahavishnu.testing import VirtualClock
from tests.metering import metrics_for, value

OK, BAD, GONE = Outcome.SUCCESS, Outcome.FAILURE, Outcome.CANCELLED
REFUSED: tuple[Leaf, ...] = ((OK, frozenset((429,))),)
BUG: tuple[Leaf, ...] = ((BAD, frozenset((500,))),)


class World:
    """A throttle, its clock, its dice and its series."""

    def __init__(self, draw: Callable[[], float] = lambda: 0.999999, **said: Any) -> None:
        self.settings = Throttle.model_validate(said)
        self.clock = VirtualClock()
        self.draw = draw
        self.metrics = metrics_for(self.settings, also=(DEPENDENCY_CALLS,))
        guard = self.settings.guard(Site("stripe", self.clock, self.metrics, random=self._thrown))
        assert guard is not None
        self.guard: ThrottleGuard = guard

    def _thrown(self) -> float:
        return self.draw()

    def call(self, accepted: bool) -> None:
        """A call that is let out, and ends at once."""
        self.guard.leave(self.guard.enter(), OK, 1, self.clock.now(), () if accepted else REFUSED)

    def calls(self, accepted: int, refused: int) -> None:
        """So many of each, all let out."""
        for number in range(accepted + refused):
            self.call(number < accepted)

    def ratio(self) -> float:
        return value(self.metrics, "mahavishnu_throttle_ratio", dependency="stripe")

    def held(self) -> float:
        return value(self.metrics, "mahavishnu_throttled_total", dependency="stripe")


@pytest.mark.parametrize(
    ("accepted", "refused", "share"),
    [(50, 50, 0), (50, 51, 1 / 102), (25, 75, 50 / 101), (10, 90, 80 / 101), (0, 100, 0.9), (100, 0, 0)],
)
def test_it_keeps_back_what_is_beyond_twice_the_accepted(accepted: int, refused: int, share: float) -> None:
    """(asked - 2 x accepted) / (asked + 1), and never more than `most`."""
    world = World()
    world.calls(accepted, refused)
    assert world.ratio() == pytest.approx(share, abs=1e-9)


def test_how_much_is_too_little_can_be_said() -> None:
    """At 80% it lets a quarter more through than is accepted, at 25% four times as many."""
    for accepts, share in (
        ("80%", (100 - 50 / 0.8) / 101),
        ("25%", 0.0),
        ("50.5%", (100 - 50 / 0.505) / 101),
    ):
        world = World(accepts=accepts)
        world.calls(50, 50)
        assert world.ratio() == pytest.approx(share, abs=1e-9)


def test_the_dice_decide_who_is_kept_back() -> None:
    """A draw below the share is kept back, with a typed error; kept back calls count as asked."""
    world = World()
    world.calls(25, 75)
    world.draw = lambda: 50 / 101 - 1e-9
    with pytest.raises(Throttled, match="50% of the calls are kept back") as caught:
        world.guard.enter()
    assert (caught.value.policy, caught.value.retry_after, world.held()) == ("throttle", None, 1)
    assert world.ratio() == pytest.approx(51 / 102)
    world.draw = lambda: 51 / 102
    world.guard.enter()
    assert world.held() == 1


def test_nothing_is_kept_back_before_enough_calls() -> None:
    """A first failure is no reason: with `min_calls: 20` the twenty-first call may be kept back."""
    world = World(draw=lambda: 0.0)
    for _ in range(20):
        world.call(accepted=False)
    with pytest.raises(Throttled):
        world.guard.enter()


def test_calls_that_hang_are_asked_and_not_accepted() -> None:
    """They throttle before any of them has ended."""
    world = World(draw=lambda: 0.0)
    for _ in range(20):
        world.guard.enter()
    with pytest.raises(Throttled):
        world.guard.enter()


def test_a_cancelled_call_was_not_asked() -> None:
    """Also when its bucket has left the window meanwhile: nothing is taken back twice."""
    world = World()
    world.calls(20, 0)
    permits = [world.guard.enter() for _ in range(80)]
    assert world.ratio() > 0
    for permit in permits[:-1]:
        world.guard.leave(permit, GONE, 1, world.clock.now())
    assert world.ratio() == 0
    world.clock.advance("2m")
    world.guard.leave(permits[-1], GONE, 1, world.clock.now())
    world.calls(20, 20)
    assert world.ratio() == 0
    world.call(accepted=False)
    assert world.ratio() == pytest.approx(1 / 42)


def test_only_what_was_refused_counts() -> None:
    """A bug (500) is an answer; which ends mean that it had no time for us can be said."""
    world = World()
    for _ in range(100):
        world.guard.leave(world.guard.enter(), BAD, 1, world.clock.now(), BUG)
    assert world.ratio() == 0
    world = World(refused_on=[500])
    for _ in range(100):
        world.guard.leave(world.guard.enter(), BAD, 1, world.clock.now(), BUG)
    assert world.ratio() == 0.9


def test_what_is_well_again_is_found_out() -> None:
    """After an outage what still gets through is accepted, so more and more does, until all of it."""
    dice = random.Random(3)
    world = World(draw=dice.random)
    out = 0
    for second in range(600):
        for _ in range(20):
            try:
                world.call(accepted=not 60 <= second < 180)
            except Throttled:
                out += 1
        world.clock.advance("1s")
    assert world.ratio() == 0
    assert 0.6 < out / (20 * 120) < 1.7


def test_the_window_forgets() -> None:
    """Two minutes later nothing is known any more."""
    world = World()
    world.calls(0, 100)
    world.clock.advance("114s")
    assert world.ratio() == 0.9
    world.clock.advance("6s")
    assert world.ratio() == 0


def test_observing_it_keeps_nothing_back() -> None:
    """It counts what it would, and shows the share."""
    world = World(draw=lambda: 0.0, mode="observe")
    world.calls(0, 100)
    assert (world.held(), world.ratio()) == (80, 0.9)
    permit = world.guard.enter()
    assert world.guard.observed(permit)
    world.draw = lambda: 0.9
    assert not world.guard.observed(world.guard.enter())
    world.guard.leave(permit, Outcome.CANCELLED, 1, world.clock.now())
    assert world.held() == 81


def test_switched_off_it_guards_nothing() -> None:
    """With `mode: off` there is no guard; nor a series or an alert, as test_contract.py shows."""
    assert Throttle(mode="off").guard(Site("stripe", VirtualClock(), metrics_for())) is None


def test_some_calls_must_always_get_through() -> None:
    """`most: 100%` would never find out that it is well again, and is refused."""
    with pytest.raises(ValidationError, match="for ever"):
        Throttle.model_validate({"most": "100%"})


def test_it_goes_on_under_other_settings() -> None:
    """A reload keeps what is in the window, whatever its buckets are now."""
    world = World()
    world.calls(25, 75)
    world.guard.become(Throttle.model_validate({"window": "10m", "most": "30%"}), None)
    assert world.ratio() == 0.3
    world.clock.advance("9m")
    assert world.ratio() == 0.3
    world.clock.advance("1m")
    assert world.ratio() == 0


def test_while_all_is_well_nobody_throws_dice() -> None:
    """The short way: a permit at once, or None, uncounted, when somebody may be kept back."""
    world = World()
    world.calls(20, 20)
    permit = world.guard.try_enter(world.clock.now())
    assert permit == world.clock.now() // (world.settings.window // 20)
    assert world.guard.try_enter(world.clock.now()) is None
    assert world.ratio() == pytest.approx(1 / 42)
    assert not world.guard.refuses()


@given(st.lists(st.tuples(st.sampled_from("aarcx"), st.integers(0, 40)), max_size=300))
def test_the_window_is_what_a_list_would_say(steps: list[tuple[str, int]]) -> None:
    """Whatever is asked, accepted, cancelled, and whenever: the same as counting in a list of all calls."""
    world = World(min_calls=1)
    width = world.settings.window // 20
    asked, accepted = list[int](), list[int]()
    out = list[tuple[int, int]]()
    for step, wait in steps:
        world.clock.advance(wait * 1_000_000_000)
        now = world.clock.now() // width
        if step == "x":
            out.append((world.guard.enter(), now))
            asked.append(now)
        elif step == "c" and out:
            permit, began = out.pop(0)
            world.guard.leave(permit, GONE, 1, world.clock.now())
            asked.remove(began)
        elif step != "c":
            world.call(accepted=step == "a")
            asked.append(now)
            accepted.extend([now] * (step == "a"))
        live = [sum(now - one < 20 for one in each) for each in (asked, accepted)]
        share = max(0.0, (live[0] - 2 * live[1]) / (live[0] + 1))
        assert world.ratio() == pytest.approx(min(0.9, share), abs=1e-9)


def test_threads_lose_no_count() -> None:
    """Sixteen threads: every call is asked once and accepted once."""
    world = World(most="99%", min_calls=10**6)

    def work() -> None:
        for turn in range(200):
            world.call(accepted=turn % 4 == 0)

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    world.guard.become(Throttle(), None)
    assert world.ratio() == pytest.approx((3200 - 1600) / 3201)
    assert not world.guard.busy()
