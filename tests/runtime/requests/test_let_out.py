"""What a client is told when a handler lets the refusal of a dependency through, and what stays the app's own word."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from fastapi import Depends, FastAPI
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, Router, WebSocketRoute
from starlette.websockets import WebSocket

from mahavishnu import dependency, errors
from mahavishnu.asgi import Hardening
from mahavishnu.errors import DependencyError
from mahavishnu.runtime.current import forget
from mahavishnu.testing import VirtualClock
from tests.runtime.asgi_client import Answer, House, call, handshake, harden, run, site, spec_of

SPEC = spec_of(
    dependencies={"stripe": {"breaker": {"mode": "open"}}},
    limits={"request": {"timeout": "5s"}, "few": {"concurrency": 2}},
    security={"headers": "strict"},
)
REAL = """mahavishnu: 1
service: {name: shop, app: "shop:app"}
dependencies: {stripe: {breaker: {consecutive_failures: 1, open_for: 30s}}}
"""
LINE = "mahavishnu.yaml:7"
OPEN = errors.BreakerOpen("stripe", "breaker", "the breaker is open", 1_500_000_000, LINE)
ANSWERS = [
    (OPEN, 503, "2"),
    (errors.Throttled("stripe", "throttle", "kept back"), 503, None),
    (errors.BulkheadFull("stripe", "bulkhead", "all 4 places are taken"), 503, None),
    (errors.CallTimeout("stripe", "timeout", "no answer within its timeout"), 504, None),
    (errors.Parked("stripe", "fallback", "it is kept", letter="l1", key="k1"), 503, None),
    (errors.BadAnswer("stripe", object(), 500), 502, None),
]


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    """No service of another test."""
    yield
    forget()


def raising(error: BaseException) -> Callable[[Request], Awaitable[Response]]:
    """A handler that ends so."""

    async def handler(_: Request) -> Response:
        raise error

    return handler


def house(*errors: BaseException, handlers: Mapping[Any, Any] | None = None) -> House:
    """Routes `/<n>` that raise the n-th error, hardened where `add_middleware` does: around Starlette's handlers."""
    routes = [Route(f"/{number}", raising(error)) for number, error in enumerate(errors)]
    return harden(ExceptionMiddleware(Router(routes), handlers), SPEC)


@pytest.mark.parametrize(("error", "status", "after"), ANSWERS, ids=lambda one: type(one).__name__)
async def test_a_refusal_is_an_answer_and_no_fault(
    error: DependencyError, status: int, after: str | None
) -> None:
    """A problem as any limit's, with the id and headers of the request; nothing is raised, so no server prints one."""
    served = house(error)
    told = await served.call(path="/0")
    assert (told.status, told.starts, told.complete) == (status, 1, True)
    assert told.headers["content-type"] == "application/problem+json"
    assert told.headers.get("retry-after") == after
    assert told.headers["x-frame-options"] == "DENY"
    assert told.json()["detail"] == f"dependency `stripe`: {error.what}"
    assert told.json()["violated-policies"] == [error.place]
    assert LINE not in told.body.decode()  # which is the operators' to know
    (line,) = served.lines
    assert (line["status"], line["refused_by"], line["level"]) == (status, error.place, "error")
    assert line.get("where") == (error.where or None)
    assert line["request_id"] == told.headers["x-request-id"]
    shown = served.samples()
    cell = f"{{http_request_method=GET,http_response_status_code={status},http_route=/0}}"
    assert shown[f"http_server_request_duration_seconds_count{cell}"] == 1


async def test_what_the_request_held_is_free_and_it_kept_its_limits() -> None:
    """A hundred refusals one after the other pass two places, and none of them was late."""
    served = house(OPEN)
    assert [await served.status(path="/0") for _ in range(100)] == [503] * 100
    assert served.decisions("request") == (100, 0, 0)
    assert served.decisions("few") == (100, 0, 0)


async def test_a_group_of_refusals_is_one_and_with_a_fault_in_it_a_fault() -> None:
    """The longest wait counts; whatever else is in the group is not hidden."""
    slow = errors.BreakerOpen("mail", "breaker", "the breaker is open", 9 * 10**9)
    alike = ExceptionGroup("both", [OPEN, ExceptionGroup("inner", [slow])])
    mixed = ExceptionGroup("both", [OPEN, KeyError("bug")])
    served = house(alike, mixed)
    told = await served.call(path="/0")
    assert (told.status, told.headers["retry-after"]) == (503, "9")
    with pytest.raises(ExceptionGroup):
        await served.call(path="/1")
    assert served.lines[-1]["error"] == "ExceptionGroup"


async def test_an_apps_own_error_for_a_refusal_stays_its_own() -> None:
    """Who raises another error from ours has said what it means."""
    wrapped = KeyError("bug")
    wrapped.__cause__ = OPEN
    served = house(wrapped)
    with pytest.raises(KeyError):
        await served.call(path="/0")
    assert served.lines[-1]["status"] == 500


