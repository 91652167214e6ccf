"""`limit(tool=…)`: the rates of the spec that match a tool, for whoever calls it, in every form."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from io import StringIO
from types import SimpleNamespace
from typing import Any, cast

import pytest
from starlette.authentication import AuthCredentials, AuthenticationBackend, BaseUser, SimpleUser
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from mahavishnu import limit
from mahavishnu.asgi import Hardening
from mahavishnu.errors import MahavishnuError, RateLimited
from mahavishnu.runtime.current import forget
from mahavishnu.testing import VirtualClock
from tests.runtime.asgi_client import House, call, handshake, harden, limits, run, scope_of, site, spec_of

SPEC = limits(
    search={"rate": "3/minute", "match": {"tool": "search*"}},
    each={"rate": "2/minute", "per": ["client", "tool"], "match": {"tool": "*"}},
    requests={"rate": "5/minute", "per": "ip"},
)


async def search(request: Request) -> Response:
    """A handler that calls a tool, and may expect to be refused."""
    if "handled" not in request.query_params:
        async with limit(tool="search_products"):
            return PlainTextResponse("found")
    try:
        async with limit(tool="search_products"):
            return PlainTextResponse("found")
    except RateLimited as refused:
        return PlainTextResponse(refused.place)


async def begun(_: Request) -> Response:
    """A response that has begun when the tool is called."""

    async def body() -> AsyncIterator[bytes]:
        yield b"a"
        async with limit(tool="search_products"):
            yield b"b"

    return StreamingResponse(body())


@pytest.fixture
def house() -> Iterator[House]:
    """A service at work."""
    yield harden(site(Route("/", search), Route("/begun", begun)), SPEC)
    forget()


def outcomes(call: Callable[[], object], count: int) -> list[bool]:
    """Which of so many calls were let in."""
    seen: list[bool] = []
    for _ in range(count):
        try:
            call()
            seen.append(True)
        except RateLimited:
            seen.append(False)
    return seen


def test_every_form_holds_the_same_limit(house: House) -> None:
    """Decorated, plain and async, and in blocks: each is one call of the tool."""
    plain = limit(tool="search_a")(lambda: 1)

    @limit(tool="search_a")
    async def coroutine() -> int:
        return 2

    def block() -> None:
        with limit(tool="search_a"):
            pass

    async def async_block() -> None:
        async with limit(tool="search_a"):
            pass

    for form in (plain, lambda: run(coroutine()), block, lambda: run(async_block())):
        assert outcomes(form, 3) == [True, True, False]
        house.clock.advance("1m")


def test_the_refusal_says_which_limit_and_when(house: House) -> None:
    """Its name, its place in the spec, and exact nanoseconds; waiting them helps."""
    for tool in ("search_a", "search_a", "search_b"):
        with limit(tool=tool):
            pass
    with pytest.raises(
        RateLimited, match=r"limit `search` allows 3/minute; retry in 20 s \(limits.search\)"
    ) as found:
        limit(tool="search_b").__enter__()
    refused = found.value
    assert (refused.limit, refused.place, refused.retry_after) == ("search", "limits.search", 20 * 10**9)
    house.clock.advance(20 * 10**9 - 1)
    assert outcomes(limit(tool="search_b")(lambda: None), 1) == [False]
    house.clock.advance(1)
    assert outcomes(limit(tool="search_b")(lambda: None), 2) == [True, False]


def test_a_refused_call_is_charged_nowhere(house: House) -> None:
    """All limits of a tool let it in, or none counts it."""
    assert outcomes(limit(tool="search_a")(lambda: None), 10) == [True, True] + [False] * 8
    assert outcomes(limit(tool="search_b")(lambda: None), 2) == [True, False]
    assert house.decisions("search") == (3, 1, 0)


def test_requests_and_calls_of_tools_have_limits_of_their_own(house: House) -> None:
    """A limit without `match: {tool: …}` applies to no call, one with it to no request."""
    assert outcomes(limit(tool="build")(lambda: None), 3) == [True, True, False]
    assert [run(house.status(path="/none")) for _ in range(6)] == [404] * 5 + [429]
    assert house.decisions("each") == (2, 1, 0)
    assert house.decisions("requests") == (5, 1, 0)


def test_a_call_counts_for_whom_the_request_counts() -> None:
    """Two clients have two budgets; what the handler does not catch is a 429 like any other."""
    forget()
    log = StringIO()
    app = site(Route("/", search), middleware=[Middleware(Hardening, SPEC, clock=VirtualClock(), log_to=log)])

    async def scenario() -> None:
        one, other = "198.51.100.1", "198.51.100.2"
        assert [(await call(app, client=one)).status for _ in range(3)] == [200, 200, 429]
        assert [(await call(app, client=other)).status for _ in range(2)] == [200, 200]
        answer = await call(app, client=one)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["retry-after"] == "30"
        assert answer.json()["detail"].startswith("limit `each` allows 2/minute")
        assert (await call(app, client=other, query_string=b"handled=1")).body == b"limits.each"

    run(scenario())
    assert '"refused_by": "each"' in log.getvalue()
    forget()


async def test_a_refusal_after_the_response_has_begun_ends_it(house: House) -> None:
    """It cannot become another answer: the server must see that this one is not whole."""
    for _ in range(2):
        assert (await house.call(path="/begun")).body == b"ab"
    with pytest.raises(RateLimited):
        await house.call(path="/begun")


class Names(AuthenticationBackend):
    """Whom a request names is accepted."""

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser] | None:
        name = conn.headers.get("x-user")
        return None if name is None else (AuthCredentials(), SimpleUser(name))


def test_a_refused_call_stands_in_the_line_of_its_request(house: House) -> None:
    """Also where the app has answered well; nothing else of the answer is different."""
    answers = [run(house.call(query_string=b"handled=1")) for _ in range(4)]
    assert [one.status for one in answers] == [200] * 4
    assert [one.body for one in answers[2:]] == [b"limits.each"] * 2
    lines = [one for one in house.lines if one["event"] == "request"]
    assert [one.get("refused_by") for one in lines] == [None, None, "each", "each"]
    assert [one["level"] for one in lines] == ["info"] * 4
    assert not any("where" in one for one in lines)


async def test_a_refused_call_stands_in_the_line_of_its_websocket() -> None:
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        seen = [await let_in() for _ in range(3)]
        assert seen == [True, True, False]
        await websocket.close()

    house = harden(site(WebSocketRoute("/", socket)), SPEC)
    await handshake(house.app, "/")
    assert house.lines[-1]["refused_by"] == "each"


def _known(scope: Any) -> Any:
    return getattr(scope.get("user"), "username", None)


@pytest.mark.parametrize("hook", [None, _known])
def test_a_call_counts_for_whom_the_app_has_accepted_by_then(hook: Any) -> None:
    """Its own authentication may be inside; who is nobody still counts for his address."""
    app = site(Route("/", search), middleware=[Middleware(AuthenticationMiddleware, backend=Names())])
    house = harden(app, SPEC, identify=hook)

    def bodies(name: str) -> list[bytes]:
        said: dict[str, Any] = {"headers": {"x-user": name} if name else {}, "query_string": b"handled=1"}
        return [run(house.call(client=f"203.0.113.{number}", **said)).body for number in range(3)]

    assert bodies("ann") == [b"found", b"found", b"limits.each"]
    assert bodies("bob") == [b"found", b"found", b"limits.each"]
    assert bodies("") == [b"found"] * 3


def test_a_call_in_a_session_counts_for_whom_its_own_request_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The MCP SDK runs them all in the context of the request that opened it, and says which one it answers."""
    answered: ContextVar[Any] = ContextVar("request_ctx")
    told = SimpleNamespace(request_ctx=answered)
    monkeypatch.setitem(sys.modules, "mcp.server.lowlevel.server", cast("Any", told))

    async def called(request: Any) -> bool:
        answered.set(SimpleNamespace(request=request))
        return await let_in()

    async def opened(_: Request) -> Response:
        asked = ["ann", "ann", "ann", "bob", "", "", ""]
        return PlainTextResponse(repr([await called(HTTPConnection(_from(name))) for name in asked]))

    house = harden(site(Route("/", opened)), SPEC, identify=_named)
    answer = run(house.call(headers={"x-user": "ann"}))
    assert answer.body == b"[True, True, False, True, True, True, False]"
    assert [run(called(HTTPConnection(_from("ann")))), run(called(None))] == [False, True]


