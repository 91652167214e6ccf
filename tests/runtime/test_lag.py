"""The event loop's lag: measured, shown, and told to the limits that learn from durations."""

from __future__ import annotations

import asyncio
import time
from io import StringIO

import pytest

from mahavishnu.alerts.event_loop import LAG, LATE
from mahavishnu.asgi import Hardening
from mahavishnu.clock import SystemClock
from mahavishnu.runtime.current import forget
from mahavishnu.runtime.lag import PERIOD, Lag
from mahavishnu.runtime.telemetry.metrics import Metrics
from mahavishnu.testing import VirtualClock
from tests.runtime.asgi_client import House, call, harden, limits, run, site
from tests.runtime.requests.test_drain import lifespan

SERIES = "mahavishnu_event_loop_lag_seconds"


class Bench:
    """A sampler, and how often it found the loop too late."""

    def __init__(self, clock: VirtualClock | SystemClock) -> None:
        self.metrics = Metrics({LAG.name: LAG})
        self.told: list[int] = []
        self.lag = Lag(clock, self.metrics, self.told.append)

    @property
    def seen(self) -> tuple[float, float]:
        """How often it has looked, and the sum of what it saw, in seconds."""
        return self.metrics.total(f"{SERIES}_count", {}), self.metrics.total(f"{SERIES}_sum", {})


def test_it_measures_what_comes_too_late() -> None:
    """Ten times a second; a stall is seen once, at its length less what was due."""
    clock = VirtualClock()
    bench = Bench(clock)
    bench.lag.start()
    clock.advance("5s")
    assert bench.seen == pytest.approx((50, 0))

    clock.stall(PERIOD + LATE)
    assert bench.seen == pytest.approx((51, 0.1))
    assert not bench.told
    clock.stall(PERIOD + LATE + 1)
    assert len(bench.told) == 1


def test_it_stops_and_starts_anew() -> None:
    """It leaves no timer behind, and never measures twice at once."""
    clock = VirtualClock()
    bench = Bench(clock)
    for _ in range(3):
        bench.lag.start()
    assert clock.timers == 1
    clock.advance("1s")
    assert bench.seen[0] == 10
    bench.lag.stop()
    bench.lag.stop()
    assert clock.timers == 0
    clock.advance("1s")
    assert bench.seen[0] == 10


async def test_a_blocked_loop_is_seen() -> None:
    """The real loop, held by a handler that sleeps."""
    bench = Bench(SystemClock())
    bench.lag.start()
    await asyncio.sleep(0.01)
    time.sleep(0.35)  # noqa: ASYNC251 - that is the fault
    await asyncio.sleep(0.01)
    bench.lag.stop()
    count, total = bench.seen
    assert (count, len(bench.told)) == (1, 1)
    assert 0.2 < total < 0.35


async def test_a_service_measures_from_its_start_to_its_end() -> None:
    """Started by the server's lifespan, stopped by it; nothing is left."""
    house = harden(site(), limits(whole={"concurrency": "adaptive"}))

    async def during() -> None:
        house.clock.advance("1s")

    await lifespan(house.app, during())
    assert house.samples()[f"{SERIES}_count{{}}"] == 10
    assert house.clock.timers == 0


async def test_it_is_measured_where_no_server_says_that_it_starts() -> None:
    """From the first request on, in real time."""
    forget()
    app = Hardening(site(), limits(whole={"concurrency": "adaptive"}), log_to=StringIO())
    await call(app)
    await asyncio.sleep(2.5 * PERIOD / 10**9)
    assert House(app, VirtualClock(), StringIO()).samples()[f"{SERIES}_count{{}}"] >= 1


def test_a_late_loop_holds_an_adaptive_limit_back() -> None:
    """The same crowd of fast requests lets the limit grow, but not while the loop is late."""

    def limit_after(stall: int) -> float:
        house: House = harden(site(), limits(whole={"concurrency": "adaptive", "max": 500}))

        async def scenario() -> None:
            house.app.service.lag.start()
            for _ in range(200):
                slots = house.app.service.engine.planner.plan("/", "GET").gates[0].gate
                while slots.try_enter(1):
                    pass
                assert await slots.enter(1) is not None
                house.clock.stall(stall)
                house.clock.advance("200ms")
                for _ in range(int(house.gauge("in_flight", "whole"))):
                    slots.leave(10**7)
                await house.clock.settle(2)
            house.app.service.lag.stop()

        run(scenario())
        return house.gauge("quota", "whole")

    assert limit_after(0) == 500
    assert limit_after(400_000_000) <= 20
