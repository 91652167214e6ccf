"""What no series written by hand shows: idle nights, several replicas, one lost request; and what fires then."""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

import mahavishnu
from examples.shop.firing import firing, samples
from mahavishnu.compile import compile
from mahavishnu.contract import contract
from mahavishnu.errors import BreakerOpen, Throttled
from mahavishnu.policies.breaker import BreakerGuard
from mahavishnu.protocols import Outcome
from mahavishnu.runtime.current import use
from mahavishnu.runtime.dead_letters.redriver import Redriver
from mahavishnu.runtime.dead_letters.sqlite import SqliteLetters
from mahavishnu.runtime.process import Usage
from mahavishnu.runtime.service import start
from mahavishnu.runtime.telemetry.metrics import Metrics
from mahavishnu.spec import Spec
from mahavishnu.testing import VirtualClock
from tests.judges import judge
from tests.monitoring import texts
from tests.runtime.asgi_client import House, harden, limits, ok, site, spec_of
from tests.runtime.dead_letters.letterboxes import keep, letter

pytestmark = pytest.mark.judge
MINUTE = 60 * 10**9


class Prometheus:
    """One sample a minute of each replica; `fired` asks promtool with the rules of the spec."""

    def __init__(self, spec: Spec, folder: Path) -> None:
        self.rules = folder / "rules.yml"
        made = contract(spec)
        self.rules.write_text(next(one.text for one in compile(made) if one.path == "prometheus/rules.yml"))
        self.series: dict[str, list[float | None]] = {}
        self.minutes = 0

    def scrape(self, *replicas: Metrics | None) -> int:
        """Come by at each; None does not answer. The number of this minute."""
        for number, one in enumerate(replicas):
            shown = samples(one.expose()[0].decode() if one else "", "shop")
            shown[next(iter(shown))] = float(one is not None)
            for name, value in shown.items():
                own = name.replace('instance="app"', f'instance="{number}"')
                self.series.setdefault(own, []).extend([None] * (self.minutes - len(self.series[own])))
                self.series[own].append(value)
        self.minutes += 1
        return self.minutes - 1

    def fired(self, minutes: Sequence[int]) -> list[set[str]]:
        """The alerts of each of these minutes, but for those on a promise that nobody tests."""
        padded = {name: [*one, *[None] * (self.minutes - len(one))] for name, one in self.series.items()}
        return [{*names} for names in firing(judge("promtool"), self.rules, padded, minutes)]


