"""The httpx clients of a dependency: against a script on a virtual clock, and against a real server."""

from __future__ import annotations

import asyncio
import gc
import random
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable, Iterator, MutableMapping
from contextlib import suppress
from typing import Any, cast

import httpx
import pytest
import uvicorn

import mahavishnu
from mahavishnu.clock import SystemClock
from mahavishnu.policies.bulkhead import BulkheadGuard
from mahavishnu.policies.timeout import MARGIN
from mahavishnu.protocols import Outcome
from mahavishnu.runtime.current import forget, use
from mahavishnu.runtime.service import Service
from mahavishnu.spec import Spec
from mahavishnu.testing import VirtualClock
from tests.runtime.calls.worlds import ALL, SECOND, World, all_but, serving

Answer = Callable[[httpx.Request], httpx.Response]
URL = "https://stripe.example/charges"


class Script:
    """A transport, sync and async, that answers from a list and remembers what it was asked."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.seen: list[httpx.Request] = []
        self.timeouts: list[Any] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        self.timeouts.append(request.extensions.get("timeout"))
        answer = self.answers.pop(0) if self.answers else httpx.Response(200)
        if isinstance(answer, Exception):
            raise answer
        return answer


def both(
    world: World, *answers: Callable[[], httpx.Response | Exception], **request: Any
) -> tuple[Script, Script]:
    """Send the same request through both clients, each with its own copy of the script."""
    sync, later = Script(*(answer() for answer in answers)), Script(*(answer() for answer in answers))
    method = request.pop("method", "GET")
    with world.stripe.httpx_client(transport=httpx.MockTransport(sync)) as client:
        client.request(method, URL, **request)

    async def scenario() -> None:
        async with world.stripe.httpx_async_client(transport=httpx.MockTransport(later)) as async_client:
            await async_client.request(method, URL, **request)

    asyncio.run(scenario())
    return sync, later


def down() -> httpx.Response:
    """A 503 whose body must be read."""
    return httpx.Response(503, stream=Body(b"down"))


class Body(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that is read in parts, may break, and knows whether it was closed."""

    def __init__(self, *parts: bytes | Exception) -> None:
        self.parts: Iterable[bytes | Exception] = parts
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        for part in self.parts:
            if isinstance(part, Exception):
                raise part
            yield part

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self:
            await asyncio.sleep(0)
            yield part

    def close(self) -> None:
        self.closed += 1

    async def aclose(self) -> None:
        self.closed += 1


def test_safe_methods_are_repeated() -> None:
    """Two times 503, a broken connection, each tried again; the last answer comes whole."""
    world = World()
    sync, later = both(world, down, lambda: httpx.ConnectError("refused"))
    assert (len(sync.seen), len(later.seen)) == (3, 3)
    assert (world.calls("failure"), world.calls("success"), world.retries("retried")) == (4, 2, 4)
    assert world.at_rest()


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_other_methods_are_repeated_only_when_the_request_says_so(method: str) -> None:
    """`extensions={"idempotent": True}` is the caller's word for it."""
    world = World()
    assert [len(one.seen) for one in both(world, down, method=method)] == [1, 1]
    said = both(world, down, method=method, extensions={"idempotent": True}, content=b"body")
    assert [[request.read() for request in one.seen] for one in said] == [[b"body", b"body"]] * 2


def test_a_body_that_can_be_sent_once_is_sent_once() -> None:
    """A generator is empty the second time, so such a request is not repeated whatever it says."""
    world = World()
    script = Script(down())
    with world.stripe.httpx_client(transport=httpx.MockTransport(script)) as client:
        answer = client.put(URL, content=iter([b"once"]), extensions={"idempotent": True})
    assert (answer.status_code, answer.text, len(script.seen)) == (503, "down", 1)


async def test_the_last_failed_answer_is_still_readable() -> None:
    """Whole, streamed and raw: what was read to be thrown away can also be handed out."""
    world = World()

    def fresh() -> httpx.MockTransport:
        return httpx.MockTransport(Script(down(), down(), down()))

    with world.stripe.httpx_client(transport=fresh()) as client:
        assert client.get(URL).text == "down"
    with world.stripe.httpx_client(transport=fresh()) as client, client.stream("GET", URL) as answer:
        assert b"".join(answer.iter_raw()) == b"down"
    async with world.stripe.httpx_async_client(transport=fresh()) as async_client:
        assert (await async_client.get(URL)).text == "down"
    async with (
        world.stripe.httpx_async_client(transport=fresh()) as async_client,
        async_client.stream("GET", URL) as answer,
    ):
        assert [part async for part in answer.aiter_raw()] == [b"down"]
    assert world.at_rest()


