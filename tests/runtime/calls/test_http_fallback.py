"""What stands in for httpx requests: marked responses, old ones, dead letters; sync and async."""

from __future__ import annotations

import asyncio
import gc
import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from unittest.mock import Mock

import httpx
import pytest

from mahavishnu import watching
from mahavishnu.errors import BreakerOpen, Parked
from mahavishnu.runtime.calls.http_client import RequestParked
from mahavishnu.runtime.context import Degraded
from mahavishnu.runtime.dead_letters.letters import Letter
from tests.metering import value
from tests.runtime.calls.worlds import World

STATIC: dict[str, Any] = {"fallback": {"static": {"price": 0}}}
STALE: dict[str, Any] = {"fallback": {"stale_cache": "10m", "entries": 10, "size": "1kB"}}
LETTER: dict[str, Any] = {"fallback": "dead_letter"}
URL = "http://stripe/charges?q=1"
IDEMPOTENT = {"idempotent": True}
FORMS = ["sync", "async"]


class Backend:
    """Answers as it is told, and remembers."""

    def __init__(self) -> None:
        self.status = 200
        self.headers: dict[str, str] = {}
        self.seen: list[httpx.Request] = []
        self.bodies: list[Parts] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        if self.status == 0:
            raise httpx.ConnectError("gone")
        self.bodies.append(Parts(b"answer ", b"%d" % len(self.seen)))
        return httpx.Response(self.status, headers=self.headers, stream=self.bodies[-1])


