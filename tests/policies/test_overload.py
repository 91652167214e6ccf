"""Three times as much as a service can do: what it still does, what it finds out of itself, and whom it serves."""

from __future__ import annotations

from typing import Any

import pytest

from mahavishnu.policies._gradient import LEAST, START, WINDOW, Gradient
from mahavishnu.policies._slowdown import ENOUGH
from tests.figures import FULL, figure
from tests.policies.overload import WORK, Load, Seen, Simulation

SECOND = 10**9
ADAPTIVE: dict[str, Any] = {"concurrency": "adaptive"}
RANKED: dict[str, Any] = {
    **ADAPTIVE,
    "queue": 50,
    "critical": [{"path": "/checkout"}],
    "sheddable": [{"path": "/search"}],
}
MIX = (0.1, 0.6, 0.3)


def seen(**load: Any) -> Seen:
    """What became of one simulated run."""
    return Simulation(Load(**load)).run()


# --- the service --------------------------------------------------------------------------------------


def test_without_a_limit_the_service_collapses() -> None:
    """The model is one that needs a limit: at twice its capacity nobody is answered in time, at 70 % everybody."""
    assert seen(times=2, minutes=1).goodput < 0.05
    assert seen(times=0.7, minutes=1).goodput > 0.65


def test_an_adaptive_limit_keeps_it_at_work() -> None:
    """Nine tenths of what it can do is done, and the limit is near what it can do at once."""
    one = seen(spec=ADAPTIVE, work="uniform", minutes=2)

    assert one.goodput > 0.9
    assert one.limit() == pytest.approx(20, rel=0.2)


def test_what_matters_is_served_to_the_last() -> None:
    """Not one critical request is turned away while there is any other, at six times the capacity."""
    one = seen(spec=RANKED, ranks=MIX, times=6, minutes=2)

    assert one.refused["critical"] == 0
    assert one.good["critical"] > 0.99 * one.asked["critical"]
    assert one.goodput > 0.9
    assert one.good["sheddable"] < 0.05 * one.good["normal"]


def test_without_load_nobody_is_refused() -> None:
    """Half of what it can do: all are served, and the limit does not stand in their way."""
    one = seen(spec=RANKED, ranks=MIX, times=0.5, minutes=2)

    assert sum(one.refused.values()) == 0


def test_a_service_that_slows_down_is_followed() -> None:
    """Everything takes three times as long from now on: as much side by side as before, after a while."""

    def slower(now: float) -> float:
        return 3 if now > 60 else 1

    one = seen(spec=ADAPTIVE, work="uniform", minutes=6, slower=slower, patience=3)

    assert one.limit() == pytest.approx(20, rel=0.2)
    assert one.goodput > 0.9 / 3


def test_observing_finds_the_same_limit() -> None:
    """What is only watched may collapse; what would have helped is known all the same."""
    one = seen(spec={**ADAPTIVE, "mode": "observe"}, work="uniform", minutes=1, times=0.9)

    assert one.limit() >= 16


@pytest.mark.proof
def test_goodput_and_convergence_over_seeds_and_kinds_of_work() -> None:
    """Every kind of work, several sizes and seeds, with and without ranks."""
    sizes = (20, 50, 100) if FULL else (20,)
    seeds = range(5) if FULL else range(1)
    bare: list[float] = []
    goodput: list[float] = []
    off: list[float] = []
    lost = asked = 0
    for size in sizes:
        for work in WORK:
            for seed in seeds:
                common: dict[str, Any] = {
                    "capacity": size,
                    "work": work,
                    "seed": seed,
                    "minutes": 4 if FULL else 2,
                }
                bare.append(seen(**{**common, "minutes": 1}).goodput)
                plain = seen(spec=ADAPTIVE, **common)
                ranked = seen(spec=RANKED, ranks=MIX, **common)
                goodput += [plain.goodput, ranked.goodput]
                off.append(abs(plain.limit() / size - 1))
                lost += ranked.refused["critical"]
                asked += ranked.asked["critical"]
    runs = len(bare)
    figure(f"goodput at 3x capacity without a limit, {runs} runs, the best", "collapse", f"{max(bare):.0%}")
    figure(f"goodput at 3x capacity, adaptive, {2 * runs} runs, the worst", "> 90 %", f"{min(goodput):.1%}")
    figure("distance of the limit from the true capacity, the largest", "20 %", f"{max(off):.1%}")
    figure(f"critical requests turned away at 3x capacity, of {asked:,}", 0, lost)
    assert max(bare) < 0.1
    assert min(goodput) > 0.9
    assert max(off) <= 0.2
    assert lost == 0