def _from(name: str) -> Any:
    return scope_of(headers={"x-user": name}, client="198.51.100.9")


def _named(scope: Any) -> str:
    return str(dict(scope["headers"]).get(b"x-user", b"").decode())


async def let_in() -> bool:
    """Whether one call is."""
    with contextlib.suppress(RateLimited):
        async with limit(tool="search_products"):
            return True
    return False


async def test_what_a_request_leaves_running_counts_for_it() -> None:
    """A task that outlives its request still calls for whom that was."""
    left: list[asyncio.Task[bool]] = []
    go = asyncio.Event()

    async def later() -> bool:
        await go.wait()
        return await let_in()

    async def handler(_: Request) -> Response:
        left.extend(asyncio.create_task(later()) for _ in range(3))
        return PlainTextResponse("ok")

    house = harden(site(Route("/", handler)), SPEC)
    for client in ("198.51.100.1", "198.51.100.2"):
        assert await house.status(client=client) == 200
    go.set()
    assert await asyncio.gather(*left) == [True, True, False] * 2


def test_a_worker_says_for_whom_it_calls(house: House) -> None:
    """Without a request and without a client all calls share one budget."""
    assert outcomes(limit(tool="build", client="ann")(lambda: None), 3) == [True, True, False]
    assert outcomes(limit(tool="build", client="bob")(lambda: None), 2) == [True, True]
    assert outcomes(limit(tool="build")(lambda: None), 3) == [True, True, False]