async def test_an_answer_that_is_thrown_away_is_read_and_closed() -> None:
    """In both worlds: its connection can be used again, and a body that breaks is a failure like others."""
    world = World()
    bodies = [Body(b"down"), Body(b"do", httpx.ReadError("reset")), Body(b"down"), Body(b"down")]
    answers = iter([httpx.Response(503, stream=body) for body in bodies])

    def answer(request: httpx.Request) -> httpx.Response:
        assert world.bulkhead.in_flight == 1
        return next(answers, httpx.Response(200))

    with world.stripe.httpx_client(transport=httpx.MockTransport(answer)) as client:
        assert client.get(URL).status_code == 503
    async with world.stripe.httpx_async_client(transport=httpx.MockTransport(answer)) as async_client:
        assert (await async_client.get(URL)).status_code == 200
    assert [body.closed for body in bodies] == [1, 1, 1, 1]
    assert (world.calls("failure"), world.calls("success")) == (4, 1)
    assert world.at_rest()


class Dripping(httpx.SyncByteStream):
    """A body without end, a byte each second."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        while True:
            self.clock.advance("1s")
            yield b"."

    def close(self) -> None:
        self.closed += 1


def test_an_answer_without_end_is_read_no_longer_than_the_timeout() -> None:
    """By a thread, which no timer ends: three attempts of two seconds each."""
    world = World()
    bodies = [Dripping(world.clock) for _ in range(3)]
    script = Script(*(httpx.Response(503, stream=body) for body in bodies))
    with (
        world.stripe.httpx_client(transport=httpx.MockTransport(script)) as client,
        pytest.raises(httpx.ReadTimeout),
    ):
        client.get(URL)
    assert world.clock.now() < 7 * SECOND
    assert [body.closed for body in bodies] == [1, 1, 1]
    assert (world.calls("timeout"), world.at_rest()) == (3, True)


@pytest.mark.parametrize("form", ["sync", "async"])
def test_of_a_long_answer_only_the_beginning_is_read(form: str) -> None:
    """Then it is closed, if another attempt follows; the last one is handed out as it comes."""
    world = World()
    given: list[bytes] = []

    def long() -> Iterator[bytes]:
        for part in [b"x" * 1000] * 100:
            given.append(part)
            yield part

    bodies = [Body() for _ in range(3)]
    for body in bodies:
        body.parts = long()
    script = Script(*(httpx.Response(503, stream=body) for body in bodies))

    async def scenario() -> int:
        async with (
            world.stripe.httpx_async_client(transport=httpx.MockTransport(script)) as async_client,
            async_client.stream("GET", URL) as answer,
        ):
            assert len(given) < 210
            return len(await answer.aread())

    def plain() -> int:
        with (
            world.stripe.httpx_client(transport=httpx.MockTransport(script)) as client,
            client.stream("GET", URL) as answer,
        ):
            assert len(given) < 210
            return len(answer.read())

    assert (plain() if form == "sync" else asyncio.run(scenario())) == 100_000
    assert [body.closed for body in bodies] == [1, 1, 1]
    assert (world.calls("failure"), world.at_rest()) == (3, True)


def test_a_retry_after_is_honoured() -> None:
    """The pause is at least what the server asked for."""
    world = World()
    both(world, lambda: httpx.Response(503, headers={"retry-after": "1"}))
    assert 2 * SECOND <= world.clock.now() <= 2 * SECOND + SECOND // 5


def test_5xx_counts_as_failure_and_4xx_as_success() -> None:
    """500 is not repeated by default, and yet counts."""
    world = World()
    both(world, lambda: httpx.Response(500))
    both(world, lambda: httpx.Response(404))
    assert (world.calls("failure"), world.calls("success"), world.retries("retried")) == (2, 2, 0)


def test_the_permit_is_held_until_the_body_is_closed() -> None:
    """While the body is being read the call runs; then it is judged, once."""
    world = World()
    body = Body(b"one", b"two")
    with world.stripe.httpx_client(
        transport=httpx.MockTransport(Script(httpx.Response(200, stream=body)))
    ) as client:
        with client.stream("GET", URL) as answer:
            parts = answer.iter_bytes()
            assert next(parts) == b"one"
            assert (world.bulkhead.in_flight, world.judged()) == (1, 0)
        assert (world.bulkhead.in_flight, world.judged(), body.closed) == (0, 1, 1)
    assert world.calls("success") == 1


async def test_requests_made_while_a_body_is_read_are_calls_of_their_own() -> None:
    """The open stream holds its place and no more: it is not around them, and its timeout is over."""
    world = World()

    def fresh() -> httpx.MockTransport:
        return httpx.MockTransport(Script(httpx.Response(200, stream=Body(b"x"))))

    with world.stripe.httpx_client(transport=fresh()) as client, client.stream("GET", URL):
        client.get(URL)
        assert (world.bulkhead.in_flight, world.judged()) == (1, 1)
    async with (
        world.stripe.httpx_async_client(transport=fresh()) as async_client,
        async_client.stream("GET", URL),
    ):
        assert world.clock.timers == 0
        await async_client.get(URL)
        assert (world.bulkhead.in_flight, world.judged()) == (1, 3)
    assert (world.calls("success"), world.judged()) == (4, 4)
    assert world.at_rest()


async def test_a_body_that_breaks_is_one_failure() -> None:
    """The fault in part two comes out, the call counts once, and the permit is back."""
    world = World()

    def fresh() -> httpx.MockTransport:
        return httpx.MockTransport(Script(httpx.Response(200, stream=Body(b"one", httpx.ReadError("reset")))))

    with world.stripe.httpx_client(transport=fresh()) as client, pytest.raises(httpx.ReadError):
        client.get(URL)
    async with world.stripe.httpx_async_client(transport=fresh()) as async_client:
        with pytest.raises(httpx.ReadError):
            await async_client.get(URL)
    assert (world.calls("failure"), world.calls("success"), world.judged()) == (2, 0, 2)
    assert world.at_rest()


async def test_whoever_stops_reading_has_had_a_good_answer() -> None:
    """Closed early by its reader a call is judged by its status: such calls still close a breaker."""
    world = World()
    transport = httpx.MockTransport(Script(httpx.Response(200, stream=Body(*[b"x"] * 100))))
    async with (
        world.stripe.httpx_async_client(transport=transport) as async_client,
        async_client.stream("GET", URL) as answer,
    ):
        async for _ in answer.aiter_raw():
            break
    transport = httpx.MockTransport(Script(httpx.Response(200, stream=Body(*[b"x"] * 100))))
    with world.stripe.httpx_client(transport=transport) as client, client.stream("GET", URL) as answer:
        parts = answer.iter_raw()
        next(parts)
        cast("Generator[bytes]", parts).close()
    assert (world.calls("success"), world.judged()) == (2, 2)
    assert world.at_rest()


async def test_an_answer_that_is_dropped_gives_its_place_back() -> None:
    """Neither read nor closed, in both worlds, alone or in a cycle: the garbage collector ends the call."""
    world = World()

    def fresh() -> httpx.MockTransport:
        return httpx.MockTransport(lambda _: httpx.Response(500, stream=Body(b"x")))

    client = world.stripe.httpx_client(transport=fresh())
    answer: Any = client.send(client.build_request("GET", URL), stream=True)
    assert world.bulkhead.in_flight == 1
    answer.itself = answer
    del answer
    gc.collect()
    later = world.stripe.httpx_async_client(transport=fresh())
    answer = await later.send(later.build_request("GET", URL), stream=True)
    assert world.bulkhead.in_flight == 1
    del answer
    gc.collect()
    assert (world.calls("failure"), world.judged()) == (2, 2)
    assert world.at_rest()


def test_an_answer_that_is_dropped_at_a_bad_moment_waits_for_the_next_call() -> None:
    """The garbage collector may come while this thread holds a lock: then nothing is waited for."""
    world = World()
    transport = httpx.MockTransport(lambda _: httpx.Response(200, stream=Body(b"x")))
    client = world.stripe.httpx_client(transport=transport)
    answer: Any = client.send(client.build_request("GET", URL), stream=True)
    for guard in (world.breaker, world.bulkhead):
        with vars(guard)["_lock"]:
            del answer
            gc.collect()
            assert world.bulkhead.in_flight == 1
        answer = client.send(client.build_request("GET", URL), stream=True)
        assert world.bulkhead.in_flight == 1
    answer.close()
    assert world.calls("success") == 3
    assert world.at_rest()


def test_reading_a_stream_renews_a_probes_lease() -> None:
    """A probe whose answer comes slowly, part by part, is not taken for lost; a silent one is, until it ends."""
    for silent, meanwhile in ((False, "half_open"), (True, "open")):
        world = World(
            timeout="2s", breaker={"consecutive_failures": 1, "probes": 1}, bulkhead={"concurrency": 1}
        )
        permit = world.breaker.enter()
        world.breaker.leave(permit, Outcome.FAILURE, 1, world.clock.now())
        world.clock.advance("30s")
        transport = httpx.MockTransport(Script(httpx.Response(200, stream=Body(*[b"x"] * 5))))
        with world.stripe.httpx_client(transport=transport) as client, client.stream("GET", URL) as answer:
            for _ in answer.iter_raw():
                world.clock.advance("3s" if silent else "1900ms")
                with pytest.raises(world.stripe.Open):
                    world.breaker.enter()
                assert world.breaker.state == meanwhile
        assert world.breaker.state == "closed"


def test_refusals_are_typed_and_call_nobody() -> None:
    """Breaker and bulkhead refuse a request as they refuse a call."""
    world = World(bulkhead={"concurrency": 1})
    script = Script()
    with world.stripe, pytest.raises(world.stripe.Full):
        threading_client(world, script)
    assert script.seen == []


def threading_client(world: World, script: Script) -> None:
    """A request from a fresh context: inside the same one it would pass through."""
    caught: list[BaseException] = []

    def work() -> None:
        try:
            world.stripe.httpx_client(transport=httpx.MockTransport(script)).get(URL)
        except BaseException as fault:  # noqa: BLE001 - it is thrown on
            caught.append(fault)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    for fault in caught:
        raise fault


async def test_whoever_knows_httpx_alone_catches_refusals_and_timeouts() -> None:
    """They are both: this package's typed errors, with their retry-after, and errors of httpx."""
    world = World(breaker={"consecutive_failures": 1, "open_for": "30s"})
    with world.stripe.httpx_client(transport=httpx.MockTransport(Script(httpx.Response(500)))) as client:
        client.get(URL)
        with pytest.raises(httpx.HTTPError) as refused:
            client.get(URL)
    assert isinstance(refused.value, world.stripe.Open)
    assert (refused.value.retry_after, str(refused.value.request.url)) == (30 * SECOND, URL)
    assert str(refused.value) == "dependency `stripe`: the breaker is open; retry in 30 s"
    world = World(auto=False, timeout="2s")

    async def silent(request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async with world.stripe.httpx_async_client(transport=httpx.MockTransport(silent)) as async_client:
        task = asyncio.create_task(async_client.get(URL))
        await world.clock.settle()
        world.clock.advance("2s")
        with pytest.raises(httpx.TimeoutException) as caught:
            await task
        assert isinstance(caught.value, world.stripe.Timeout)


async def test_a_thousand_aborted_streams_leave_nothing_behind() -> None:
    """Read to the end, closed early, cancelled at any moment, broken by the server: seeded, and at rest."""
    dice = random.Random(11)
    world = World(**all_but(breaker={"min_calls": 10**6}))

    def answer(request: httpx.Request) -> httpx.Response:
        parts: list[bytes | Exception] = [b"x"] * dice.randrange(4)
        if dice.randrange(3) == 0:
            parts.append(httpx.ReadError("reset"))
        return httpx.Response(dice.choice([200, 500]), stream=Body(*parts))

    async def one(client: httpx.AsyncClient, few: int) -> None:
        async with client.stream("POST", URL) as answer:
            async for _ in answer.aiter_raw():
                few -= 1
                if few < 0:
                    break

    async with world.stripe.httpx_async_client(transport=httpx.MockTransport(answer)) as client:
        for _ in range(1000):
            task = asyncio.create_task(one(client, dice.randrange(6)))
            if dice.randrange(3) == 0:
                await world.clock.settle(dice.randrange(6))
                task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert world.at_rest()
    ended = sum(world.calls(outcome) for outcome in ("success", "failure"))
    assert world.judged() == ended
    assert 1000 >= ended + world.calls("cancelled") > 900


def test_no_phase_of_a_request_is_longer_than_the_timeout() -> None:
    """The dependency's timeout, or what the deadline leaves, caps every phase; a shorter wish stays."""
    world = World()
    sync, later = both(world, timeout=httpx.Timeout(9, connect=0.5))
    assert sync.timeouts == later.timeouts == [{"connect": 0.5, "read": 2.0, "write": 2.0, "pool": 2.0}]
    with serving(deadline=world.clock.now() + SECOND):
        sync, _ = both(world)
    assert sync.timeouts == [dict.fromkeys(("connect", "read", "write", "pool"), (SECOND - MARGIN) / SECOND)]
    bare = World(breaker={})
    sync, _ = both(bare, timeout=None)
    assert sync.timeouts == [dict.fromkeys(("connect", "read", "write", "pool"))]


@pytest.mark.parametrize("form", ["sync", "async"])
@pytest.mark.parametrize(("said", "read"), [({}, 2.0), ({"timeout": 9}, 9), ({"timeout": None}, None)])
def test_from_its_head_on_a_response_takes_as_long_as_the_request_says(
    form: str, said: dict[str, Any], read: float | None
) -> None:
    """Server-sent events come when something happens; who says nothing waits the timeout for each part."""
    world = World()
    waits: list[Any] = []
    extensions: dict[str, Any] = {}

    class Events(Body):
        def __iter__(self) -> Iterator[bytes]:
            waits.append(extensions["timeout"]["read"])  # httpx's own transport looks when the body begins
            yield b"event"

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal extensions
        extensions = request.extensions
        waits.append(extensions["timeout"]["read"])
        return httpx.Response(200, stream=Events())

    async def scenario() -> None:
        async with world.stripe.httpx_async_client(transport=httpx.MockTransport(answer)) as async_client:
            await async_client.get(URL, **said)

    if form == "async":
        asyncio.run(scenario())
    else:
        with world.stripe.httpx_client(transport=httpx.MockTransport(answer)) as client:
            client.get(URL, **said)
    assert waits == [2.0, read]


def test_a_silent_server_is_cut_off_in_a_task() -> None:
    """After exactly the timeout, whatever the phases say; then the next attempt is made."""
    world = World(auto=False, **ALL)
    asked = 0

    async def answer(request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        if asked == 1:
            await asyncio.Event().wait()
        return httpx.Response(200)

    async def scenario() -> int:
        async with world.stripe.httpx_async_client(transport=httpx.MockTransport(answer)) as client:
            task = asyncio.create_task(client.get(URL))
            await world.clock.settle()
            world.clock.advance("2s")
            await world.clock.settle()
            world.clock.advance("100ms")
            return (await task).status_code

    assert asyncio.run(scenario()) == 200
    assert (asked, world.calls("timeout"), world.calls("success")) == (2, 1, 1)
    assert world.at_rest()


def test_the_client_knows_where_the_dependency_is() -> None:
    """`url` and `timeout` of the spec are its defaults; options win."""
    world = World(url="https://api.stripe.com/v1", timeout="3s")
    client = world.stripe.httpx_client()
    assert str(client.base_url) == "https://api.stripe.com/v1/"
    assert client.timeout == httpx.Timeout(3)
    other = world.stripe.httpx_async_client(base_url="http://localhost", timeout=1, headers={"x": "y"})
    assert (str(other.base_url), other.timeout, other.headers["x"]) == (
        "http://localhost",
        httpx.Timeout(1),
        "y",
    )
    client.close()
    asyncio.run(other.aclose())


@pytest.mark.parametrize("way", ["mounts", "proxy"])
def test_no_way_of_a_request_leads_around_the_policies(way: str) -> None:
    """A transport that an option of httpx mounts is guarded as any other, and so is a proxy."""
    world = World(timeout="1s")
    bad = httpx.MockTransport(lambda _: httpx.Response(503))
    options: dict[str, Any] = (
        {"proxy": "http://127.0.0.1:9"} if way == "proxy" else {"mounts": {"all://": bad, "all://x": None}}
    )

    async def later() -> None:
        async with world.stripe.httpx_async_client(**options) as async_client:
            await async_client.get(URL.replace("https", "http"))

    for ask in (lambda: world.stripe.httpx_client(**options).get(URL.replace("https", "http")), later):
        with suppress(httpx.ConnectError):
            asyncio.run(cast("Any", ask)()) if ask is later else ask()
    assert world.calls("failure") == 2


# --- a real server ---------------------------------------------------------------------------------

Scope = MutableMapping[str, Any]


async def _server(
    scope: Scope, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
) -> None:
    """/ok, /down (503), /silent (no answer), /drip (a body that stops), /flaky (503 every other time)."""
    if scope["type"] != "http":
        return
    path = scope["path"]
    if path == "/silent":
        await receive()
        await receive()  # until the client is gone
        return
    _server.turns += 1  # type: ignore[attr-defined]
    flaky = path == "/flaky" and _server.turns % 2  # type: ignore[attr-defined]
    status = 503 if path == "/down" or flaky else 200
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"10")]})
    await send({"type": "http.response.body", "body": b"12345", "more_body": True})
    if path == "/drip":
        await receive()
        await receive()
        return
    await send({"type": "http.response.body", "body": b"67890"})


