"""Rates through the real middleware: exact numbers, true promises, nothing consumed by who is refused."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from mahavishnu.protocols import Decision
from mahavishnu.runtime.keys import Caller
from mahavishnu.runtime.limits.admission import Admission
from mahavishnu.spec import Spec
from tests.figures import FULL, figure
from tests.runtime.asgi_client import House, harden, run, site, spec_of
from tests.runtime.limits.test_problem import fields

MS = 10**6
ALGORITHMS = ("gcra", "sliding_window", "sliding_log")


def limits(**limit: Any) -> Spec:
    """A spec with these limits that writes no log of refusals: these tests make many."""
    return spec_of(limits=limit, observability={"logs": {"level": "error"}})


def rate(algorithm: str, text: str, **more: Any) -> dict[str, Any]:
    """A rate of this algorithm."""
    return {"rate": text, "algorithm": algorithm, **more}


async def crowd(house: House, count: int, **more: Any) -> list[int]:
    """So many requests at once."""
    return list(await asyncio.gather(*(house.status(**more) for _ in range(count))))


async def refusal(house: House, caller: Caller) -> Decision | None:
    """What the engine decides; refused requests consume nothing, so this may be asked before a request."""
    plan = house.app.service.engine.planner.plan("/", "GET")
    admission = Admission("", caller, plan, house.clock.now())
    await house.app.service.engine.admit(admission)
    if admission.refused is None:
        await house.app.service.engine.give_back(admission)
    return admission.refused


CROWDS = [
    (rate("gcra", "100/minute"), 100),
    (rate("gcra", "100/minute", burst=37), 37),
    (rate("gcra", "7/second", burst=1000), 1000),
    (rate("gcra", "100/minute", cost=7), 14),
    (rate("sliding_window", "300/minute"), 300),
    (rate("sliding_log", "300/minute"), 300),
]


@pytest.mark.parametrize(("limit", "expected"), [CROWDS[1], CROWDS[-2]], ids=str)
async def test_ten_thousand_at_once_on_a_frozen_clock(limit: dict[str, Any], expected: int) -> None:
    """Exactly the burst, or the count, is admitted; everyone is counted."""
    house = harden(site(), limits(calls=limit))
    statuses = await crowd(house, 10_000)
    assert (statuses.count(200), statuses.count(429)) == (expected, 10_000 - expected)
    assert house.decisions("calls") == (expected, 10_000 - expected, 0)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_minute_of_traffic_is_bounded(algorithm: str) -> None:
    """A hundred clients that never stop: in ten windows each gets its rate, and the burst once."""
    house = harden(site(), limits(calls=rate(algorithm, "10/second")))
    admitted = 0
    for _ in range(1000):
        admitted += (await crowd(house, 3)).count(200)
        house.clock.advance("10ms")
    assert {"gcra": 109, "sliding_window": 100, "sliding_log": 100}[algorithm] - 10 <= admitted <= 110


def _random_limits(chance: random.Random, algorithm: str) -> dict[str, Any]:
    drawn: dict[str, Any] = {}
    for name in ("one", "two", "three")[: chance.randint(1, 3)]:
        count, period = chance.randint(1, 12), chance.choice(["second", "7s", "minute", "13m", "hour"])
        drawn[name] = rate(algorithm, f"{count}/{period}", cost=chance.choice([1, 1, min(count, 2)]))
        if algorithm == "gcra" and chance.random() < 0.5:
            drawn[name]["burst"] = chance.randint(drawn[name]["cost"], 15)
    return drawn


async def _promises(chance: random.Random, algorithm: str, cases: int) -> int:
    """Provoke refusals of random sets of rates and hold each to its promise; how many were kept."""
    house = harden(site(), limits(**_random_limits(chance, algorithm)))
    house.clock.advance(chance.randrange(10**15))
    kept = 0
    for number in range(cases):
        client = f"198.51.{number // 250}.{number % 250}"
        caller = Caller(client)
        for _ in range(chance.randint(0, 9)):
            await house.status(client=client)
            house.clock.advance(chance.choice([0, 0, 0, chance.randrange(10**10)]))
        while (decision := await refusal(house, caller)) is None:
            await house.status(client=client)
        wait = decision.retry_after
        assert wait is not None
        answer = await house.call(client=client)
        assert (answer.status, answer.headers["retry-after"]) == (429, str(-(-wait // 10**9)))
        house.clock.advance(wait - min(wait, MS))
        assert await house.status(client=client) == 429
        house.clock.advance(min(wait, MS) - 1)
        assert await house.status(client=client) == 429
        house.clock.advance(1)
        kept += await house.status(client=client) == 200
    return kept


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_promise_of_retry_after_is_kept(algorithm: str) -> None:
    """200 random refusals: 1 ms and 1 ns early refused, on time admitted, the header is the ceiling."""
    chance = random.Random(f"promises {algorithm}")
    assert sum(run(_promises(chance, algorithm, 25)) for _ in range(8)) == 200


@pytest.mark.proof
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_ten_thousand_promises_are_kept(algorithm: str) -> None:
    """The long run, over 200 random sets of rates; over 60 by default."""
    chance = random.Random(f"more promises {algorithm}")
    sets = 200 if FULL else 60
    kept, made = sum(run(_promises(chance, algorithm, 50)) for _ in range(sets)), 50 * sets
    figure(
        f"{algorithm}: admitted after retry_after, refused 1 ms before",
        f"{made} of {made}",
        f"{kept} of {made}",
    )
    assert kept == made


@pytest.mark.proof
@pytest.mark.parametrize(("limit", "expected"), CROWDS, ids=str)
def test_ten_thousand_at_once_twenty_times(limit: dict[str, Any], expected: int) -> None:
    """200,000 decisions per limit; sampled: a quarter of them."""
    times = 20 if FULL else 3

    async def scenario() -> int:
        house = harden(site(), limits(calls=limit))
        return (await crowd(house, 10_000)).count(200)

    wrong = sum(run(scenario()) != expected for _ in range(times))
    figure(f"10,000 concurrent requests x {times}, {limit}", f"{expected} admitted, 0 off", f"{wrong} off")
    assert wrong == 0


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_denied_by_one_rate_consumes_nothing_in_any(algorithm: str) -> None:
    """slowapi's order of evaluation spends the hour on requests the minute refuses; ours does not."""
    spec = limits(
        hour=rate(algorithm, "10/hour"), minute=rate(algorithm, "2/minute"), day=rate(algorithm, "20/day")
    )
    house = harden(site(), spec)
    served = 0
    for _ in range(5):
        served += (await crowd(house, 100)).count(200)
        house.clock.advance("3m")
    assert served == 10
    assert (house.count("hour", "allowed"), house.count("day", "allowed")) == (10, 10)


