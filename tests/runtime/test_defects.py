"""Defects that today's libraries have, each shown not to be ours: one test for one of them, named in words."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from dataclasses import replace
from io import StringIO
from typing import Any, cast

import pytest
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, Router

from mahavishnu.algorithms import Gcra
from mahavishnu.asgi import Hardening
from mahavishnu.protocols import Taken
from mahavishnu.runtime.current import forget
from mahavishnu.runtime.keys import Caller
from mahavishnu.runtime.limits.admission import Admission
from mahavishnu.runtime.limits.memory_store import MemoryStore
from tests.runtime.asgi_client import (
    Message,
    Send,
    chunks,
    handshake,
    harden,
    limits,
    ok,
    run,
    scope_of,
    site,
)

SECOND = 10**9


async def test_a_stream_is_not_started_anew_with_every_chunk() -> None:
    """slowapi's ASGI middleware sends four starts for three chunks (D1)."""

    async def stream(request: Request) -> Response:
        return StreamingResponse(iter([b"1", b"2", b"3"]))

    answer = await harden(site(Route("/", stream)), limits(calls={"rate": "5/minute"})).call()
    assert (answer.starts, answer.body) == (1, b"123")


async def test_the_headers_of_a_stream_leave_before_its_first_chunk_is_made() -> None:
    """slowapi holds the start back until the first chunk (D1)."""
    seen: list[str] = []

    async def chunk() -> AsyncIterator[bytes]:
        seen.append("made")
        yield b"1"

    async def stream(request: Request) -> Response:
        return StreamingResponse(chunk())

    async def send(message: Message) -> None:
        seen.append(message["type"])

    house = harden(site(Route("/", stream)), limits(calls={"rate": "5/minute"}))
    await house.app(scope_of(), chunks([b""]), send)
    assert seen[:3] == ["http.response.start", "made", "http.response.body"]


async def test_the_middleware_runs_the_app_in_the_task_of_its_caller() -> None:
    """BaseHTTPMiddleware, which slowapi and others build on, costs a task and a queue per request (D2)."""
    tasks: list[object] = []

    async def where(request: Request) -> Response:
        tasks.append(asyncio.current_task())
        return PlainTextResponse("ok")

    spec = limits(a={"rate": "5/minute"}, b={"timeout": "1s"}, c={"concurrency": 5}, d={"body": "1kB"})
    house = harden(site(Route("/", where)), spec)
    before = len(asyncio.all_tasks())
    await house.call()
    assert tasks == [asyncio.current_task()]
    assert len(asyncio.all_tasks()) == before
    assert not issubclass(Hardening, BaseHTTPMiddleware)


async def test_a_store_that_fails_is_no_attribute_error() -> None:
    """With its store gone, slowapi answers 500 over its own missing attribute; ours lives in the process (D3)."""
    house = harden(site(), limits(calls={"rate": "2/minute"}))
    assert isinstance(house.app.service.store, MemoryStore)
    assert [await house.status() for _ in range(3)] == [200, 200, 429]


async def test_mounted_routes_are_limited() -> None:
    """slowapi does not limit what is mounted at all (D4)."""
    app = site(Mount("/sub", app=Router([Route("/x", ok)])))
    house = harden(app, limits(calls={"rate": "1/minute"}))
    assert [await house.status(path="/sub/x") for _ in range(5)] == [200] + [429] * 4


async def test_a_header_with_underscores_is_nobodys_address() -> None:
    """slowapi reads `X_FORWARDED_FOR`, which no proxy sends and every client can (D5)."""
    house = harden(site(), limits(calls={"rate": "2/minute"}))
    statuses = [await house.status(headers={"x_forwarded_for": f"1.1.1.{n}"}) for n in range(5)]
    assert statuses == [200, 200, 429, 429, 429]


async def test_deciding_does_not_block_the_event_loop() -> None:
    """slowapi speaks to its store synchronously inside async routes; ours in memory answers at once (D6)."""
    engine = harden(site(), limits(calls={"rate": "1/second"})).app.service.engine
    plan = engine.planner.plan("/", "GET")
    first, second = (Admission("", Caller("203.0.113.1"), plan, 0) for _ in range(2))
    assert engine.charge(first) is engine.charge(second) is None
    assert (first.refused, second.refused is None) == (None, False)


