"""An adaptive limit of routes that are not equally fast: how many come for which of them is no slowdown."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from starlette.routing import Route

from mahavishnu.policies._gradient import Gradient
from mahavishnu.policies._slowdown import KINDS, Kind, Slowdown
from mahavishnu.series import UNMATCHED
from tests.figures import FULL, figure
from tests.policies.overload import Load, Seen, Simulation
from tests.runtime.asgi_client import harden, limits, ok, run, site

SECOND = 10**9
ADAPTIVE: dict[str, Any] = {"concurrency": "adaptive"}
WAITING: dict[str, Any] = {**ADAPTIVE, "queue": 20, "wait": "200ms"}

Scatter = Callable[[random.Random], float]
Routes = Callable[[float, random.Random], tuple[str, float]]


def always(chance: random.Random) -> float:
    return 1.0


def exponential(chance: random.Random) -> float:
    return chance.expovariate(1)


def lognormal(chance: random.Random) -> float:
    return chance.lognormvariate(-0.5, 1)


def mixed(*shares: float, each: float, fast: float, slow: float, scatter: Scatter = always) -> Routes:
    """Two routes; of so many requests the slow one is asked, each share for so many seconds, the last for ever."""

    def routes(now: float, chance: random.Random) -> tuple[str, float]:
        share = shares[min(int(now / each), len(shares) - 1)]
        path, work = ("/slow", slow) if chance.random() < share else ("/fast", fast)
        return path, work * scatter(chance)

    return routes


def seen(**load: Any) -> Seen:
    return Simulation(Load(**load)).run()


def idle(*shares: float, scatter: Scatter = always, seed: int = 0, each: float = 40) -> Seen:
    """A process that could do a thousand times as much: nothing ever waits for anything."""
    routes = mixed(*shares, each=each, fast=0.001, slow=0.2, scatter=scatter)
    room: dict[str, Any] = {"capacity": 100_000, "service": 1.0, "times": 200 / 100_000, "patience": 10}
    return seen(**room, routes=routes, spec=WAITING, seed=seed, minutes=len(shares) * each / 60)


def refused(one: Seen) -> float:
    """After the first ten seconds, in which a limit that begins with a few still has to grow."""
    came = {ten: count for ten, count in one.came.items() if ten}
    return sum(one.turned_away[ten] for ten in came) / sum(came.values())


# --- an idle process ----------------------------------------------------------------------------------


@pytest.mark.parametrize("scatter", [always, exponential, lognormal])
def test_more_requests_for_a_slow_route_are_no_slowdown(scatter: Scatter) -> None:
    """From one in twenty that takes 200 ms to nineteen in twenty: hardly one is refused at any time."""
    one = idle(0.05, 0.5, 0.95, scatter=scatter)

    assert refused(one) < 0.02
    assert one.worst(since=10) < 0.1


def test_fewer_requests_for_a_slow_route_and_then_more_are_no_slowdown() -> None:
    """The way back, too."""
    assert refused(idle(0.95, 0.05, 0.95)) < 0.02


@pytest.mark.parametrize("scatter", [always, exponential])
def test_a_steady_mix_of_fast_and_slow_is_no_slowdown(scatter: Scatter) -> None:
    """Half of them are two hundred times as slow as the others, all the time."""
    one = idle(0.5, each=120, scatter=scatter)

    assert refused(one) < 0.02
    assert one.worst(since=20) < 0.02


# --- one that has more to do than it can --------------------------------------------------------------


def test_two_routes_that_share_what_is_scarce() -> None:
    """Both become slower together: that is a slowdown, and the limit is near what can be done at once."""
    one = seen(spec=ADAPTIVE, minutes=2, routes=mixed(0.5, each=1, fast=0.2, slow=1.8))

    assert one.goodput > 0.9
    assert one.limit() == pytest.approx(20, rel=0.2)


@pytest.mark.parametrize("seed", range(2))
def test_the_mix_shifts_under_overload(seed: int) -> None:
    """Four times as much work in each, with the same work at a time: the limit stays where it is."""
    routes = mixed(0.1, 0.9, each=30, fast=0.2, slow=1.8)
    one = seen(spec=ADAPTIVE, minutes=2, patience=2, routes=routes, seed=seed)

    assert one.goodput * (0.1 * 0.2 + 0.9 * 1.8) > 0.93
    assert one.limit() == pytest.approx(20, rel=0.2)


@pytest.mark.parametrize(("until", "minutes", "able"), [(120, 2, 0.5), (60, 3, 1)], ids=["slow", "recovered"])
def test_a_service_that_slows_down_and_recovers_is_followed(
    until: float, minutes: float, able: float
) -> None:
    """Twice as long for a while: as many side by side as before, then and afterwards."""

    def slower(now: float) -> float:
        return 2 if 20 < now < until else 1

    one = seen(spec=ADAPTIVE, work="uniform", minutes=minutes, patience=3, slower=slower)

    assert one.limit() == pytest.approx(20, rel=0.2)
    assert one.goodput > 0.9 * able


def test_a_limit_at_its_most_stays_there() -> None:
    """Fewer than it can do: all of them run nearly all the time."""
    one = seen(spec={**ADAPTIVE, "max": 15}, minutes=2, routes=mixed(0.5, each=1, fast=0.2, slow=1.8))

    assert one.limit(0.1) == one.limit(1) == 15
    assert one.goodput > 0.93 * 15 / 20


@pytest.mark.proof
def test_no_mix_over_seeds_is_a_slowdown_and_overload_is_one() -> None:
    """Mixes of an idle process, and of an overloaded one, with work that scatters within each route, too."""
    shares = (0.05, 0.5, 0.95), (0.95, 0.5, 0.05), (0.5,), (0.1,)
    seeds = 3 if FULL else 1
    ways = always, exponential, lognormal
    runs = [(mix, way, seed) for mix in shares for way in ways for seed in range(seeds)]
    away = [refused(idle(*mix, scatter=way, seed=seed, each=120 / len(mix))) for mix, way, seed in runs]
    figure(
        f"refused by an idle process of any mix of routes, {len(away)} runs, the most",
        "< 2 %",
        f"{max(away):.1%}",
    )

    over = {"spec": ADAPTIVE, "minutes": 4, "patience": 2, "times": 4}
    busy = [
        seen(**over, seed=seed, routes=mixed(*mix, each=60, fast=0.2, slow=1.8, scatter=way))
        for mix in pairwise((0.9, 0.3, 0.7))
        for way in (always, exponential)
        for seed in range(seeds)
    ]
    work = [0.2 + 1.6 * share for share in (0.3, 0.7) for _ in range(2 * seeds)]
    good = [one.goodput * each for one, each in zip(busy, work, strict=True)]
    off = max(abs(one.limit() / 20 - 1) for one in busy)
    figure(
        f"goodput as the mix shifts under overload, {len(good)} runs, the worst", "> 90 %", f"{min(good):.1%}"
    )
    figure("distance of the limit from the true capacity then, the largest", "20 %", f"{off:.1%}")
    assert max(away) < 0.02
    assert min(good) > 0.9
    assert off <= 0.2


# --- what is compared ---------------------------------------------------------------------------------


class Window:
    """Durations of some kinds, window by window."""

    def __init__(self) -> None:
        self.slowdown = Slowdown()

    def told(self, **took: int) -> float | None:
        """What a window of a thousand answers of each of these kinds tells."""
        self.slowdown.open()
        for name, each in took.items():
            for _ in range(1000):
                self.slowdown.sample((name, "GET"), each * 10**6)
        return self.slowdown.ratio()


def test_each_kind_is_compared_with_itself() -> None:
    """Where one of two takes four times as long, all take twice as long; where it alone comes, four times."""
    window = Window()
    assert window.told(fast=1, slow=100) is None
    window.slowdown.learn(anew=False)

    assert window.told(slow=100) == pytest.approx(1)
    assert window.told(fast=1) == pytest.approx(1)
    assert window.told(fast=1, slow=400) == pytest.approx(2)
    assert window.told(slow=400) == pytest.approx(4)
    assert window.told(slow=25) == pytest.approx(1 / 4)


def test_a_kind_that_nobody_knows_tells_nothing() -> None:
    """A route that is asked for the first time takes as long as it takes."""
    window = Window()
    window.told(fast=1)
    window.slowdown.learn(anew=False)

    assert window.told(new=900) is None
    assert window.told(fast=1, new=900) == pytest.approx(1)


def test_what_is_known_of_a_few_answers_is_no_proof() -> None:
    """One answer of a route says little of what is usual, where they scatter."""
    slowdown, chance = Slowdown(), random.Random(1)

    def window(count: int) -> float | None:
        slowdown.open()
        for _ in range(count):
            slowdown.sample(("/", "GET"), round(10**8 * chance.expovariate(1)))
        return slowdown.ratio()

    window(2)
    slowdown.learn(anew=False)
    assert window(1000) == 1
    slowdown.learn(anew=False)
    assert window(1000) == pytest.approx(1, abs=0.1)


def test_kinds_are_bounded_and_so_is_their_memory() -> None:
    """Those that are too many are compared as one."""
    slowdown = Slowdown()

    def met(count: int) -> int:
        for number in range(count):
            slowdown.sample((f"/{number}", "GET"), SECOND)
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        few, many = met(2 * KINDS), met(50 * KINDS)
    finally:
        tracemalloc.stop()
    assert many - few < 10_000
    slowdown.learn(anew=False)
    slowdown.open()
    slowdown.sample(("/one too many", "GET"), 2 * SECOND)
    assert slowdown.ratio() == pytest.approx(2)


def test_a_kind_is_the_template_of_a_route_and_a_method(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the path, which nothing bounds: all that no route matches is one kind."""
    kinds: list[Kind] = []

    def sample(self: Gradient, now: int, took: int | None, running: int, kind: Kind) -> bool:
        kinds.append(kind)
        return False

    monkeypatch.setattr(Gradient, "sample", sample)
    house = harden(site(Route("/items/{id}", ok, methods=["GET", "PUT"])), limits(slots=ADAPTIVE))

    async def scenario() -> None:
        for path in ("/items/1", "/items/2", "/none", "/neither"):
            await house.call(path=path)
        await house.call("PUT", "/items/3")

    run(scenario())
    assert set(kinds) == {("/items/{id}", "GET"), ("/items/{id}", "PUT"), (UNMATCHED, "GET")}