async def test_a_refusal_tells_what_is_left_elsewhere() -> None:
    """The RateLimit field of a refused request shows the other rates as they are: unspent."""
    house = harden(site(), limits(hour=rate("gcra", "10/hour"), minute=rate("gcra", "2/minute")))
    shown = [(await house.call()).headers["ratelimit"] for _ in range(4)]
    left = [dict(re.findall(r'"(\w+)";r=(\d+)', one)) for one in shown]
    assert [one["hour"] for one in left] == ["9", "8", "8", "8"]
    assert [one["minute"] for one in left] == ["1", "0", "0", "0"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("narrow", [rate("gcra", "3/minute"), {"concurrency": 1}])
async def test_who_is_refused_is_told_what_holds_without_his_request(
    algorithm: str, narrow: dict[str, Any]
) -> None:
    """What is left of the others, and when all of it is back, as after the last request that was let in."""
    end = asyncio.Event()

    async def handler(request: Request) -> Response:
        if "concurrency" in narrow and request.url.path == "/wait":
            await end.wait()
        return PlainTextResponse("ok")

    spec = limits(hour=rate(algorithm, "9/hour"), narrow=narrow)
    house = harden(site(Route("/{path:path}", handler)), spec)
    for _ in range(2):
        assert await house.status() == 200
        house.clock.advance("1s")
    last = asyncio.create_task(house.call(path="/wait"))
    await house.clock.settle()
    refused = await house.call()
    end.set()
    assert ((await last).status, refused.status) in [(200, 429), (200, 503)]
    told = [fields(one.headers["ratelimit"])["hour"] for one in (last.result(), refused)]
    assert told[0] == told[1]


async def test_denied_later_is_refunded_in_every_rate_and_told_so() -> None:
    """A full house: the rates of those who were turned away are as before, in the headers too."""
    end = asyncio.Event()

    async def handler(request: Request) -> Response:
        await end.wait()
        return PlainTextResponse("ok")

    spec = limits(
        a=rate("gcra", "5/hour"),
        b=rate("sliding_window", "5/hour"),
        c=rate("sliding_log", "5/hour"),
        slots={"concurrency": 1},
    )
    house = harden(site(Route("/", handler)), spec)
    first = asyncio.create_task(house.call())
    await house.clock.settle()
    for _ in range(100):
        answer = await house.call()
        assert answer.status == 503
        assert re.findall(r";r=(\d+)", answer.headers["ratelimit"]) == ["4", "4", "4"]
    end.set()
    assert (await first).status == 200
    assert [await house.status() for _ in range(5)] == [200] * 4 + [429]


async def test_a_store_that_answers_later_is_waited_for_and_then_a_place() -> None:
    """Who is refused by his rate takes no place; who finds none is given back what he was charged."""

    class Later:
        """The store in memory, which lets others run before it answers."""

        waits = True

        def __init__(self, store: Any) -> None:
            self._store = store

        async def take(self, *asked: Any) -> Any:
            await asyncio.sleep(0)
            return self._store.take(*asked)

        async def give_back(self, taken: Any) -> None:
            self._store.give_back(taken)

    end = asyncio.Event()

    async def handler(request: Request) -> Response:
        await end.wait()
        return PlainTextResponse("ok")

    spec = limits(calls=rate("gcra", "2/hour"), slots={"concurrency": 2})
    house = harden(site(Route("/", handler)), spec)
    engine: Any = house.app.service.engine
    engine.store = engine.planner.store = Later(engine.store)
    tasks = [asyncio.create_task(house.status()) for _ in range(3)]
    await house.clock.settle()
    assert (tasks[2].done(), house.app.service.engine.gates["slots"].running) == (True, 2)  # type: ignore[attr-defined]
    full = await house.call(client="203.0.113.2")
    assert (full.status, full.headers["ratelimit"]) == (503, '"calls";r=2;t=0')
    end.set()
    assert [await task for task in tasks] == [200, 200, 429]
    assert [await house.status(client="203.0.113.2") for _ in range(3)] == [200, 200, 429]


async def test_observing_admits_all_and_consumes_as_if_it_refused() -> None:
    """Counted under `observed`; no RateLimit field tells of it; an enforced rate beside it is as ever."""
    spec = limits(seen=rate("gcra", "3/hour", mode="observe"), real=rate("gcra", "8/hour"))
    house = harden(site(), spec)
    answers = [await house.call() for _ in range(10)]
    assert [one.status for one in answers] == [200] * 8 + [429] * 2
    assert house.decisions("seen") == (3, 0, 7)
    assert house.decisions("real") == (8, 2, 0)
    assert all("seen" not in one.headers["ratelimit"] for one in answers)


async def test_off_is_off() -> None:
    """Neither refused nor counted nor shown."""
    house = harden(site(), limits(calls=rate("gcra", "1/hour", mode="off")))
    assert await crowd(house, 5) == [200] * 5
    assert not [one for one in house.samples() if "calls" in one]


async def test_each_client_has_its_own_bucket_and_all_share_the_global_one() -> None:
    """A neighbour at a hundred times the limit costs a client nothing, but for what all share."""
    spec = limits(own=rate("gcra", "5/hour"), all=rate("gcra", "12/hour", per="global"))
    house = harden(site(), spec)
    assert (await crowd(house, 500, client="198.51.100.1")).count(200) == 5
    assert (await crowd(house, 500, client="198.51.100.2")).count(200) == 5
    assert (await crowd(house, 500, client="198.51.100.3")).count(200) == 2


async def test_a_wall_clock_that_jumps_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the injected, monotonic clock counts."""
    house = harden(site(), limits(calls=rate("gcra", "5/minute")))
    for step in (0, 61, -3600, 3600):
        monkeypatch.setattr("time.time", lambda step=step: 1e9 + step)
        await crowd(house, 20)
    assert house.count("calls", "allowed") == 5


def test_an_app_that_fails_keeps_its_limits_once() -> None:
    """However many layers the error passes: one request, counted once by each limit it has met."""

    async def failing(_: Request) -> Response:
        raise RuntimeError

    async def scenario(**more: Any) -> None:
        house = harden(
            site(Route("/", failing, methods=["POST"])),
            limits(size={"body": "1KiB"}, calls={"rate": "9/hour"}, time={"timeout": "1s"}, **more),
        )
        for _ in range(3):
            with contextlib.suppress(RuntimeError):
                await house.call("POST")
        assert [house.decisions(one) for one in ("size", "calls", "time")] == [(3, 0, 0)] * 3

    run(scenario())
    run(scenario(slots={"concurrency": 1}))