# --- the algorithm ------------------------------------------------------------------------------------


class Bench:
    """A gradient, and a service that answers after as long as it is told."""

    def __init__(self, most: int = 1000, **more: Any) -> None:
        self.gradient = Gradient(most, 0, **more)
        self.now = 0

    def window(self, took: int | None, *, pressed: bool = True, running: int = 0) -> int:
        """One window of requests that all took as long; the limit after it."""
        if pressed:
            self.gradient.pressed()
        count = max(ENOUGH, self.gradient.limit * WINDOW // (took or WINDOW))
        for _ in range(count):
            self.now += max(WINDOW, 2 * self.gradient.baseline) // count + 1
            self.gradient.sample(self.now, took, running or self.gradient.limit)
        return self.gradient.limit

    def steady(self, took: int, windows: int) -> list[int]:
        return [self.window(took) for _ in range(windows)]


def test_it_starts_with_few_and_grows_while_nothing_gets_slower() -> None:
    """Up to the most it may; never beyond."""
    bench = Bench(most=100)
    assert bench.gradient.limit == START
    assert max(bench.steady(SECOND // 10, 30)) == 100
    assert Bench(most=7).gradient.limit == 7


def test_it_shrinks_when_answers_take_longer() -> None:
    """To what was too much, and not below one."""
    bench = Bench(drains=False)
    bench.steady(SECOND // 10, 10)
    before = bench.gradient.limit
    after = bench.steady(SECOND, 20)
    assert before > after[0] > after[1] > after[2]
    bench.steady(100 * SECOND, 100)
    assert bench.gradient.limit == LEAST + 1


def test_it_stays_while_less_than_half_of_it_is_used() -> None:
    """An idle service tells nothing of what it can do at once: only how long an answer takes."""
    bench = Bench()
    bench.window(SECOND // 10)
    before = bench.gradient.limit
    for _ in range(20):
        assert bench.window(SECOND // 2, pressed=False, running=2) == before
    assert bench.gradient.baseline == pytest.approx(SECOND // 2, rel=0.05)


def test_it_does_not_grow_for_ever_under_lasting_overload() -> None:
    """Gradient2's own baseline follows the queue; here 2,000 windows, each as slow as the limit makes it."""
    bench = Bench()
    limits = [bench.window(SECOND // 10 * max(1, bench.gradient.limit / 20).__ceil__()) for _ in range(2000)]
    assert max(limits[100:]) <= 26


def test_a_window_of_unanswered_requests_is_overload() -> None:
    """Clients go before they are answered: there is no duration, and the limit must fall all the same."""
    bench = Bench()
    bench.steady(SECOND // 10, 3)
    before = bench.gradient.limit
    for _ in range(100):
        bench.window(None)
    assert bench.gradient.limit < before / 4


def test_a_few_who_go_do_not_keep_a_window_open() -> None:
    """Of a hundred answers, all of which took as long, one is not waited for: the mean is known as well as before."""

    def ends(gone: int) -> int:
        gradient = Gradient(1000, 0)
        for number in range(1, 10 * ENOUGH):
            gradient.pressed()
            took = None if number % ENOUGH < gone else SECOND // 10
            if gradient.sample(number * WINDOW // ENOUGH, took, START):
                return number
        return 0

    assert ends(0) == ends(1) == ends(5) > 0


def test_a_few_samples_end_a_window_that_lasts_ten_times_as_long() -> None:
    """A service with hardly any requests learns too, later."""
    bench = Bench()
    for _ in range(40):
        bench.gradient.pressed()
        bench.now += SECOND
        bench.gradient.sample(bench.now, SECOND // 10, 20)
    assert bench.gradient.baseline == SECOND // 10