_server.turns = 0  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A uvicorn on a free port, in a thread."""
    listener = socket.create_server(("127.0.0.1", 0))
    made = uvicorn.Server(
        uvicorn.Config(_server, log_level="error", lifespan="off", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=made.run, args=([listener],))
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    made.should_exit = True
    thread.join()
    listener.close()


class Real(World):
    """The same world in real time: `stripe` has all the time it needs, `hasty` has none to lose."""

    def __init__(self, url: str) -> None:
        common = {"url": url, "retry": {"attempts": 2, "base": "1ms"}, "bulkhead": {"concurrency": 4}}
        said = {
            "mahavishnu": 1,
            "service": {"name": "shop", "app": "shop:app"},
            "dependencies": {
                "stripe": {**common, "timeout": "30s", "breaker": {"min_calls": 100}},
                "hasty": {**common, "timeout": "50ms"},
            },
        }
        self.service = Service(Spec.model_validate(said), SystemClock())
        forget()
        use(self.service)
        self.stripe = mahavishnu.dependency("stripe")
        self.hasty = mahavishnu.dependency("hasty")

    def in_flight(self) -> int:
        """Places taken of both."""
        return sum(int(self.guard(BulkheadGuard, name).in_flight) for name in ("stripe", "hasty"))


def test_a_real_server_through_the_sync_client(server: str) -> None:
    """Answered, repeated, exhausted, unreachable, silent, dripping: places come back, each counts once."""
    world = Real(server)
    with world.stripe.httpx_client() as client:
        assert client.get("/ok").text == "1234567890"
        assert [client.get("/flaky").status_code for _ in range(2)] == [200, 200]
        assert client.get("/down").text == "1234567890"
        with pytest.raises(httpx.ConnectError):
            client.post("http://127.0.0.1:1/")
    with world.hasty.httpx_client() as client:
        for method, path in (("GET", "/silent"), ("POST", "/drip")):
            with pytest.raises(httpx.TimeoutException):
                client.request(method, path)
    assert world.in_flight() == 0
    assert world.calls("success") == 3
    assert world.calls("failure") >= 3
    assert world.calls("timeout", "hasty") == 2 + 1


async def test_a_real_server_through_the_async_client(server: str) -> None:
    """The same, with cancellations in the middle: sockets, places and counts are where they should be."""
    world = Real(server)
    async with world.hasty.httpx_async_client() as client:
        for method, path in (("GET", "/silent"), ("POST", "/drip")):
            with pytest.raises(httpx.TimeoutException):
                await client.request(method, path)
    async with world.stripe.httpx_async_client() as client:
        assert (await client.get("/ok")).text == "1234567890"
        assert (await client.get("/down")).text == "1234567890"
        for path in ("/silent", "/drip"):
            tasks = [asyncio.create_task(client.post(path)) for _ in range(4)]
            await VirtualClock().settle(100)
            assert world.in_flight() == 4
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            assert all(task.cancelled() for task in tasks)
            assert world.in_flight() == 0
        assert (await client.get("/ok")).status_code == 200
    assert world.calls("timeout", "hasty") == 2 + 1
    assert (world.calls("success"), world.calls("failure"), world.calls("cancelled")) == (2, 2, 8)
