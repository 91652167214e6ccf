"""A dependency that fails: the log says how, since when, and what its breaker made of it."""

from __future__ import annotations

import asyncio
import errno
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from io import StringIO
from typing import Any

import httpx
import pytest

import mahavishnu
from mahavishnu.outcomes.faults import leaves_of
from mahavishnu.runtime.calls.reasons import reason
from mahavishnu.runtime.current import use
from mahavishnu.runtime.service import Service
from tests.pages import blocks
from tests.runtime.calls.worlds import World, serving

MS = 1_000_000
BREAKER: dict[str, Any] = {"consecutive_failures": 3, "open_for": "30s", "probes": 1}


class Told:
    """The lines of the log."""

    def __init__(self) -> None:
        self.log = StringIO()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.getvalue().splitlines()]

    def of(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["event"] == event]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    told = Told()
    made: Any = Service.__init__

    def noted(self: Service, spec: Any, clock: Any, **more: Any) -> None:
        made(self, spec, clock, **{**more, "log_to": told.log})

    monkeypatch.setattr(Service, "__init__", noted)
    return told


def answers(status: int) -> httpx.Response:
    return httpx.Response(status, request=httpx.Request("GET", "https://pay.example.com/?key=SECRET"))


def call(world: World, status: int = 503) -> None:
    with suppress(world.stripe.Open):
        world.stripe(lambda: answers(status))()


async def call_async(world: World, fault: Exception | None = None) -> None:
    async def work() -> httpx.Response:
        if fault is not None:
            raise fault
        return answers(503)

    with suppress(Exception):
        await world.stripe(work)()


def bare(line: dict[str, Any]) -> dict[str, Any]:
    return {name: one for name, one in line.items() if name not in ("timestamp", "level")}


def test_each_turn_of_a_breaker_is_told_with_what_led_to_it(told: Told) -> None:
    """From closed over open and half open to closed, in a thread without an event loop, as in a worker."""
    world = World(breaker=BREAKER)
    call(world, 200)
    for _ in range(5):
        call(world)
    world.clock.advance("40s")
    call(world, 200)

    lines = [bare(line) for line in told.lines if line["event"].startswith("breaker")]
    assert lines == [
        {
            "dependency": "stripe", "from": "closed", "to": "open", "calls": 4, "failures": 3,
            "reason": "it answered 503", "open_for": 30.0, "event": "breaker opened",
        },
        {"dependency": "stripe", "from": "open", "to": "half_open", "event": "breaker half open"},
        {
            "dependency": "stripe", "from": "half_open", "to": "closed", "calls": 1, "failures": 0,
            "event": "breaker closed",
        },
    ]  # fmt: skip
    assert {line["level"] for line in told.lines} == {"warning"}


def test_the_manual_shows_what_is_written(told: Told) -> None:
    """Line by line the same names in the same order; these calls belong to no request."""
    world = World(breaker=BREAKER)
    for _ in range(3):
        call(world)
    shown = [json.loads(line) for line in blocks("docs/dependencies.md")["dependency log"].splitlines()]
    assert [[*bare(line)] for line in told.lines] == [
        [name for name in line if name != "request_id"] for line in shown
    ]


def test_a_probe_that_fails_is_told_with_its_reason(told: Told) -> None:
    """The last reason is the one that counts: it refuses connections now."""
    world = World(breaker=BREAKER)
    for _ in range(3):
        call(world)
    world.clock.advance("40s")

    def refused() -> None:
        raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")

    with pytest.raises(ConnectionRefusedError):
        world.stripe(refused)()
    assert [(line["from"], line["reason"]) for line in told.of("breaker opened")] == [
        ("closed", "it answered 503"),
        ("half_open", "connection refused"),
    ]


def test_slow_calls_that_open_it_are_told_as_such(told: Told) -> None:
    """None of them has failed: what was too slow says so."""
    world = World(breaker={"slow_call": "1s", "min_calls": 2, "open_for": "30s"})
    for _ in range(2):
        world.stripe(lambda: world.clock.advance("2s"))()
    (line,) = told.of("breaker opened")
    assert (line["failures"], line["slow"], line["reason"]) == (0, 2, "calls took longer than 1s")
    assert told.of("call failed") == []


def test_what_the_breaker_alone_takes_for_a_failure_is_its_reason(told: Told) -> None:
    """A 429 is a success, and what it ignores is not its reason, though that is a failure."""
    world = World(breaker={**BREAKER, "failure_on": [429], "ignore": [503]})
    for status in (429, 503, 429, 503, 429, 503):
        call(world, status)
    (line,) = told.of("breaker opened")
    assert line["reason"] == "it answered 429"


def test_the_first_of_a_kind_in_a_minute_is_told_and_how_many_were_held_back(told: Told) -> None:
    """A hundred failures of two kinds are two lines, and two more a minute later."""
    world = World(timeout="2s")
    for _ in range(50):
        call(world)
        call(world, 502)
    world.clock.advance("1m")
    call(world)
    call(world, 502)
    assert [(line["reason"], line["held_back"]) for line in told.of("call failed")] == [
        ("it answered 503", 0),
        ("it answered 502", 0),
        ("it answered 503", 49),
        ("it answered 502", 49),
    ]


