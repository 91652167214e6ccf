"""Spans of calls of dependencies, and what their policies did, as a collector gets them."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router, WebSocketRoute
from starlette.websockets import WebSocket

from mahavishnu import dependency, limit
from mahavishnu.dependencies import Dependency
from mahavishnu.errors import BreakerOpen, BulkheadFull, CallTimeout, Parked, RateLimited, Throttled
from tests.otlp_receiver import Collector, Exporting
from tests.runtime.asgi_client import House, handshake, harden, run, site
from tests.runtime.telemetry.test_otlp import served
from tests.runtime.tracing.traced import current, events, exchanged, facts, tracing

Body = Callable[[Dependency, House], Awaitable[None]]


def test_a_refusal_is_an_event_of_the_request(receiver: Collector) -> None:
    limits = {"few": {"rate": "1/minute"}, "seen": {"rate": "1/hour", "mode": "observe"}}
    exchanged(receiver, site(), tracing(receiver.url, limits=limits), {}, {})
    first, second = receiver.spans()
    assert events(first) == []
    told = dict(events(second))
    assert told["mahavishnu.limit.observed"] == {"mahavishnu.limit": "seen"}
    assert told["mahavishnu.limit.refused"] == {
        "mahavishnu.limit": "few",
        "mahavishnu.reason": "limit `few` allows 1/minute; retry in 60 s",
        "mahavishnu.retry_after": 60.0,
    }
    assert facts(second)["http.response.status_code"] == 429
    assert second.status.code == Status.STATUS_CODE_UNSET


@pytest.mark.parametrize("caught", [True, False])
def test_a_refused_call_of_a_tool_is_an_event_of_the_span_it_is_in(receiver: Collector, caught: bool) -> None:
    """Once, whether the handler lets it through or answers something else."""

    async def handler(_: Request) -> Response:
        with suppress(*([RateLimited] if caught else [])):
            async with limit(tool="search"):
                pass
        return Response()

    limits = {"few": {"rate": "1/minute", "match": {"tool": "search"}}}
    app = ExceptionMiddleware(Router([Route("/", handler)]))
    house = exchanged(receiver, app, tracing(receiver.url, limits=limits), {}, {})
    first, second = receiver.spans()
    assert events(first) == []
    ((name, told),) = events(second)
    assert name == "mahavishnu.limit.refused"
    assert told == {
        "mahavishnu.limit": "few",
        "mahavishnu.reason": "limit `few` allows 1/minute; retry in 60 s",
        "mahavishnu.retry_after": 60.0,
        "mahavishnu.tool": "search",
    }
    assert facts(second)["http.response.status_code"] == (200 if caught else 429)
    assert house.lines[-1]["refused_by"] == "few"


async def test_a_refused_call_of_a_tool_is_an_event_of_its_websocket_once(receiver: Collector) -> None:
    async def socket(_: WebSocket) -> None:
        async with limit(tool="search"), limit(tool="search"):
            pass

    limits, app = (
        {"few": {"rate": "1/minute", "match": {"tool": "search"}}},
        site(WebSocketRoute("/", socket)),
    )
    async with served(harden(app, tracing(receiver.url, limits=limits), clock=Exporting())) as house:
        await handshake(house.app, "/")
    (span,) = receiver.spans()
    assert [name for name, _ in events(span)] == ["mahavishnu.limit.refused"]


def test_what_a_dependency_refuses_is_said_by_the_span_of_its_call(receiver: Collector) -> None:
    """Of a handler that lets it through the request has the answer's status, and no limit is named."""

    async def handler(request: Request) -> Response:
        async with dependency("stripe"):
            return Response()

    app = ExceptionMiddleware(Router([Route("/", handler)]))
    exchanged(
        receiver, app, tracing(receiver.url, dependencies={"stripe": {"breaker": {"mode": "open"}}}), {}
    )
    call, request = receiver.spans()
    assert [name for name, _ in events(call)] == ["mahavishnu.breaker.rejected"]
    assert (events(request), facts(request)["http.response.status_code"]) == ([], 503)
    assert (request.status.code, facts(request)["error.type"]) == (Status.STATUS_CODE_ERROR, "503")


def calling(
    receiver: Collector, said: dict[str, Any], body: Body, **more: Any
) -> tuple[Span, list[Span], House]:
    """One request whose handler does this with the dependency: its span, those inside, and the house."""

    async def scenario() -> House:
        async def handler(request: Request) -> Response:
            await body(dependency("stripe"), house)
            return Response()

        spec = tracing(receiver.url, dependencies={"stripe": said}, **more)
        async with served(harden(site(Route("/", handler)), spec, clock=Exporting())) as house:
            assert await house.status() == 200
        return house

    house: House = run(scenario())
    spans = receiver.spans()
    (request,) = (one for one in spans if one.kind == Span.SPAN_KIND_SERVER)
    inside = [one for one in spans if one is not request]
    assert all(one.trace_id == request.trace_id for one in inside)
    return request, inside, house