def test_a_tool_that_no_limit_matches_is_an_error(house: House) -> None:
    """Nobody believes to be limited who is not; and nearly right words are told."""
    forget()
    harden(site(), limits(search={"rate": "3/minute", "match": {"tool": "search"}}, off={"rate": "1/day", "mode": "off",
                          "match": {"tool": "gone"}}))  # fmt: skip
    with pytest.raises(MahavishnuError, match="matches the tool `serch`: did you mean `search`"):
        limit(tool="serch")
    assert outcomes(limit(tool="gone")(lambda: None), 3) == [True] * 3
    forget()
    harden(site(), limits(requests={"rate": "3/minute"}))
    with pytest.raises(MahavishnuError, match="no limit has"):
        limit(tool="search")


def test_threads_and_tasks_share_one_limit() -> None:
    """500 calls from eight threads and as many tasks: exactly the limit gets in."""
    harden(site(), limits(search={"rate": "100/day", "match": {"tool": "search"}}))
    guarded = limit(tool="search")(lambda: None)
    seen: list[bool] = []

    async def ask() -> list[bool]:
        return await asyncio.gather(*(_asked() for _ in range(250)))

    async def _asked() -> bool:
        try:
            async with limit(tool="search"):
                return True
        except RateLimited:
            return False

    threads = [threading.Thread(target=lambda: seen.extend(outcomes(guarded, 32))) for _ in range(8)]
    for thread in threads:
        thread.start()
    seen.extend(run(ask()))
    for thread in threads:
        thread.join(10)
    assert (sum(seen), len(seen)) == (100, 506)
    forget()


def test_generators_are_refused(house: House) -> None:
    """They begin when somebody iterates, which is another moment."""
    with pytest.raises(TypeError, match="generator"):

        @limit(tool="search_a")
        def numbers() -> Iterator[int]:
            yield 1