def test_kinds_without_end_are_a_few_lines_and_little_memory(told: Told) -> None:
    """Whatever an app raises: so many kinds are told apart, and the others count as one."""
    world = World(timeout="2s")
    kinds = [type(f"Fault{number}", (Exception,), {}) for number in range(200)]

    def fail(kind: type[Exception]) -> None:
        raise kind

    for kind in kinds:
        with suppress(kind):
            world.stripe(fail)(kind)
    assert len(told.of("call failed")) == 17
    assert len(world.guardian.troubles._kinds) == 16
    world.clock.advance("1m")
    with suppress(kinds[0]):
        world.stripe(fail)(kinds[0])
    assert len(world.guardian.troubles._kinds) <= 16


def test_a_breaker_without_rest_is_told_of_at_a_bounded_rate(told: Told) -> None:
    """It may turn at every call; the next line that is written says how many were not."""
    world = World(breaker={"consecutive_failures": 1, "open_for": "1ms", "max_open_for": "1ms", "probes": 1})
    for _ in range(100):
        call(world)
        world.clock.advance("2ms")
    lines = [line for line in told.lines if line["event"].startswith("breaker")]
    assert len(lines) == 30
    world.clock.advance("1m")
    call(world)
    (half, _) = [line for line in told.lines if line["event"].startswith("breaker")][30:]
    assert half["held_back"] > 100


def test_a_reload_goes_on_with_what_was_told_and_held_back(told: Told) -> None:
    """The minute of a kind does not begin anew, nor does it with a spec that never takes over."""
    world = World(breaker=BREAKER)
    call(world)
    before = world.service
    after = Service(before.spec, world.clock, before=before)
    call(world)
    after.take_over(before)
    use(after)
    call(world)
    assert len(told.of("call failed")) == 1
    assert len(told.of("breaker opened")) == 1


def test_a_call_that_succeeds_tells_nothing(told: Told) -> None:
    world = World(breaker=BREAKER, timeout="2s")
    for _ in range(30):
        call(world, 200)
    call(world, 404)
    assert told.lines == []


async def test_in_a_task_nothing_is_written_before_its_turn_is_over(told: Told) -> None:
    """The lines have the id of the request whose call it was, not of whoever comes next."""
    world = World(breaker=BREAKER)
    with serving("first-1"):
        await call_async(world)
    with serving("second-2"):
        await call_async(world, ConnectionResetError(errno.ECONNRESET, "reset by peer"))
    assert told.lines == []
    await asyncio.sleep(0)
    assert [(line["reason"], line["request_id"]) for line in told.of("call failed")] == [
        ("it answered 503", "first-1"),
        ("connection reset", "second-2"),
    ]


