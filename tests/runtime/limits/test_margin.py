"""What is nearly used up, and how much of each limit was used lately."""

from __future__ import annotations

import asyncio
import contextlib
import time
from io import StringIO

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from mahavishnu.asgi import Hardening
from mahavishnu.protocols import Standing
from mahavishnu.runtime.limits.margin import Margin
from mahavishnu.runtime.telemetry.cells import CounterCell
from mahavishnu.testing import VirtualClock
from tests.runtime.asgi_client import House, handshake, harden, limits, site

SECOND = 10**9


def near(house: House, limit: str) -> float:
    """How many requests the series say were near the limit."""
    return house.samples()[f"mahavishnu_limit_near_total{{limit={limit}}}"]


def used(house: House, limit: str) -> float:
    """How much of the limit was used lately, as a scrape sees it."""
    return round(house.samples()[f"mahavishnu_limit_utilisation_ratio{{limit={limit}}}"], 6)


async def test_less_than_a_tenth_is_near() -> None:
    """Of a quota of 20, the request that leaves one and the one that leaves none; not the one that leaves two."""
    house = harden(site(), limits(calls={"rate": "20/hour"}))
    seen: list[float] = []
    for _ in range(22):
        await house.call()
        seen.append(near(house, "calls"))
    assert seen == [*[0] * 18, 1, 2, 2, 2]


async def test_of_a_few_the_last_one_is_near() -> None:
    """Fewer than one left is near however small the quota is."""
    house = harden(site(), limits(calls={"rate": "3/hour", "algorithm": "sliding_log"}))
    seen = [(await house.call(), near(house, "calls"))[1] for _ in range(4)]
    assert seen == [0, 0, 1, 1]


async def test_a_refused_request_is_near_no_limit() -> None:
    """Refused by one rate, it has left what it found in the other; refused by both, likewise."""
    house = harden(site(), limits(few={"rate": "1/hour"}, more={"rate": "2/hour", "cost": 2}))
    for _ in range(5):
        await house.call()
    assert (near(house, "few"), near(house, "more")) == (1, 1)


async def test_a_limit_that_observes_is_watched_too() -> None:
    """Its last admitted request is near, those it would have refused are not; all of it was used."""
    house = harden(site(), limits(calls={"rate": "4/hour", "mode": "observe"}))
    await house.call()
    assert (near(house, "calls"), used(house, "calls")) == (0, 0.25)
    for _ in range(9):
        await house.call()
    assert (near(house, "calls"), used(house, "calls")) == (1, 1)


async def test_a_request_without_a_response_counts() -> None:
    """The handler fails before it answers, and a websocket never answers in HTTP: both have used the quota."""

    async def broken(request: Request) -> Response:
        raise RuntimeError

    async def talk(socket: WebSocket) -> None:
        await socket.accept()
        await socket.close()

    app = site(Route("/", broken), WebSocketRoute("/talk", talk))
    house = harden(app.router, limits(calls={"rate": "2/hour", "per": "ip"}))
    with contextlib.suppress(RuntimeError):
        await house.call()
    assert (near(house, "calls"), used(house, "calls")) == (0, 0.5)
    await handshake(house.app, "/talk")
    assert (near(house, "calls"), used(house, "calls")) == (1, 1)


async def test_the_fullest_client_is_shown() -> None:
    """Of all clients the one that has used most, lately: after two periods it is forgotten."""
    house = harden(site(), limits(calls={"rate": "10/second"}))
    for client, count in (("198.51.100.1", 2), ("198.51.100.2", 7), ("198.51.100.3", 1)):
        for _ in range(count):
            await house.call(client=client)
    assert used(house, "calls") == 0.7
    house.clock.advance("31s")
    await house.call(client="198.51.100.1")
    assert used(house, "calls") == 0.7
    house.clock.advance("31s")
    assert used(house, "calls") == 0.7  # what no scrape has seen yet, and what came before it
    house.clock.advance("31s")
    assert used(house, "calls") == 0


def test_scrapes_that_come_often_forget_nothing() -> None:
    """Whoever looks every second sees the last half minute at least."""
    margin = Margin(100, CounterCell())
    seen: list[float] = []
    for second in range(100):
        if second == 40:
            margin.left(20)
        seen.append(margin.used(second * SECOND))
    told = [second for second, one in enumerate(seen) if one == 0.8]
    assert told == list(range(40, told[-1] + 1))
    assert 30 <= len(told) <= 61