def test_disabled_means_not_there(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """MAHAVISHNU_DISABLE=1 lets every call in."""
    monkeypatch.setenv("MAHAVISHNU_DISABLE", "1")
    assert outcomes(limit(tool="search_a")(lambda: None), 9) == [True] * 9


SHARED = spec_of(
    store="redis://cache:6379",
    limits={
        "fleet": {"rate": "3/minute", "match": {"tool": "search*"}},
        "own": {"rate": "3/minute", "scope": "process", "match": {"tool": "*"}},
        "off": {"rate": "3/minute", "mode": "off", "match": {"tool": "*"}},
    },
)


class Later:
    """The store in memory as a shared one, which must be awaited for what all processes count."""

    waits = True

    def __init__(self, memory: Any) -> None:
        self.memory = memory

    async def take(self, *asked: Any) -> Any:
        await asyncio.sleep(0)
        return self.memory.take(*asked)


def test_a_plain_function_cannot_await_a_store(house: House) -> None:
    """It does not start, and a block is never let in: either is told what to do."""
    house = harden(site(), SHARED)
    engine: Any = house.app.service.engine
    engine.store = engine.planner.store = Later(engine.store)
    with pytest.raises(
        MahavishnuError, match=r"limit `fleet` .* `tests.test_tool_limits.* plain function: make"
    ):
        limit(tool="search_a")(lambda: None)
    with pytest.raises(MahavishnuError, match="use `async with`"), limit(tool="search_a"):
        pytest.fail("it was let in")

    @limit(tool="search_a")
    async def search() -> None: ...

    assert outcomes(lambda: run(search()), 4) == [True] * 3 + [False]


def test_a_plain_function_asks_what_its_process_counts_beside_a_shared_store(house: House) -> None:
    """`scope: process` is decided at once, for calls of tools and for requests."""
    own = {"rate": "2/minute", "scope": "process"}
    requests = {
        "fleet": {"rate": "9/minute", "match": {"path": "/fleet"}},
        "own": {**own, "match": {"path": "/"}},
    }
    tools = {"tools": {**own, "match": {"tool": "*"}}}
    house = harden(site(), spec_of(store="redis://cache:6379", limits={**requests, **tools}))
    engine: Any = house.app.service.engine
    engine.store = engine.planner.store = Later(engine.store)
    assert outcomes(limit(tool="build")(lambda: None), 3) == [True, True, False]
    assert [engine.planner.plan(route, "GET").later for route in ("/", "/fleet")] == [False, True]
    assert [run(house.status()) for _ in range(3)] == [200, 200, 429]


def test_an_object_with_an_async_call_is_no_plain_function(house: House) -> None:
    """So it may await a store, and is charged when it is awaited; one that generates is refused."""

    class Search:
        async def __call__(self) -> int:
            return 3

    class Numbers:
        def __call__(self) -> Iterator[int]:
            yield 1

    search = limit(tool="search_a")(Search())
    waiting = [search() for _ in range(3)]
    assert house.decisions("search") == (0, 0, 0)
    assert outcomes(lambda: run(waiting.pop()), 3) == [True, True, False]
    with pytest.raises(TypeError, match="generator"):
        limit(tool="search_a")(Numbers())


async def test_a_tools_limit_is_observed_like_any(house: House) -> None:
    """How near it is and how much was used; who was refused is counted once, though the request was refused with it."""
    for _ in range(4):
        with contextlib.suppress(RateLimited):
            await call(house.app)
    shown = house.samples()
    assert shown["mahavishnu_limit_near_total{limit=each}"] == 1
    assert shown["mahavishnu_limit_utilisation_ratio{limit=each}"] == 1
    assert shown["mahavishnu_limit_utilisation_ratio{limit=search}"] == pytest.approx(2 / 3)
    refused = {name: house.app.service.refusals.top(name, 5)[0] for name in SPEC.limits}
    assert refused == {"search": 0, "each": 2, "requests": 0}