class Lock:
    """An app that does one thing after another, however many wait; 10 ms each."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock, self.lock = clock, asyncio.Lock()

    async def serve(self, request: Request) -> Response:
        async with self.lock:
            await self.clock.sleep(10**7)
        return PlainTextResponse("ok")


async def crowded(house: House, clock: VirtualClock, clients: int, until: int) -> None:
    """So many clients, each asking again as soon as it is answered, until this time (ns)."""

    async def client() -> None:
        while clock.now() < until:
            await house.status()
            await clock.sleep(10**7)

    begun = [asyncio.ensure_future(client()) for _ in range(clients)]
    while not all(one.done() for one in begun):
        await clock.settle(3)
        clock.advance(10**7)


@pytest.mark.proof
def test_an_adaptive_limit_that_came_down_fires_while_it_holds_back(tmp_path: Path) -> None:
    """And no longer: it stays where it is when the crowd has gone, and holds nobody back there."""
    spec = limits(work={"concurrency": "adaptive", "max": 4, "queue": 4})
    seen = Prometheus(spec, tmp_path)

    async def life() -> list[int]:
        clock = VirtualClock()
        house = harden(site(Route("/", Lock(clock).serve)), spec, clock=clock)
        meter = house.app.service.metrics
        busy = 0
        for minute in range(1, 13):
            await crowded(house, clock, 10, clock.now() + 5 * 10**9)
            clock.advance(minute * MINUTE - clock.now())
            busy = seen.scrape(meter)
        assert house.gauge("quota", "work") == 1
        quiet = 0
        for minute in range(13, 33):
            await crowded(house, clock, 1, clock.now() + 10**9)
            clock.advance(minute * MINUTE - clock.now())
            quiet = seen.scrape(meter)
        assert house.gauge("quota", "work") == 1
        return [busy, quiet]

    busy, quiet = seen.fired(asyncio.run(life()))
    assert "ShopLimitWorkAtFloor" in busy
    assert quiet == set()


@pytest.mark.parametrize(("objective", "path"), [({}, "/fails"), ({"under": "100ms"}, "/slow")])
def test_the_first_failure_of_a_process_is_counted(
    objective: dict[str, str], path: str, tmp_path: Path
) -> None:
    """Its status has had no series until then, and what begins at 1 never grows to 1."""
    spec = spec_of(slos={"orders": {"objective": "99.9%", "severities": ["P1"], **objective}})
    seen = Prometheus(spec, tmp_path)
    clock = VirtualClock()

    async def slow(request: Request) -> Response:
        clock.advance("200ms")
        return PlainTextResponse("ok")

    async def fails(request: Request) -> Response:
        return PlainTextResponse("no", 503)

    async def life() -> list[int]:
        house = harden(site(Route("/", ok), Route("/slow", slow), Route("/fails", fails)), spec, clock=clock)
        looked: list[int] = []
        for minute in range(6):
            looked.append(seen.scrape(house.app.service.metrics))
            await house.status()
            if minute == 3:
                await house.status(path=path)
            clock.advance(MINUTE)
        return looked

    looked = asyncio.run(life())
    before, after = seen.fired([looked[3], looked[5]])  # promtool may look at alerts before it records
    assert before == set()
    assert after == {"ShopSloOrdersBurnP1", "ShopSloOrdersBudgetExhausted"}


@pytest.mark.parametrize("used", [False, True])
def test_an_objective_without_requests_is_told_of_after_the_hour_it_speaks_of(
    used: bool, tmp_path: Path
) -> None:
    """A process that nobody has asked yet is given as long as one that nobody asks any more."""
    spec = spec_of(slos={"orders": {"objective": "99.9%"}})
    seen = Prometheus(spec, tmp_path)
    clock = VirtualClock()

    async def life() -> None:
        house = harden(site(Route("/", ok)), spec, clock=clock)
        for minute in range(100):
            if (used and minute < 3) or minute >= 90:
                await house.status()
            seen.scrape(house.app.service.metrics)
            clock.advance(MINUTE)

    asyncio.run(life())
    silent = {"ShopSloOrdersNoData"}
    assert [names & silent for names in seen.fired([58, 82, 95])] == [set(), silent, set()]


def test_an_outage_that_is_over_is_no_silence(tmp_path: Path) -> None:
    """Who expects many requests hears within minutes that none comes; and nothing of that when processes come back."""
    spec = spec_of(slos={"orders": {"objective": "99.9%"}}, service={"traffic": "50/second"})
    seen = Prometheus(spec, tmp_path)
    clock = VirtualClock()

    async def life() -> None:
        house = harden(site(Route("/", ok)), spec, clock=clock)
        for minute in range(60):
            if not 10 <= minute < 20:
                await house.status()
            seen.scrape(house.app.service.metrics if minute < 30 or minute >= 45 else None)
            clock.advance(MINUTE)

    asyncio.run(life())
    silent = {"ShopSloOrdersNoData"}
    told = [names & silent for names in seen.fired(range(60))]
    first, *others = [minute for minute, names in enumerate(told) if names]
    assert first in {15, 16}  # in Prometheus 3 the window is one sample shorter
    assert others == [*range(first + 1, 20)]


@pytest.mark.parametrize(("bursts", "wanted"), [(1, set[str]()), (8, {"ShopLimitWorkShedsCritical"})])
def test_a_critical_request_that_is_shed_once_wakes_nobody(
    bursts: int, wanted: set[str], tmp_path: Path
) -> None:
    """One moment is over before anybody is awake; what goes on for minutes is not."""
    spec = limits(work={"concurrency": 1, "critical": [{"path": "/"}]})
    seen = Prometheus(spec, tmp_path)

    async def life() -> int:
        clock = VirtualClock()
        house = harden(site(Route("/", Lock(clock).serve)), spec, clock=clock)
        minute = 0
        for number in range(12):
            await crowded(house, clock, 5 if 0 < number <= bursts else 1, clock.now() + 10**8)
            clock.advance(MINUTE - clock.now() % MINUTE)
            minute = seen.scrape(house.app.service.metrics)
        assert house.decisions("work")[1] > 0
        return minute

    last = asyncio.run(life())
    fired = seen.fired(range(last + 1))
    assert {name for names in fired for name in names if name.endswith("ShedsCritical")} == wanted
    assert not fired[-1] & wanted


def test_one_replica_that_is_gone_does_not_silence_the_others(tmp_path: Path) -> None:
    """`Down` silences every other alert of the service: it is for when none answers."""
    spec = spec_of(deploy={"replicas": {"min": 3, "max": 3}})
    seen, fleet = Prometheus(spec, tmp_path), Fleet(spec, 3)
    for minute in range(60):
        fleet.told(seen, gone={1} if 5 <= minute < 20 else {0, 1, 2} if 35 <= minute < 45 else set[int]())
    one, healed, every, well = seen.fired([19, 34, 44, 59])
    assert (one, every) == ({"ShopReplicaDown"}, {"ShopDown", "ShopReplicaDown"})
    assert healed == well == set()


@pytest.mark.parametrize(("answers", "wanted"), [({0}, {"ShopReplicaDown"}), ({0, 1}, set[str]())])
def test_a_replica_that_answers_now_and_then_is_told_of(
    answers: set[int], wanted: set[str], tmp_path: Path
) -> None:
    """It has never been away for as long as an alert waits, and no other alert of it lasts; one scrape of three that
    fails is nothing."""
    spec = spec_of(deploy={"replicas": {"min": 2, "max": 2}})
    seen, fleet = Prometheus(spec, tmp_path), Fleet(spec, 2)
    for minute in range(30):
        fleet.told(seen, gone=set() if minute % 3 in answers else {0})
    assert seen.fired([29])[0] == wanted


class Fleet:
    """Replicas; where they call a dependency, each has its breaker."""

    def __init__(self, spec: Spec, size: int) -> None:
        self.clock = VirtualClock()
        self.services = [start(spec, self.clock, lambda: Usage(0, 0), io.StringIO()) for _ in range(size)]
        calls = [one for service in self.services for one in service.dependencies.values()]
        self.breakers = [one for each in calls for one in each.guards if isinstance(one, BreakerGuard)]
        for one in self.breakers:
            # The fifth by which it stays open longer may reach into the next minute.
            vars(one)["_random"] = lambda: 0.5

    def call(self, outcome: Outcome, times: int) -> None:
        """So many calls by each of them, half a second apart, as far as the breakers let them."""
        for _ in range(times):
            for one in self.breakers:
                with suppress(BreakerOpen):
                    one.leave(one.enter(), outcome, 10**6, self.clock.now())
            self.clock.advance(5 * 10**8)

    def told(self, seen: Prometheus, gone: Collection[int] = ()) -> int:
        """The minute is over, and Prometheus comes by; those that are gone do not answer."""
        self.clock.advance(MINUTE - self.clock.now() % MINUTE)
        return seen.scrape(
            *(None if number in gone else one.metrics for number, one in enumerate(self.services))
        )


def payment(**breaker: Any) -> Spec:
    """A dependency with this breaker."""
    return spec_of(dependencies={"payment": {"url": "http://payment", "breaker": breaker}})


GOOD, BAD = Outcome.SUCCESS, Outcome.FAILURE
OPEN, RESTLESS = "ShopDependencyPaymentBreakerOpen", "ShopDependencyPaymentBreakerRestless"


@pytest.mark.parametrize(
    ("replicas", "life", "wanted"),
    [
        (1, [BAD] * 60, {OPEN}),  # an outage, and each probe finds it so
        (9, [BAD] * 3 + [GOOD] * 10, {OPEN}),  # one outage, which each replica has noticed
        (1, [BAD, GOOD] * 20, {RESTLESS}),
    ],
    ids=["an outage", "of nine replicas", "in turns"],
)
def test_a_breaker_is_restless_when_it_closes_again_and_again(
    replicas: int, life: list[Outcome], wanted: set[str], tmp_path: Path
) -> None:
    """Not for as long as its probes fail: that is an outage."""
    spec = payment(min_calls=5, open_for="5s", probes=3)
    seen, fleet = Prometheus(spec, tmp_path), Fleet(spec, replicas)
    for outcome in (GOOD, *life):
        fleet.call(outcome, 100)
        fleet.told(seen)
    fired = {name for names in seen.fired(range(seen.minutes)) for name in names}
    assert fired & {OPEN, RESTLESS} == wanted
    if RESTLESS not in wanted:
        return
    for _ in range(40):
        fleet.call(GOOD, 100)
        fleet.told(seen)
    assert not seen.fired([seen.minutes - 1])[0] & wanted


def test_a_breaker_that_stays_open_for_long_is_restless_all_the_same(tmp_path: Path) -> None:
    """Each of its turns takes ten times `open_for` in the end, and so many of them take their time."""
    spec = payment(min_calls=5, open_for="1m", probes=3)
    seen, fleet = Prometheus(spec, tmp_path), Fleet(spec, 1)
    (breaker,) = fleet.breakers
    for _ in range(240):
        for _ in range(100):
            fleet.call(BAD if breaker.state == "closed" else GOOD, 1)  # well enough for a few probes
        fleet.told(seen)
    restless = seen.minutes - 1
    for _ in range(70):
        fleet.call(GOOD, 20)
        fleet.told(seen)
    assert [RESTLESS in names for names in seen.fired([1, restless, seen.minutes - 1])] == [
        False,
        True,
        False,
    ]


@pytest.mark.parametrize("most", ["5%", "90%"])
def test_a_throttle_that_keeps_back_all_it_may_is_told_of(most: str, tmp_path: Path) -> None:
    """However little that is."""
    spec = spec_of(dependencies={"payment": {"throttle": {"most": most}}})
    seen, fleet = Prometheus(spec, tmp_path), Fleet(spec, 1)
    use(fleet.services[0])

    @mahavishnu.dependency("payment")
    def refuses() -> None:
        raise ConnectionError

    def minute(calls: int) -> int:
        for _ in range(calls):
            with suppress(ConnectionError, Throttled):
                refuses()
        return fleet.told(seen)

    idle, *_, refused = [minute(calls) for calls in (0, *[300] * 15)]
    *_, healed = [minute(0) for _ in range(15)]
    name = "ShopDependencyPaymentThrottled"
    assert [name in names for names in seen.fired([idle, refused, healed])] == [False, True, False]


def test_what_is_tried_once_has_no_budget_to_exhaust() -> None:
    """No retry is ever denied, so nobody is promised an alert on it."""
    once, twice = (contract(spec_of(dependencies={"payment": {"retry": {"attempts": n}}})) for n in (1, 2))
    exhausted = "ShopDependencyPaymentRetryBudgetExhausted"
    assert [exhausted in {alert.name for alert in one.alerts} for one in (once, twice)] == [False, True]
    assert compile(once)  # which has nothing against series that no rule asks for


def test_a_breaker_that_is_held_says_so(tmp_path: Path) -> None:
    """Held open it alerts, and nothing of probes is said; held closed it can never open, and has no alert."""
    spec = payment(mode="open")
    seen, fleet = Prometheus(spec, tmp_path), Fleet(spec, 1)
    for _ in range(10):
        fleet.call(GOOD, 5)
        fleet.told(seen)
    assert OPEN in seen.fired([seen.minutes - 1])[0]
    (alert,) = [one for one in contract(spec).alerts if one.path[-1] == "breaker"]
    assert "held open by its `mode`" in alert.meaning
    assert "probes" not in alert.meaning + alert.action
    held = contract(payment(mode="closed"))
    assert [one for one in held.alerts if one.path[-1] == "breaker"] == []
    assert compile(held)  # which has nothing against series that no rule asks for


def test_a_worker_whose_loop_is_late_is_not_outweighed_by_those_that_rest(tmp_path: Path) -> None:
    """One of four blocks, and looks at its loop less often for it than the others at theirs."""
    spec = spec_of(service={"workers": 4})
    seen = Prometheus(spec, tmp_path)
    clocks = [VirtualClock() for _ in range(4)]
    busy, *resting = workers = [start(spec, clock, lambda: Usage(0, 0), io.StringIO()) for clock in clocks]
    busy.metrics.cells.together = lambda own: [own, *(one.metrics.snapshot() for one in resting)]
    for one in workers:
        one.lag.start()
    for minute in range(45):
        if 8 <= minute < 25:
            for _ in range(60):
                clocks[0].stall("900ms")
        for clock in clocks:
            clock.advance((minute + 1) * MINUTE - clock.now())
        seen.scrape(busy.metrics)
    before, during, after = seen.fired([7, 24, 44])
    assert during == {"ShopEventLoopLagging"}
    assert before == after == set()


@pytest.mark.parametrize("mode", ["observe", "enforce"])
def test_a_limit_that_observes_says_that_nobody_is_refused(mode: str) -> None:
    """Each sentence of an alert is true of the mode in which its limit is."""
    rates: list[dict[str, Any]] = [{"rate": "10/minute"}, {"rate": "10/minute", "per": "global"}]
    others: list[dict[str, Any]] = [{"timeout": "1s"}, {"body": "1KiB"}]
    places: list[dict[str, Any]] = [{"concurrency": 4}, {"concurrency": "adaptive"}]
    said = {f"limit_{place}": {**one, "mode": mode} for place, one in enumerate([*rates, *places, *others])}
    alerts = [one for one in contract(limits(**said)).alerts if one.path[-1] in said]
    assert len(alerts) == 2 + 2 + 2 + 2 + 1 + 1
    for one in alerts:
        text = f"{one.summary} {one.meaning} {one.impact}"
        claims = re.search(r"(?<!or )\b(are|is|and) refused|turned away:|get 504|not accepted", text)
        assert (claims is not None) is (mode == "enforce"), text


@pytest.mark.parametrize(
    ("large", "wanted"), [(1, set[str]()), (9, set[str]()), (14, {"ShopLimitUploadsTooLarge"})]
)
def test_a_few_bodies_that_are_too_large_are_told_to_nobody(
    large: int, wanted: set[str], tmp_path: Path
) -> None:
    """Also where there is one request in ten minutes, so that it is half of all for as long as anybody looks back."""
    spec = limits(uploads={"body": "10B"})
    seen, clock = Prometheus(spec, tmp_path), VirtualClock()

    async def life() -> None:
        house = harden(site(), spec, clock=clock)
        for minute in range(220):
            if minute % 10 == 5:
                size = 11 if 0 <= minute - 60 < 10 * large else 9
                await house.status("POST", headers={"content-length": str(size)}, body=[b"x" * size])
            seen.scrape(house.app.service.metrics)
            clock.advance(MINUTE)
        assert house.decisions("uploads")[1] == large

    asyncio.run(life())
    assert set[str]().union(*seen.fired(range(60, 220))) & {"ShopLimitUploadsTooLarge"} == wanted


@pytest.mark.parametrize(
    ("limit", "asks", "told"),
    [
        ({"rate": "10/minute", "cost": 10}, 1, None),
        ({"rate": "10/minute", "burst": 100, "cost": 11}, 1, None),
        ({"rate": "100/hour", "cost": 10}, 1, False),
        ({"rate": "100/hour", "cost": 10}, 10, False),
        ({"rate": "100/hour", "burst": 10}, 11, True),
    ],
    ids=str,
)
def test_who_may_ask_but_a_few_times_is_not_nearly_refused(
    limit: dict[str, Any], asks: int, told: bool | None, tmp_path: Path
) -> None:
    """He has nothing left when he has asked once: no alert says so (None), however large his quota is.

    Where a quota is for ten requests, the last of them alone is near its end; who goes on at its pace is told of.
    """
    spec = limits(exp=limit)
    name = "ShopLimitExpNearlyExhausted"
    assert (name in {one.name for one in contract(spec).alerts}) is (told is not None)
    seen, clock = Prometheus(spec, tmp_path), VirtualClock()

    async def life() -> None:
        house = harden(site(), spec, clock=clock)
        for minute in range(60):
            for _ in range(asks):
                await house.status(client=f"198.51.100.{minute if told is False else 0}")
            seen.scrape(house.app.service.metrics)
            clock.advance(MINUTE)

    asyncio.run(life())
    fired = set[str]().union(*seen.fired(range(60)))
    assert (name in fired) is bool(told)


def test_a_stream_that_is_cut_is_told_of(tmp_path: Path) -> None:
    """It counts against the same limit as a response that never begins, and its alert says so."""
    spec = limits(request={"timeout": "10s", "idle": "30s"})
    clock = VirtualClock()

    async def pause(request: Request) -> Response:
        async def parts() -> AsyncIterator[str]:
            yield "a"
            await clock.sleep(60 * 10**9)
            yield "b"

        return StreamingResponse(parts())

    async def life() -> House:
        house = harden(site(Route("/", pause)), spec, clock=clock)
        asked = asyncio.ensure_future(house.call())
        while not asked.done():
            await clock.settle(3)
            clock.advance(10**9)
        return house

    assert asyncio.run(life()).decisions("request") == (0, 1, 0)
    (alert,) = [one for one in contract(spec).alerts if one.path[-1] == "request"]
    assert "or paused for more than 30s though their clients were reading." in alert.meaning
    assert "half a response" in alert.impact


def test_letters_that_a_new_process_gives_up_at_its_start_are_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shorter retention is deployed: what a counter holds at its first scrape, no rate ever shows."""
    clock = VirtualClock()
    kept = SqliteLetters(str(tmp_path / "letters.db"), lambda: clock.now() // 10**6)
    monkeypatch.setattr("mahavishnu.runtime.dead_letters.queue._letters", Mock(return_value=kept))
    keep(kept, letter(), letter(), pause=10**12)
    clock.advance("2d")
    call = {"url": "http://payment", "fallback": "dead_letter"}
    spec = spec_of(dependencies={"payment": call}, retention={"dead_letters": "1d"})
    seen = Prometheus(spec, tmp_path)

    async def life() -> None:
        service = start(spec, clock, lambda: Usage(0, 0), io.StringIO())
        redriver = Redriver(lambda: service, clock)
        for _ in range(6):
            for _ in range(4):
                clock.advance("15s")
                await redriver.look()
            seen.scrape(service.metrics)

    asyncio.run(life())
    fired = {name for names in seen.fired(range(seen.minutes)) for name in names}
    assert fired == {"ShopDeadLettersLost"}


def test_a_call_that_is_lost_is_told_of_for_an_hour(tmp_path: Path) -> None:
    """The only one is still told of when whoever was woken by it looks."""
    call = {"url": "http://payment", "fallback": "dead_letter"}
    made = contract(spec_of(dependencies={"payment": call}))
    rules = tmp_path / "rules.yml"
    rules.write_text(texts(made)["prometheus/rules.yml"])
    lost = 'mahavishnu_dead_letters_parked_total{job="shop",instance="a",dependency="payment",outcome="lost"}'
    series: dict[str, list[float | None]] = {
        'mahavishnu_dead_letters_dropped_total{job="shop",instance="a",reason="expired"}': [0.0] * 150,
        lost: [*[0.0] * 25, *[1.0] * 125],
    }
    told = firing(judge("promtool"), rules, series, range(150))
    fires = [minute for minute, names in enumerate(told) if "ShopDeadLettersLost" in names]
    assert fires[0] <= 27
    assert 80 <= fires[-1] <= 90