async def test_a_long_window_is_not_spent_by_what_a_short_one_refuses() -> None:
    """slowapi: 2 a minute and 10 an hour serve two requests and leave two of the hour (D7)."""
    house = harden(site(), limits(a_minute={"rate": "2/minute"}, an_hour={"rate": "10/hour"}))
    for _ in range(20):
        await house.call()
    assert house.decisions("an_hour")[:2] == (2, 0)
    assert 'an_hour";r=8' in (await house.call()).headers["ratelimit"]


@pytest.mark.parametrize("algorithm", ["gcra", "sliding_window", "sliding_log"])
async def test_a_denied_request_is_not_added(algorithm: str) -> None:
    """limits: cost 8 of 10 passes, cost 5 is denied and counted, so that cost 1 is denied too (D8)."""
    spec = limits(
        all={"rate": "10/minute", "algorithm": algorithm, "cost": 1, "match": {"path": "/one"}},
    )
    engine = harden(site(), spec).app.service.engine
    (rate,) = engine.planner.plan("/one", "GET").rates
    charges = [replace(rate, cost=cost) for cost in (8, 5, 1, 1, 1)]
    allowed = [cast("Taken", engine.store.take([one], ["k"])).admitted for one in charges]
    assert allowed == [True, False, True, True, False]


async def test_one_clients_use_leaves_the_others_theirs() -> None:
    """fastapi-limiter, used as its README says, has one bucket for everybody (D12)."""
    house = harden(site(), limits(calls={"rate": "2/minute"}))
    for client in ("198.51.100.1", "198.51.100.2", "198.51.100.3"):
        assert [await house.status(client=client) for _ in range(3)] == [200, 200, 429]


async def test_the_first_forwarded_address_is_not_believed_from_anyone() -> None:
    """fastapi-limiter and others take the leftmost, which the client writes (D13)."""
    house = harden(site(), limits(calls={"rate": "2/minute"}))
    statuses = [await house.status(headers={"x-forwarded-for": f"1.1.1.{n}"}) for n in range(5)]
    assert statuses.count(200) == 2