def test_a_guarded_function_is_a_span_inside(receiver: Collector) -> None:
    """Its own dependency again is a part of it."""

    async def body(stripe: Dependency, house: House) -> None:
        @stripe
        async def charge() -> int:
            async with stripe:
                house.clock.advance("3ms")
            return 1

        assert await charge() == 1

    request, (span,), _ = calling(receiver, {"url": "https://api.stripe.com:444/v1?key=hush"}, body)
    assert span.name == "stripe"
    assert span.kind == Span.SPAN_KIND_INTERNAL
    assert span.parent_span_id == request.span_id
    assert facts(span) == {
        "mahavishnu.dependency": "stripe",
        "mahavishnu.outcome": "success",
        "mahavishnu.attempts": 1,
        "server.address": "api.stripe.com",
        "server.port": 444,
    }
    assert (span.status.code, events(span)) == (Status.STATUS_CODE_UNSET, [])


def test_every_form_of_a_call_has_a_span(receiver: Collector) -> None:
    """Sync, blocks, loops; each beside the other, not inside of it."""

    async def body(stripe: Dependency, house: House) -> None:
        @stripe
        def sync() -> int:
            return 1

        sync()
        with stripe:
            pass
        async with stripe:
            pass
        for attempt in stripe.attempts():
            with attempt:
                pass
        async for attempt in stripe.attempts():
            with attempt:
                pass
        with httpx_of(stripe, answered) as client:
            client.get("http://stripe.test/a?hush=1")
        async with async_httpx_of(stripe, answered) as other:
            await other.get("http://stripe.test/a?hush=1")

    request, spans, _ = calling(receiver, {}, body)
    assert [one.kind for one in spans] == [Span.SPAN_KIND_INTERNAL] * 5 + [Span.SPAN_KIND_CLIENT] * 2
    assert {one.parent_span_id for one in spans} == {request.span_id}
    assert {one.status.code for one in spans} == {Status.STATUS_CODE_UNSET}
    assert {facts(one)["mahavishnu.outcome"] for one in spans} == {"success"}
    assert b"hush" not in b"".join(one.SerializeToString() for one in receiver.traced)


def answered(_: httpx.Request) -> httpx.Response:
    """All is well."""
    return httpx.Response(200, text="x")


def unavailable(_: httpx.Request) -> httpx.Response:
    """Nothing is."""
    return httpx.Response(503)


def streamed(_: httpx.Request) -> httpx.Response:
    """All is well, and there is more to come."""
    return httpx.Response(200, stream=_Parts())


def httpx_of(stripe: Dependency, answer: Any) -> httpx.Client:
    """A client of it that is answered so."""
    return stripe.httpx_client(transport=httpx.MockTransport(answer))


def async_httpx_of(stripe: Dependency, answer: Any) -> httpx.AsyncClient:
    """As that, for tasks."""
    return stripe.httpx_async_client(transport=httpx.MockTransport(answer))