def test_only_what_is_less_is_told() -> None:
    """Above the mark nothing has to be said; below it, each near one counts, and the least is kept."""
    cell = CounterCell()
    margin = Margin(100, cell)
    assert margin.mark == 100
    margin.left(60)
    assert (margin.mark, cell.value) == (60, 0)
    for amount in (9, 5, 9):
        assert amount < margin.mark
        margin.left(amount)
    assert (margin.mark, cell.value) == (10, 3)
    assert margin.used(0) == 0.95


def test_what_did_not_fit_is_full_and_not_near() -> None:
    """Refused requests fill a limit; they were not admitted, so they were not near it."""

    class Refused:
        admitted, denied, lost = False, (0,), False

        def standing(self, place: int) -> Standing:
            return Standing(0, 0)

        def left(self, places: int) -> list[tuple[int, int]]:
            return [(0, 0)] * places

    cell = CounterCell()
    margin = Margin(100, cell)
    margin.standing(3, Refused(), 0)
    assert (cell.value, margin.used(0)) == (0, 0.97)
    margin.exceeded()
    assert (cell.value, margin.used(0)) == (0, 1)


async def test_sizes_and_times_have_their_shares() -> None:
    """The largest body and the slowest response, as shares of their limits; above nine tenths they are near."""

    async def slow(request: Request) -> Response:
        await request.body()
        await house.clock.sleep(int(request.query_params.get("ms", "0")) * 10**6)
        return PlainTextResponse("ok")

    async def ask(size: int, ms: int) -> None:
        task = asyncio.create_task(house.call("POST", body=[b"x" * size], query_string=f"ms={ms}".encode()))
        await house.clock.settle()
        house.clock.advance(ms * 10**6)
        await task

    house = harden(
        site(Route("/", slow, methods=["POST"])), limits(size={"body": "100B"}, time={"timeout": "1s"})
    )
    await ask(30, 250)
    assert (used(house, "size"), used(house, "time")) == (0.3, 0.25)
    await ask(90, 900)
    assert (near(house, "size"), near(house, "time")) == (0, 0)
    await ask(91, 950)
    assert (near(house, "size"), near(house, "time")) == (1, 1)
    assert (used(house, "size"), used(house, "time")) == (0.91, 0.95)
    await ask(101, 0)
    assert (near(house, "size"), used(house, "size")) == (1, 1)
    await ask(1, 2000)
    assert (near(house, "time"), used(house, "time")) == (1, 1)


async def test_who_answers_late_because_nothing_could_run_was_too_slow() -> None:
    """The handler blocks past its time, so nothing ends it: it is answered, counted as refused, and not as allowed."""

    async def blocks(request: Request) -> Response:
        time.sleep(0.02)  # noqa: ASYNC251 - that is its fault
        return PlainTextResponse("ok")

    spec = limits(time={"timeout": "10ms"})
    house = House(Hardening(site(Route("/", blocks)), spec, log_to=StringIO()), VirtualClock(), StringIO())
    assert await house.status() == 200
    assert house.decisions("time") == (0, 1, 0)


async def test_places_have_their_share() -> None:
    """What is taken now; who has to wait for a place has found none left, and is near."""

    async def slow(request: Request) -> Response:
        await house.clock.sleep(SECOND)
        return PlainTextResponse("ok")

    house = harden(site(Route("/", slow)), limits(slots={"concurrency": 2, "queue": 2, "wait": "5s"}))
    tasks = [asyncio.create_task(house.call())]
    await house.clock.settle()
    assert used(house, "slots") == 0.5
    tasks += [asyncio.create_task(house.call()) for _ in range(2)]
    await house.clock.settle()
    assert (used(house, "slots"), near(house, "slots")) == (1, 0)
    for _ in range(3):
        house.clock.advance("1s")
        await house.clock.settle()
    await asyncio.gather(*tasks)
    assert (used(house, "slots"), near(house, "slots")) == (0, 1)


def test_each_period_begins_anew() -> None:
    """After a full one, what uses half of the limit is told again, and shown once the full one is forgotten."""
    margin = Margin(100, CounterCell())
    margin.exceeded()
    for second in (30, 60):
        margin.used(second * SECOND)
        assert margin.mark == 100
        margin.left(50)
    assert margin.used(90 * SECOND) == 0.5