def test_no_token_is_lost_to_rounding() -> None:
    """throttled: 0.9 a second over 8 seconds gave 4 of 7 (D15)."""
    algorithm = Gcra(9, 10 * SECOND, 10)
    state = algorithm.admit(None, 0, 10)  # the burst is spent
    admitted = 0
    for tenth in range(81):
        after = algorithm.admit(state, tenth * SECOND // 10, 1)
        state = state if after is None else after
        admitted += after is not None
    assert admitted == 7


async def test_other_keys_do_not_push_a_limited_client_out() -> None:
    """throttled: after 1,100 other keys a limited client is unlimited (D16)."""
    house = harden(site(), limits(calls={"rate": "1/hour"}))
    assert [await house.status(client="203.0.113.7") for _ in range(2)] == [200, 429]
    for number in range(2000):
        await house.status(client=f"10.1.{number // 250}.{number % 250}")
    assert await house.status(client="203.0.113.7") == 429


def _alice(scope: Any) -> str:
    return "alice-7f3a"


async def test_no_key_of_a_client_is_a_label() -> None:
    """throttled's and failsafe's hooks label metrics with the client's key (D17)."""
    house = harden(site(), limits(calls={"rate": "1/hour"}), identify=_alice)
    few = len(house.samples())
    for number in range(300):
        await house.call(client=f"203.0.113.{number % 250}")
    assert not [one for one in house.samples() if "203.0.113" in one or "alice" in one]
    assert len(house.samples()) <= few + 2 * 20


async def test_expired_keys_are_let_go() -> None:
    """asgi-ratelimit keeps all of them, its timers being set to a date in the far future (D18)."""
    house = harden(site(), limits(calls={"rate": "5/second"}))
    for number in range(1000):
        await house.call(client=f"10.2.{number // 250}.{number % 250}")
    assert house.samples()["mahavishnu_limit_store_keys{}"] == 1000
    for _ in range(512):  # two windows
        house.clock.advance(2 * SECOND // 512)
        await house.call()
    assert house.samples()["mahavishnu_limit_store_keys{}"] == 1
    assert house.clock.timers == 0


async def test_websockets_do_not_pass_unlimited() -> None:
    """asgi-ratelimit and slowapi let every handshake through (D18)."""

    async def socket(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})

    house = harden(socket, limits(calls={"rate": "2/minute"}))
    first = [(await handshake(house.app, "/")).messages[0]["type"] for _ in range(4)]
    assert first == ["websocket.accept"] * 2 + ["websocket.close"] * 2


async def test_invented_methods_share_one_label() -> None:
    """starlette_exporter and the instrumentator make a series of each: 500 methods, 4,531 series (D24)."""
    house = harden(site(), limits())
    await house.call("BREW")
    before = len(house.samples())
    for number in range(500):
        await house.call(f"METHOD{number}")
    assert len(house.samples()) == before
    assert {line["method"] for line in house.lines} == {"_OTHER"}


async def test_a_user_id_in_a_header_is_nobodys_identity() -> None:
    """The reference project believed `X-User-ID` (D26)."""
    house = harden(site(), limits(calls={"rate": "2/minute", "per": "user"}))
    statuses = [await house.status(headers={"x-user-id": str(n)}) for n in range(5)]
    assert statuses == [200, 200, 429, 429, 429]


async def test_a_request_that_a_window_refuses_has_cost_no_token() -> None:
    """The reference project consumed a token before it looked at the window (D26)."""
    spec = limits(bucket={"rate": "5/minute"}, window={"rate": "2/minute", "algorithm": "sliding_window"})
    house = harden(site(), spec)
    for _ in range(30):
        await house.call()
    assert house.decisions("bucket") == (2, 0, 0)


async def test_long_limits_survive_short_clean_ups() -> None:
    """The reference project's clean-up after 300 s forgave hours and days (D26)."""
    house = harden(site(), limits(calls={"rate": "2/day"}))
    assert [await house.status() for _ in range(3)] == [200, 200, 429]
    for hour in range(11):
        house.clock.advance("1h")
        await house.status(client=f"10.0.0.{hour}")
        assert await house.status() == 429


async def test_a_request_without_a_client_is_limited_too() -> None:
    """The reference project skipped who it could not name; here all of them share one bucket (D26)."""
    house = harden(site(), limits(calls={"rate": "2/minute"}))
    statuses = [await house.status(client=None, headers={"x-forwarded-for": str(n)}) for n in range(4)]
    assert statuses == [200, 200, 429, 429]


async def test_a_finished_request_is_kept_by_nobody() -> None:
    """Neither a timer nor the limits hold on to what a request had (limits' moving window, D9, held keys for ever)."""

    class Load:
        """Something large that a request holds."""

    left: list[weakref.ref[Load]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        load = Load()
        left.append(weakref.ref(load))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    spec = limits(a={"timeout": "1h"}, b={"concurrency": 1}, c={"body": "1kB"}, d={"rate": "99/minute"})
    house = harden(app, spec)
    for _ in range(10):
        await house.call()
    gc.collect()
    assert [one() for one in left] == [None] * 10
    assert house.clock.timers == 0


@pytest.mark.parametrize("limit", [{"timeout": "1h"}, {"timeout": "1h", "idle": "1h"}], ids=["plain", "idle"])
async def test_a_deadline_that_was_kept_keeps_no_request(limit: dict[str, str]) -> None:
    """Its turn at the real clock comes in an hour, and until then it waits with those of other requests."""

    class Connection:
        """What a server gives to an app: with it go the request's body and the socket."""

        async def send(self, message: Any) -> None:
            """Take a part of the response."""

    left: list[weakref.ref[Any]] = []

    async def serve(hardening: Hardening) -> None:
        connection = Connection()
        task = asyncio.create_task(hardening(scope_of(), _nothing, connection.send))
        left.extend((weakref.ref(connection), weakref.ref(task)))
        await task

    forget()
    hardening = Hardening(site(), limits(request=limit), log_to=StringIO())
    for _ in range(5):
        await serve(hardening)
    await asyncio.sleep(0)
    gc.collect()
    assert [one() for one in left] == [None] * 10


async def _nothing() -> Any:
    return {"type": "http.request"}


def test_a_status_that_no_server_takes_is_a_500_and_costs_others_nothing() -> None:
    """Whoever ends in the same turn of the event loop is counted and logged all the same."""

    async def words(_: object, __: object, send: Send) -> None:
        await send({"type": "http.response.start", "status": "200", "headers": []})

    async def strict(message: Message) -> None:
        raise KeyError(message["status"])

    async def story() -> None:
        house = harden(words, limits())
        with pytest.raises(KeyError):
            await house.app(scope_of(), chunks([]), strict)
        assert [line["status"] for line in house.lines] == [500]

    run(story())
