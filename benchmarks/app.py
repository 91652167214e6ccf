"""The application that every stack protects, its 10,000 clients, and how they call it in process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import cycle, repeat
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Scope

CLIENTS = 10_000
IN_FLIGHT = 32
Call = Callable[[str], Awaitable[int]]
_HEADERS = [
    (b"host", b"shop.example.com"),
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    (b"accept", b"application/json"),
    (b"accept-language", b"en-GB,en;q=0.5"),
    (b"accept-encoding", b"gzip, deflate, br"),
    (b"referer", b"https://shop.example.com/"),
    (b"connection", b"keep-alive"),
    (b"x-frontend", b"7"),
]
_REQUEST: Message = {"type": "http.request", "body": b"", "more_body": False}


class Payments:
    """The dependency behind the app: as quick as can be, or failing; it counts how often it was reached."""

    def __init__(self) -> None:
        self.reached = 0
        self.failing = False

    async def price(self, item: str) -> int:
        """The price of an item."""
        self.reached += 1
        if self.failing:
            raise ConnectionError("payments are down")
        return 100 + len(item)


def bare(call: Call, routes: int = 5) -> Starlette:
    """A Starlette application with `routes` routes; the measured one, `/items/{item}`, is in their middle."""

    async def item(request: Request) -> Response:
        name = request.path_params["item"]
        return JSONResponse({"item": name, "price": await call(name)})

    async def slow(_: Request) -> Response:
        await asyncio.sleep(1)
        return JSONResponse({})

    async def other(_: Request) -> Response:
        return JSONResponse({})

    others = [Route(f"/section{place}/{{part}}", other) for place in range(routes - 2)]
    middle = len(others) // 2
    return Starlette(
        routes=[*others[:middle], Route("/items/{item}", item), *others[middle:], Route("/slow", slow)]
    )


class Visit:
    """One request from the client's side: it stays connected, and notes what comes back."""

    __slots__ = ("_asked", "body", "headers", "status")

    def __init__(self) -> None:
        self._asked = False
        self.status = 0
        self.headers: Sequence[tuple[bytes, bytes]] = ()
        self.body = b""

    async def receive(self) -> Message:
        """The request's empty body; then nothing, as from a client that waits."""
        if not self._asked:
            self._asked = True
            return _REQUEST
        waiting: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        return await waiting

    async def send(self, message: Message) -> None:
        """Take a part of the response."""
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], message["headers"]
        else:
            self.body += message.get("body", b"")


def scope(client: int, path: str = "/items/17") -> Scope:
    """The scope of a request, as uvicorn makes it; every client has its own address."""
    address = f"10.{client >> 16 & 255}.{client >> 8 & 255}.{client & 255}"
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("10.255.0.1", 8000),
        "client": (address, 40_000),
        "scheme": "http",
        "root_path": "",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": _HEADERS.copy(),
        "state": {},
    }


class Traffic:
    """Calls an app: each request is a task of its own, as under a server, some in flight, clients in turn.

    With `one`, all requests come from that client. Every answer must have the status `expected`. What it takes
    to make up requests and to look at answers is added up in `own` (CPU ns): it is no part of a measurement.
    """

    def __init__(
        self,
        app: ASGIApp,
        expected: int = 200,
        one: int | None = None,
        *,
        clients: int = CLIENTS,
        at_once: int = IN_FLIGHT,
    ) -> None:
        self._app: Any = app
        self._expected = expected
        self._clients = repeat(one) if one is not None else cycle(range(clients))
        self._at_once = at_once
        self.sent = 0
        self.own = 0

    async def __call__(self, requests: int) -> None:
        """Make so many requests."""
        for done in range(0, requests, self._at_once):
            await self._together(min(self._at_once, requests - done))

    async def _together(self, requests: int) -> None:
        began = time.thread_time_ns()
        loop = asyncio.get_running_loop()
        made = [(scope(next(self._clients)), Visit()) for _ in range(requests)]
        self.own += time.thread_time_ns() - began
        tasks = [loop.create_task(self._app(one, visit.receive, visit.send)) for one, visit in made]
        for task in tasks:
            await task
        began = time.thread_time_ns()
        for _, visit in made:
            if visit.status != self._expected:
                raise AssertionError(f"{self._app}: {visit.status} {visit.body!r}, not {self._expected}")
        self.sent += requests
        self.own += time.thread_time_ns() - began


async def visit(app: ASGIApp, client: int, path: str = "/items/17") -> Visit:
    """One request and its response; an app that raises answers 500, as under a server."""
    one = Visit()
    try:
        await app(scope(client, path), one.receive, one.send)
    except Exception:  # noqa: BLE001 - whatever a stack lets through is what its user would see as a 500
        one.status = one.status or 500
    return one


class Sink:
    """Where every log goes: text or bytes, kept only when asked for; the same cost for whoever writes."""

    def __init__(self) -> None:
        self.size = 0
        self.kept: list[str] | None = None

    def write(self, text: str | bytes) -> int:
        """Take a piece of the log."""
        self.size += len(text)
        if self.kept is not None:
            self.kept.append(text if isinstance(text, str) else text.decode())
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""