@pytest.mark.parametrize("handled", [errors.BreakerOpen, errors.DependencyError, errors.MahavishnuError])
async def test_the_apps_own_handler_wins(handled: type[Exception]) -> None:
    """One for the error, or for a class above it."""

    async def teapot(_: Request, error: Exception) -> Response:
        return PlainTextResponse(type(error).__name__, 418)

    served = house(OPEN, handlers={handled: teapot})
    told = await served.call(path="/0")
    assert (told.status, told.body) == (418, b"BreakerOpen")
    assert "refused_by" not in served.lines[-1]


def test_a_real_breaker_says_when_to_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By way of FastAPI: its dependencies, a thread, and a BaseHTTPMiddleware between."""
    spec = tmp_path / "mahavishnu.yaml"
    spec.write_text(REAL, encoding="utf-8")
    monkeypatch.setenv("MAHAVISHNU_SPEC", str(spec))
    forget()
    stripe = dependency("stripe")

    @stripe
    async def charge() -> None:
        raise ValueError("declined")

    @stripe
    def ask() -> None:
        raise ValueError("declined")

    async def following(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        return await call_next(request)

    app, log = FastAPI(), StringIO()
    app.add_api_route("/needs", lambda: "", dependencies=[Depends(charge)])
    app.add_api_route("/thread", ask)
    app.add_middleware(BaseHTTPMiddleware, dispatch=following)
    app.add_middleware(Hardening, clock=VirtualClock(), log_to=log)

    async def scenario() -> None:
        with pytest.raises(ValueError, match="declined"):
            await call(app, path="/needs")
        for path in ("/needs", "/thread"):
            told = await call(app, path=path)
            assert told.status == 503
            assert 24 <= int(told.headers["retry-after"]) <= 36
            assert told.json()["violated-policies"] == ["dependencies.stripe.breaker"]

    run(scenario())
    assert log.getvalue().count(f'"where": "{spec}:3"') == 2


async def test_a_response_that_has_begun_is_not_made_another() -> None:
    """The server must see that it is not whole."""

    async def begun(_: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            yield b"a"
            raise OPEN

        return StreamingResponse(body())

    served, answer = harden(site(Route("/", begun)), SPEC), Answer()
    with pytest.raises(DependencyError):
        await call(served.app, answer=answer)
    assert (answer.status, answer.starts, answer.complete) == (200, 1, False)
    assert served.lines[-1]["error"] == "BreakerOpen"


async def test_around_the_whole_app_starlette_has_answered_already() -> None:
    """Its 500 is sent by then, and stays what it is: the middleware belongs inside, where `add_middleware` puts it."""
    served, answer = harden(site(Route("/", raising(OPEN))), SPEC), Answer()
    with pytest.raises(DependencyError):
        await call(served.app, answer=answer)
    assert (answer.status, answer.starts) == (500, 1)


def socket(when: str) -> Callable[[WebSocket], Awaitable[None]]:
    """A websocket that ends with a refusal `before` it is accepted, `after`, or when it has been `closed`."""

    async def endpoint(websocket: WebSocket) -> None:
        if when != "before":
            await websocket.accept()
        if when == "closed":
            await websocket.close()
        raise OPEN

    return endpoint


def sockets() -> House:
    """One route for each moment."""
    return harden(
        site(*(WebSocketRoute(f"/{when}", socket(when)) for when in ("before", "after", "closed"))), SPEC
    )


@pytest.mark.parametrize("extension", [False, True])
async def test_a_websocket_is_told_to_come_back(extension: bool) -> None:
    """Before it is accepted as a limit would, and afterwards by the code for it; what is closed stays a fault."""
    served = sockets()
    told = await handshake(served.app, "/before", extension=extension)
    if extension:
        assert (told.status, told.headers["retry-after"]) == (503, "2")
    else:
        assert (told.messages[0]["type"], told.messages[0]["code"]) == ("websocket.close", 1013)
    line = served.lines[-1]
    assert (line["refused_by"], line["where"]) == ("dependencies.stripe.breaker", LINE)
    assert "error" not in line
    told = await handshake(served.app, "/after", extension=extension)
    assert [one["type"] for one in told.messages] == ["websocket.accept", "websocket.close"]
    assert told.messages[-1]["code"] == 1013
    assert told.messages[-1]["reason"] == "dependency `stripe`: the breaker is open"
    with pytest.raises(DependencyError):
        await handshake(served.app, "/closed", extension=extension)
    assert served.lines[-1]["error"] == "BreakerOpen"


async def test_a_cancelled_request_is_no_refusal() -> None:
    """Also where the cancellation is in one group with a refusal."""
    both = BaseExceptionGroup("both", [OPEN, asyncio.CancelledError()])
    served = house(both)
    with pytest.raises(BaseExceptionGroup):
        await served.call(path="/0")
    assert "refused_by" not in served.lines[-1]


async def test_a_refusal_is_one_json_object_a_line() -> None:
    """The line of the spec too, whatever its file is called."""
    odd = errors.BreakerOpen("stripe", "breaker", "it is open", None, 'a "b"\n.yaml:1')
    served = house(odd)
    await served.call(path="/0")
    assert served.lines[-1]["where"] == 'a "b"\N{REPLACEMENT CHARACTER}.yaml:1'