def test_a_request_that_is_made_carries_its_trace(receiver: Collector) -> None:
    """With each attempt; its span is a client's, ends when the body does, and says how often it was asked."""
    sent: list[httpx.Headers] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.headers)
        return httpx.Response(503 if len(sent) == 1 else 200, stream=Parts())

    class Parts(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"a"

    async def body(stripe: Dependency, house: House) -> None:
        async with async_httpx_of(stripe, answer) as client:
            asked = asyncio.create_task(client.get("http://stripe.test:81/a"))
            while not asked.done():
                await asyncio.sleep(0)
                house.clock.advance("1s")
            assert (await asked).text == "a"
        left.append(current()[1])

    left: list[str] = []
    said = {"retry": {"attempts": 2, "base": "10ms"}}
    request, (span,), _ = calling(receiver, said, body)
    assert span.kind == Span.SPAN_KIND_CLIENT
    assert span.parent_span_id == request.span_id
    want = f"00-{span.trace_id.hex()}-{span.span_id.hex()}-03"  # kept, and its id is random
    assert [one["traceparent"] for one in sent] == [want, want]
    assert facts(span) == {
        "mahavishnu.dependency": "stripe",
        "mahavishnu.outcome": "success",
        "mahavishnu.attempts": 2,
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "server.address": "stripe.test",
        "server.port": 81,
    }
    assert left == [request.span_id.hex()]
    ((name, again),) = events(span)
    assert name == "mahavishnu.retry"
    assert again["mahavishnu.attempt"] == 2
    assert again["http.response.status_code"] == 503
    assert again["mahavishnu.outcome"] == "failure"


def test_a_call_that_fails_is_an_error(receiver: Collector) -> None:
    """By its kind, with how its retries ended; and a timeout by ours."""

    async def body(stripe: Dependency, house: House) -> None:
        @stripe(idempotent=True)
        async def charge() -> int:
            raise ConnectionError("hush")

        @stripe
        async def hang() -> None:
            await asyncio.sleep(3600)

        for function in (charge, hang):
            asked = asyncio.create_task(function())
            while not asked.done():
                await asyncio.sleep(0)
                house.clock.advance("50ms")
            with pytest.raises((ConnectionError, CallTimeout)):
                await asked

    said = {"timeout": "1s", "retry": {"attempts": 2, "base": "10ms"}}
    _, (failed, late), _ = calling(receiver, said, body)
    assert facts(failed)["error.type"] == "ConnectionError"
    assert facts(failed)["mahavishnu.attempts"] == 2
    assert failed.status.code == Status.STATUS_CODE_ERROR
    assert [name for name, _ in events(failed)] == ["mahavishnu.retry", "mahavishnu.retry.exhausted"]
    assert facts(late)["error.type"] == "CallTimeout"
    assert facts(late)["mahavishnu.outcome"] == "timeout"
    assert late.status.code == Status.STATUS_CODE_ERROR
    assert b"hush" not in b"".join(one.SerializeToString() for one in receiver.traced)


def test_a_breaker_that_opens_and_refuses_is_seen(receiver: Collector) -> None:
    async def body(stripe: Dependency, house: House) -> None:
        @stripe
        async def charge() -> None:
            raise ConnectionError

        for kind in (ConnectionError, ConnectionError, BreakerOpen):
            with pytest.raises(kind):
                await charge()

    said = {"breaker": {"consecutive_failures": 2, "open_for": "5s"}}
    _, (_, opened, refused), _ = calling(receiver, said, body)
    assert events(opened) == [("mahavishnu.breaker.open", {"mahavishnu.dependency": "stripe"})]
    ((name, told),) = events(refused)
    assert name == "mahavishnu.breaker.rejected"
    assert 0 < told["mahavishnu.retry_after"] <= 10
    assert facts(refused)["mahavishnu.outcome"] == "rejected"
    assert facts(refused)["mahavishnu.attempts"] == 0
    assert facts(refused)["error.type"] == "BreakerOpen"


def test_what_an_observing_breaker_would_refuse_is_seen(receiver: Collector) -> None:
    """The call is made, and its span says so; a probe is none of those."""

    async def body(stripe: Dependency, house: House) -> None:
        @stripe
        async def charge(fault: bool) -> None:
            if fault:
                raise ConnectionError

        with pytest.raises(ConnectionError):
            await charge(True)
        await charge(False)
        house.clock.advance("60s")
        await charge(False)

    said = {"breaker": {"consecutive_failures": 1, "open_for": "5s", "probes": 1, "mode": "observe"}}
    _, spans, _ = calling(receiver, said, body)
    assert [[name for name, _ in events(one)] for one in spans] == [
        ["mahavishnu.breaker.open"],
        ["mahavishnu.breaker.observed"],
        ["mahavishnu.breaker.half_open", "mahavishnu.breaker.closed"],
    ]
    assert [facts(one)["mahavishnu.outcome"] for one in spans] == ["failure", "success", "success"]


def test_what_a_breaker_that_is_held_closed_lets_in_is_no_event(receiver: Collector) -> None:
    async def body(stripe: Dependency, house: House) -> None:
        @stripe
        async def charge() -> None: ...

        await charge()

    _, (span,), _ = calling(receiver, {"breaker": {"mode": "closed"}}, body)
    assert events(span) == []


def test_a_full_bulkhead_is_seen(receiver: Collector) -> None:
    async def body(stripe: Dependency, house: House) -> None:
        gone = asyncio.Event()

        @stripe
        async def charge() -> None:
            await gone.wait()

        first = asyncio.create_task(charge())
        await asyncio.sleep(0)
        with pytest.raises(BulkheadFull):
            await charge()
        gone.set()
        await first

    _, (refused, good), _ = calling(receiver, {"bulkhead": {"concurrency": 1}}, body)
    ((name, told),) = events(refused)
    assert name == "mahavishnu.bulkhead.full"
    assert told["mahavishnu.reason"]
    assert facts(refused)["error.type"] == "BulkheadFull"
    assert facts(good)["mahavishnu.outcome"] == "success"


def test_what_a_throttle_keeps_back_is_seen(receiver: Collector) -> None:
    async def body(stripe: Dependency, house: House) -> None:
        with httpx_of(stripe, unavailable) as client:
            for _ in range(200):
                with suppress(Throttled):
                    client.get("http://stripe.test/")

    _, spans, _ = calling(receiver, {"throttle": {}}, body)
    kept = [one for one in spans if facts(one)["mahavishnu.outcome"] == "rejected"]
    assert 0 < len(kept) < len(spans) == 200
    assert {name for one in kept for name, _ in events(one)} == {"mahavishnu.throttled"}


def test_what_an_observing_throttle_would_keep_back_is_seen(receiver: Collector) -> None:
    async def body(stripe: Dependency, house: House) -> None:
        with httpx_of(stripe, unavailable) as client:
            for _ in range(200):
                client.get("http://stripe.test/")

    _, spans, house = calling(receiver, {"throttle": {"mode": "observe"}}, body)
    kept = [one for one in spans if events(one)]
    assert 0 < len(kept) < len(spans) == 200
    assert {name for one in kept for name, _ in events(one)} == {"mahavishnu.throttle.observed"}
    assert house.samples()["mahavishnu_throttled_total{dependency=stripe}"] == len(kept)


def test_a_deadline_that_has_passed_is_seen(receiver: Collector) -> None:
    async def body(stripe: Dependency, house: House) -> None:
        @stripe
        async def charge() -> None:
            """Never made."""

        house.clock.advance(999_500_000)
        with pytest.raises(CallTimeout):
            await charge()

    more = {"limits": {"request": {"timeout": "1s"}}}
    _, (span,), _ = calling(receiver, {}, body, **more)
    assert [name for name, _ in events(span)] == ["mahavishnu.deadline.passed"]


def test_what_stands_in_is_an_event_of_the_request(receiver: Collector, tmp_path: Path) -> None:
    async def body(stripe: Dependency, house: House) -> None:
        @stripe(idempotent=True)
        async def charge() -> Any:
            raise ConnectionError

        assert await charge() == {"a": 1}

    request, (span,), _ = calling(receiver, {"fallback": {"static": {"a": 1}}}, body)
    assert events(request) == [
        (
            "mahavishnu.fallback.served",
            {"mahavishnu.dependency": "stripe", "mahavishnu.fallback": "static"},
        )
    ]
    assert span.status.code == Status.STATUS_CODE_ERROR


async def test_what_stands_in_outside_of_a_request_is_a_span_of_its_own(receiver: Collector) -> None:
    """A worker has no request whose event it could be."""
    said = {"stripe": {"fallback": {"static": 1}, "breaker": {"consecutive_failures": 1}}}
    async with served(harden(site(), tracing(receiver.url, dependencies=said), clock=Exporting())):

        @dependency("stripe")(idempotent=True)
        async def charge() -> Any:
            raise ConnectionError

        assert await charge() == 1
    call, stood_in = receiver.spans()
    assert call.name == "stripe"
    assert [name for name, _ in events(call)] == ["mahavishnu.breaker.open"]
    assert stood_in.name == "mahavishnu.fallback.served"
    assert facts(stood_in) == {"mahavishnu.dependency": "stripe", "mahavishnu.fallback": "static"}


def test_a_dead_letter_is_an_event_with_its_name(receiver: Collector, tmp_path: Path) -> None:
    parked: list[Parked] = []

    async def body(stripe: Dependency, house: House) -> None:
        @stripe(idempotent=True)
        async def charge() -> Any:
            raise ConnectionError

        with pytest.raises(Parked) as caught:
            await charge()
        parked.append(caught.value)

    more = {"dead_letters": {"store": f"sqlite:{tmp_path}/letters.db"}}
    request, _, _ = calling(receiver, {"fallback": "dead_letter"}, body, **more)
    told = {
        "mahavishnu.dependency": "stripe",
        "mahavishnu.fallback": "dead_letter",
        "mahavishnu.letter": parked[0].letter,
    }
    assert events(request) == [("mahavishnu.fallback.served", told)]


def test_an_answer_that_is_dropped_ends_its_span(receiver: Collector) -> None:
    """As a call that is given up between two attempts does."""

    async def body(stripe: Dependency, house: House) -> None:
        with httpx_of(stripe, streamed) as client:
            client.send(client.build_request("GET", "http://stripe.test/"), stream=True)
            gc.collect()
        for attempt in stripe.attempts():
            with attempt:
                raise ConnectionError
            break

    _, spans, _ = calling(receiver, {"retry": {"attempts": 2}}, body)
    assert [facts(one)["mahavishnu.outcome"] for one in spans] == ["success", "failure"]


class _Parts(httpx.SyncByteStream):
    def __iter__(self) -> Iterator[bytes]:
        yield b"a"


def test_spans_of_threads_and_tasks_are_inside_of_what_began_them(receiver: Collector) -> None:
    async def body(stripe: Dependency, house: House) -> None:
        @stripe
        def charge() -> None:
            """Made."""

        await asyncio.gather(*(asyncio.to_thread(charge) for _ in range(20)))

    request, spans, _ = calling(receiver, {}, body)
    assert len(spans) == 20
    assert {one.parent_span_id for one in spans} == {request.span_id}