def test_what_is_parked_is_never_lost_where_threads_and_tasks_call(told: Told) -> None:
    """Many threads, whose calls fail and open breakers: each line is whole, and none is there twice."""
    world = World(breaker=BREAKER)

    def fifty() -> None:
        for _ in range(50):
            call(world)

    threads = [threading.Thread(target=fifty) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(told.of("breaker opened")) == 1
    assert len({json.dumps(line) for line in told.lines}) == len(told.lines)


def test_nothing_that_was_sent_is_in_the_log(told: Told) -> None:
    """Neither the URL nor what an error says: it may hold anything."""
    world = World(breaker={**BREAKER, "consecutive_failures": 1})

    def fail() -> None:
        answers(500).raise_for_status()

    with suppress(httpx.HTTPStatusError):
        world.stripe(fail)()

    def wrong() -> None:
        raise ValueError("bob@example.com, token=SECRET")

    world = World(timeout="2s")
    with suppress(ValueError):
        world.stripe(wrong)()
    assert [line["reason"] for line in told.of("call failed")] == ["it answered 500", "ValueError"]
    assert "SECRET" not in told.log.getvalue()
    assert "example" not in told.log.getvalue()


async def test_a_timeout_says_how_long_it_was(told: Told) -> None:
    world = World(auto=False, timeout="200ms")

    @world.stripe
    async def slow() -> None:
        await asyncio.Event().wait()

    task = asyncio.ensure_future(slow())
    await world.clock.settle()
    world.clock.advance("200ms")
    with pytest.raises(world.stripe.Timeout):
        await task
    await asyncio.sleep(0)
    (line,) = told.of("call failed")
    assert line["reason"] == "timed out after 200ms"


async def hang(world: World, left: int, request_id: str = "") -> None:
    """A call that hangs, for a request that has so long left (ns)."""

    @world.stripe
    async def slow() -> None:
        await asyncio.Event().wait()

    with serving(request_id, deadline=world.clock.now() + left):
        task = asyncio.ensure_future(slow())
        await world.clock.settle()
        world.clock.advance(left)
        with pytest.raises(world.stripe.Timeout):
            await task
    await asyncio.sleep(0)


@pytest.mark.parametrize("more", [{"timeout": "1s"}, {}])
async def test_a_call_that_the_deadline_cuts_is_told_of_once_a_minute(
    more: dict[str, Any], told: Told
) -> None:
    """No breaker and no failure says anything of it, however many hang."""
    world = World(auto=False, breaker=BREAKER, **more)
    for number in range(10):
        await hang(world, 500 * MS, f"r-{number}")
    world.clock.advance("1m")
    await hang(world, 300 * MS, "later")
    assert [(line["reason"], line["held_back"], line["request_id"]) for line in told.of("call cut")] == [
        ("the request's deadline came first, after 490ms", 0, "r-0"),
        ("the request's deadline came first, after 290ms", 9, "later"),
    ]
    assert {(line["event"], line["dependency"], line["level"]) for line in told.lines} == {
        ("call cut", "stripe", "warning")
    }
    assert (world.calls("cancelled"), world.calls("timeout")) == (11, 0)


async def test_each_dependency_has_a_minute_of_its_own(told: Told) -> None:
    """Nor does a failure take the line of a call that was cut, or the other way round."""
    world = World(auto=False, timeout="1s", others={"bank": {"timeout": "1s"}})
    await call_async(world)
    await hang(world, 500 * MS)
    world.stripe = mahavishnu.dependency("bank")
    await hang(world, 500 * MS)
    await asyncio.sleep(0)
    assert [(line["event"], line["dependency"]) for line in told.lines] == [
        ("call failed", "stripe"),
        ("call cut", "stripe"),
        ("call cut", "bank"),
    ]


def test_a_call_of_a_thread_that_ends_with_the_deadline_is_told_of(told: Told) -> None:
    """Its client had no more time than the request."""
    world = World(timeout="1s")

    @world.stripe
    def slow() -> None:
        world.clock.advance(490 * MS)
        raise TimeoutError

    with serving(deadline=world.clock.now() + 500 * MS), pytest.raises(TimeoutError):
        slow()
    assert [line["event"] for line in told.lines] == ["call cut"]


async def test_a_client_that_goes_is_no_call_that_was_cut(told: Told) -> None:
    """It is cancelled, though the request had less time than the dependency may take."""
    world = World(auto=False, timeout="1s")

    @world.stripe
    async def slow() -> None:
        await asyncio.Event().wait()

    with serving(deadline=world.clock.now() + 500 * MS):
        task = asyncio.ensure_future(slow())
        await world.clock.settle()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await asyncio.sleep(0)
    assert (told.lines, world.calls("cancelled")) == ([], 1)


def test_an_answer_that_is_streamed_is_told_of_when_it_breaks(told: Told) -> None:
    """Its status was good, and its end was none."""
    world = World(timeout="2s")

    class Broken(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield b"a"
            raise httpx.ReadError("broken")

    transport = httpx.MockTransport(lambda _: httpx.Response(200, stream=Broken()))
    with world.stripe.httpx_client(transport=transport) as client, suppress(httpx.ReadError):
        client.get("https://pay.example.com/")
    assert [line["reason"] for line in told.of("call failed")] == ["httpx.ReadError"]


async def test_httpx_says_why_it_has_no_connection(told: Told) -> None:
    """Its error is about one of httpcore, which is about one of the system."""
    world = World(timeout="2s")
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # nobody listens there
        url = f"http://127.0.0.1:{held.getsockname()[1]}/?key=SECRET"
        with world.stripe.httpx_client() as client, suppress(httpx.ConnectError):
            client.get(url)
        world.clock.advance("1m")
        async with world.stripe.httpx_async_client() as waiting:
            with suppress(httpx.ConnectError):
                await waiting.get(url)
    await asyncio.sleep(0)
    assert [line["reason"] for line in told.of("call failed")] == ["connection refused"] * 2


def _raised(fault: Exception, *, behind: BaseException | None = None) -> Exception:
    fault.__cause__ = behind
    return fault


REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, "x")


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (REFUSED, "connection refused"),
        (_raised(httpx.ConnectError("x"), behind=REFUSED), "connection refused"),
        (_raised(httpx.ConnectError("x"), behind=OSError("all failed")), "httpx.ConnectError"),
        (_raised(httpx.ConnectError("x"), behind=ExceptionGroup("x", [REFUSED])), "connection refused"),
        (_raised(httpx.ConnectError("x"), behind=socket.gaierror(-2, "x")), "its name is not resolved"),
        (
            _raised(httpx.ConnectError("x"), behind=ssl.SSLCertVerificationError()),
            "its certificate is not valid",
        ),
        (_raised(httpx.ConnectError("x"), behind=ssl.SSLError()), "TLS failed"),
        (httpx.ReadTimeout("x"), "timed out after 150ms"),
        (httpx.ConnectTimeout("x"), "not connected after 150ms"),
        (ExceptionGroup("x", [ValueError("y"), httpx.ReadTimeout("x")]), "ValueError"),
        (_raised(ValueError("x"), behind=REFUSED), "ValueError"),
    ],
)
def test_a_fault_in_the_words_of_people(fault: Exception, says: str) -> None:
    """What a system says of a connection is found behind what clients make of it, and only there."""
    assert reason(fault, leaves_of(fault), 150 * MS, 2000 * MS) == says