class Parts(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body in parts, which knows whether it was closed."""

    def __init__(self, *parts: bytes) -> None:
        self.parts = parts
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        yield from self.parts

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self.parts:
            yield part

    def close(self) -> None:
        self.closed += 1

    async def aclose(self) -> None:
        self.closed += 1


def stood_in(world: World) -> Any:
    """What stands in for calls of `stripe`."""
    fallbacks = world.service.dependencies["stripe"].fallbacks
    assert fallbacks is not None
    return fallbacks.stand_in


class Caller:
    """One client of either kind, asked from a plain function."""

    def __init__(
        self, form: str, world: World, backend: Callable[[httpx.Request], httpx.Response], **options: Any
    ) -> None:
        transport = httpx.MockTransport(backend)
        self.client: Any = (
            world.stripe.httpx_client(transport=transport, **options)
            if form == "sync"
            else world.stripe.httpx_async_client(transport=transport, **options)
        )

    def __call__(self, method: str = "GET", url: str = URL, **request: Any) -> httpx.Response:
        if isinstance(self.client, httpx.Client):
            return self.client.request(method, url, **request)
        answer: httpx.Response = asyncio.run(self.client.request(method, url, **request))
        return answer


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    """For threads, for tasks."""
    return str(request.param)


@pytest.mark.parametrize("status", [0, 503])
def test_a_fixed_response_is_marked(form: str, status: int) -> None:
    """It says itself that it is none of the dependency's, and the failed one is closed."""
    world, backend = World(**STATIC), Backend()
    ask = Caller(form, world, backend)
    backend.status = status
    with watching() as seen:
        answer = ask()
    assert (answer.status_code, answer.json()) == (200, {"price": 0})
    assert answer.headers["mahavishnu-degraded"] == "stripe;by=static"
    assert seen == {"stripe": Degraded("stripe", "static")}
    assert all(body.closed for body in backend.bodies)
    assert world.calls("success") == 0


def test_a_fixed_response_is_as_a_real_one(form: str) -> None:
    """Whoever measures it, logs it or asks what it answers finds what every response has."""
    world, backend = World(**STATIC), Backend()
    hooked: list[int] = []

    def hook(response: httpx.Response) -> None:
        hooked.append(response.raise_for_status().status_code)

    async def hook_async(response: httpx.Response) -> None:
        hook(response)

    ask = Caller(form, world, backend, event_hooks={"response": [hook if form == "sync" else hook_async]})
    backend.status = 0
    answer = ask()
    assert (hooked, answer.elapsed.total_seconds() >= 0, answer.is_closed) == ([200], True, True)
    assert answer.raise_for_status().json() == {"price": 0}
    assert ({answer.request.url, answer.url}, answer.history) == ({httpx.URL(URL)}, [])
    assert answer.headers["content-type"] == "application/json"
    assert int(answer.headers["content-length"]) == len(answer.content) == answer.num_bytes_downloaded


def test_a_fixed_response_to_head_has_no_body(form: str) -> None:
    """Its headers are those that GET would have (RFC 9110, 9.3.2)."""
    world, backend = World(**STATIC), Backend()
    ask = Caller(form, world, backend)
    backend.status = 0
    answer, full = ask("HEAD"), ask()
    assert (answer.content, full.content) == (b"", b'{"price":0}')
    assert answer.headers == full.headers
    assert answer.elapsed.total_seconds() >= 0


@pytest.mark.parametrize("reader", ["bytes", "raw", "lines", "text"])
def test_a_fixed_response_may_be_read_in_parts(form: str, reader: str) -> None:
    """As a stream, which is closed and measured at its end; what is not read stays unread."""
    world, backend = World(**STATIC), Backend()
    ask = Caller(form, world, backend)
    backend.status = 0

    def read() -> tuple[list[Any], httpx.Response]:
        with ask.client.stream("GET", URL) as answer:
            assert not answer.is_stream_consumed
            return list(getattr(answer, f"iter_{reader}")()), answer

    async def read_async() -> tuple[list[Any], httpx.Response]:
        async with ask.client.stream("GET", URL) as answer:
            assert not answer.is_stream_consumed
            return [part async for part in getattr(answer, f"aiter_{reader}")()], answer

    parts, answer = read() if form == "sync" else asyncio.run(read_async())
    assert parts in ([b'{"price":0}'], ['{"price":0}'])
    assert (answer.is_closed, answer.elapsed.total_seconds() >= 0) == (True, True)


def test_nothing_stands_in_for_what_has_an_effect(form: str) -> None:
    """A charge that failed has failed."""
    world, backend = World(**STATIC), Backend()
    ask = Caller(form, world, backend)
    backend.status = 503
    assert ask("POST").status_code == 503
    backend.status = 404
    assert ask().status_code == 404


def test_the_last_good_response_stands_in(form: str) -> None:
    """With its headers, its age, and a mark; of another question there is none."""
    world, backend = World(**STALE), Backend()
    ask = Caller(form, world, backend)
    backend.headers = {"content-type": "text/plain", "set-cookie": "a=b"}
    assert ask().text == "answer 1"
    ask.client.cookies.clear()
    backend.status = 503
    world.clock.advance("95s")
    old = ask()
    assert (old.status_code, old.text, old.headers["age"]) == (200, "answer 1", "95")
    assert old.headers["content-type"] == "text/plain"
    assert "set-cookie" not in old.headers
    assert old.headers["mahavishnu-degraded"] == "stripe;by=stale_cache;age=95"
    assert ask(url="http://stripe/other").status_code == 503
    backend.status = 0
    with pytest.raises(httpx.ConnectError):
        ask(url="http://stripe/other")
    world.clock.advance("10m")
    with pytest.raises(httpx.ConnectError):
        ask()


def test_a_response_that_is_whole_already_is_kept_too(form: str) -> None:
    """As those of a transport that reads them itself, or of a test."""
    world = World(**STALE)
    answers = iter([httpx.Response(200, text="whole"), httpx.Response(503), httpx.Response(503)])
    ask = Caller(form, world, lambda _: next(answers))
    assert [ask().text, ask().text] == ["whole", "whole"]


@pytest.mark.parametrize("name", ["authorization", "cookie", "accept", "x-tenant", "host"])
def test_nobody_gets_what_another_one_was_answered(form: str, name: str) -> None:
    """Credentials, and whatever else is asked, are part of the question; the trace of a request is not."""
    world, backend = World(**STALE), Backend()
    ask = Caller(form, world, backend)
    ask(headers={name: "ann", "traceparent": "1", "x-request-id": "1"})
    backend.status = 503
    assert ask(headers={name: "ann", "traceparent": "2", "x-request-id": "2"}).status_code == 200
    assert ask(headers={name: "bob"}).status_code == 503
    assert ask().status_code == 503


@pytest.mark.parametrize(
    ("status", "headers"),
    [(200, {"cache-control": "private, No-Store"}), (200, {"vary": "*"}), (206, {}), (404, {})],
)
def test_what_may_not_be_kept_is_not(form: str, status: int, headers: dict[str, str]) -> None:
    """What the dependency forbids, and what is no whole answer."""
    world, backend = World(**STALE), Backend()
    ask = Caller(form, world, backend)
    backend.status, backend.headers = status, headers
    ask()
    backend.status = 503
    assert ask().status_code == 503


def test_a_body_that_is_too_large_is_handed_on_and_not_kept(form: str) -> None:
    """Part by part, without being held back."""
    world, backend = World(**STALE), Backend()
    ask = Caller(form, world, backend, headers={"x": "y"})
    backend.headers = {}
    big = httpx.MockTransport(lambda _: httpx.Response(200, stream=Parts(b"x" * 900, b"y" * 900)))
    large = Caller(form, world, backend)
    large.client._transport._inside = big
    assert len(large().content) == 1800
    large.client._transport._inside = httpx.MockTransport(backend)
    backend.status = 503
    assert large().status_code == 503
    assert ask().status_code == 503


def test_a_stream_that_is_given_up_is_not_kept() -> None:
    """Half an answer is none."""
    world, backend = World(**STALE), Backend()
    client = world.stripe.httpx_client(transport=httpx.MockTransport(backend))
    with client.stream("GET", URL) as answer:
        next(answer.iter_raw())
    assert backend.bodies[0].closed == 1
    backend.status = 503
    assert client.get(URL).status_code == 503


@pytest.mark.parametrize("end", ["read", "close", "drop"])
def test_bodies_that_are_being_read_share_the_room(end: str) -> None:
    """However many are open, they are copied as far as there is room; whatever becomes of them, it comes back."""
    world, status = World(**STALE), [200]
    client = world.stripe.httpx_client(
        transport=httpx.MockTransport(
            lambda _: httpx.Response(status[0], stream=Parts(b"x" * 450, b"y" * 250))
        )
    )

    def kept(url: str) -> bool:
        status[0] = 200
        client.get(url)
        status[0] = 503
        return client.get(url).status_code == 200

    opened = [client.send(client.build_request("GET", f"http://stripe/{n}"), stream=True) for n in range(9)]
    parts = [one.iter_raw() for one in opened]
    assert [len(next(one)) for one in parts] == [450] * 9
    assert not kept("http://stripe/too-many")
    if end == "read":
        assert [[len(part) for part in one] for one in parts] == [[250]] * 9
    elif end == "close":
        deque(map(httpx.Response.close, opened))
    opened, parts = [], []
    gc.collect()
    assert kept("http://stripe/alone")


# --- dead letters ----------------------------------------------------------------------------------


def kept(world: World) -> list[Letter]:
    """The letters of the world."""
    queue = world.service.dead_letters
    assert queue is not None
    return list(queue.writer.ask(lambda letters: letters.some(100)).result())


@pytest.mark.parametrize("status", [0, 503])
def test_a_failed_request_is_kept(form: str, status: int) -> None:
    """Whole, but without credentials; who asked is told by an error that httpx's users catch."""
    world, backend = World(**LETTER), Backend()
    ask = Caller(form, world, backend, headers={"authorization": "Bearer hunter2"})
    backend.status = status
    with pytest.raises(httpx.TransportError) as told, watching() as seen:
        ask("POST", json={"order": 1}, headers={"x-api-key": "hunter3", "x-a": "b"}, extensions=IDEMPOTENT)
    (letter,) = kept(world)
    assert isinstance(told.value, RequestParked)
    assert isinstance(told.value, Parked)
    assert (told.value.letter, told.value.key) == (letter.id, letter.key)
    assert letter.key == backend.seen[0].headers["idempotency-key"]
    assert b"hunter" not in letter.payload
    payload = json.loads(letter.payload)
    assert (payload["method"], payload["url"]) == ("POST", URL)
    assert ["x-a", "b"] in payload["headers"]
    assert letter.error in ("ConnectError", "it answered 503")
    assert seen == {"stripe": Degraded("stripe", "dead_letter")}
    assert all(body.closed for body in backend.bodies)
    parked = "mahavishnu_dead_letters_parked_total"
    assert value(world.service.metrics, parked, dependency="stripe", outcome="stored") == 1


@pytest.mark.parametrize("name", ["x-amz-security-token", "X-Auth-Key", "x-tax-number"])
def test_credentials_are_not_kept(form: str, name: str) -> None:
    """Neither in headers, also those that the log is told not to show, nor in the URL."""
    world = World(also={"observability": {"logs": {"redact": ["x_tax_number"]}}}, **LETTER)
    backend = Backend()
    ask = Caller(form, world, backend)
    backend.status = 503
    with pytest.raises(Parked):
        ask("POST", "http://ann:hunter2@stripe/a?b=c", headers={name: "hunter3"}, extensions=IDEMPOTENT)
    (letter,) = kept(world)
    assert b"hunter" not in letter.payload
    assert json.loads(letter.payload)["url"] == "http://stripe/a?b=c"
    assert backend.seen[0].headers[name] == "hunter3"


class Gone(BaseException):
    """What ends a task or a thread, whatever it waits for."""


def test_a_response_is_closed_when_its_letter_is_no_longer_waited_for(form: str) -> None:
    """Cancelled by the request's deadline, say: its connection goes back to the pool."""
    world, backend = World(**LETTER), Backend()
    ask = Caller(form, world, backend)
    world.guardian.fallbacks.stand_in.park = Mock(side_effect=Gone)
    backend.status = 503
    with pytest.raises(Gone):
        ask("POST", extensions=IDEMPOTENT)
    assert [body.closed for body in backend.bodies] == [1]


def test_every_try_has_the_same_key_and_ones_own_is_kept(form: str) -> None:
    """So that the dependency can tell a second try from a second order."""
    world, backend = World(retry={"attempts": 3, "base": "1ms"}, **LETTER), Backend()
    ask = Caller(form, world, backend)
    backend.status = 503
    for _ in range(2):
        with pytest.raises(Parked):
            ask("POST", headers={"idempotency-key": "order-7"}, extensions=IDEMPOTENT)
    assert {one.headers["idempotency-key"] for one in backend.seen} == {"order-7"}
    assert len(backend.seen) == 6
    assert [one.key for one in kept(world)] == ["order-7"]
    parked = "mahavishnu_dead_letters_parked_total"
    assert value(world.service.metrics, parked, outcome="known") == 1


@pytest.mark.parametrize(
    "other", [{"method": "PUT"}, {"url": "http://stripe/refunds"}, {"json": {"order": 2}}], ids=str
)
def test_another_request_with_the_same_key_is_not_taken_for_kept(form: str, other: dict[str, Any]) -> None:
    """It would never be made: its failure goes out. Headers alone make no other request."""
    world, backend = World(**LETTER), Backend()
    ask = Caller(form, world, backend, headers={"idempotency-key": "order-7"})
    backend.status = 503
    said: dict[str, Any] = {"method": "POST", "url": URL, "json": {"order": 1}, "extensions": IDEMPOTENT}
    for now in ("noon", "a minute later"):
        with pytest.raises(Parked):
            ask(**said, headers={"x-now": now})
    assert ask(**{**said, **other}).status_code == 503
    assert len(kept(world)) == 1
    parked = "mahavishnu_dead_letters_parked_total"
    assert value(world.service.metrics, parked, outcome="lost") == 1


def test_what_only_reads_is_not_kept(form: str) -> None:
    """There is nothing to be done later."""
    world, backend = World(**LETTER), Backend()
    ask = Caller(form, world, backend)
    backend.status = 503
    assert ask("GET").status_code == 503
    assert ask("HEAD").status_code == 503
    assert kept(world) == []


def test_what_can_be_no_letter_is_sent_all_the_same(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dependency that is well answers it; that it would be lost is said once."""
    world, backend = World(**LETTER), Backend()
    told: list[str] = []

    def tell(event: str, **facts: str) -> None:
        told.append(f"{event}: {facts['reason']}")

    monkeypatch.setattr(stood_in(world), "_tell", tell)
    ask = Caller(form, world, backend)
    assert [ask("POST", json={}).status_code for _ in range(2)] == [200, 200]
    assert told == [
        'calls cannot be kept: POST is kept only when it is sent whole, with extensions={"idempotent": True}'
    ]
    assert value(world.service.metrics, "mahavishnu_dead_letters_parked_total", outcome="lost") == 0


def test_what_fails_and_can_be_no_letter_is_counted_as_lost(form: str) -> None:
    """That is what DeadLettersLost wakes somebody for; the caller has the dependency's own error, with a note."""
    world, backend = World(**LETTER), Backend()
    ask = Caller(form, world, backend)
    backend.status = 0
    with pytest.raises(httpx.ConnectError, match="gone") as caught:
        ask("POST", json={})
    assert caught.value.__notes__ == ["and the call to stripe could not be kept as a dead letter"]
    backend.status = 503
    assert ask("POST", json={}).status_code == 503
    assert kept(world) == []
    assert value(world.service.metrics, "mahavishnu_dead_letters_parked_total", outcome="lost") == 2


def test_inside_a_function_that_is_kept_any_request_may_be_sent(form: str) -> None:
    """The function is what is made again, with all its requests; when one fails, it is kept."""
    world, backend = World(**LETTER), Backend()
    ask = Caller(form, world, backend)
    client = ask.client

    @world.stripe(idempotent=True)
    def charge(order: int) -> str:
        answer: httpx.Response = client.post(URL, json=order)
        return answer.raise_for_status().text

    @world.stripe(idempotent=True)
    async def charge_async(order: int) -> str:
        answer: httpx.Response = await client.post(URL, json=order)
        return answer.raise_for_status().text

    def charged() -> str:
        return charge(1) if form == "sync" else asyncio.run(charge_async(1))

    assert charged() == "answer 1"
    assert kept(world) == []
    backend.status = 0
    with pytest.raises(Parked):
        charged()
    (letter,) = kept(world)
    assert ("charge" in letter.operation, letter.error) == (True, "ConnectError")


def test_a_request_that_is_wrong_is_not_kept(form: str) -> None:
    """402 is an answer."""
    world, backend = World(**LETTER), Backend()
    ask = Caller(form, world, backend)
    backend.status = 402
    assert ask("POST", extensions=IDEMPOTENT).status_code == 402
    assert kept(world) == []


def test_where_there_is_no_room_the_failure_goes_out(form: str) -> None:
    """As if there were no fallback; and it is counted as lost."""
    world, backend = World(also={"dead_letters": {"entries": 1}}, **LETTER), Backend()
    ask = Caller(form, world, backend)
    backend.status = 503
    with pytest.raises(Parked):
        ask("POST", extensions=IDEMPOTENT)
    assert ask("POST", extensions=IDEMPOTENT).status_code == 503
    backend.status = 0
    with pytest.raises(httpx.ConnectError) as told:
        ask("POST", extensions=IDEMPOTENT)
    assert told.value.__notes__ == ["and the call to stripe could not be kept as a dead letter"]
    assert len(kept(world)) == 1
    assert world.fallbacks("dead_letter", "failed") == 2


def test_a_refused_request_is_kept_too(form: str) -> None:
    """While the breaker is open nothing is sent, and nothing is lost."""
    world, backend = World(breaker={"consecutive_failures": 1, "open_for": "1m"}, **LETTER), Backend()
    ask = Caller(form, world, backend)
    backend.status = 503
    for _ in range(2):
        with pytest.raises(Parked):
            ask("POST", extensions=IDEMPOTENT)
    with pytest.raises(Parked) as told:
        ask("POST", extensions=IDEMPOTENT)
    assert isinstance(told.value.__cause__, BreakerOpen)
    assert len(backend.seen) == 1
    assert sorted(one.error for one in kept(world)) == ["it answered 503", *["the breaker is open"] * 2]
