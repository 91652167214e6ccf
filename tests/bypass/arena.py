"""Where attacks are made: an application with everything attackers try, clocks that can be moved, and the count."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Generator, MutableMapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from unittest.mock import patch

from fastapi import APIRouter, FastAPI, Request, WebSocket
from fastapi.responses import JSONResponse, Response
from starlette.applications import Starlette
from starlette.routing import Route

from tests.bypass.attacks import BODY, FLOOD, KNOCKS, Attack, Knock

Message = MutableMapping[str, Any]
App = Callable[[Any, Any, Any], Awaitable[None]]
BYSTANDER = Knock(client=("82.3.70.143", 40_000))
_REFUSALS = (429, 413, 503)


class Site:
    """An application, and how often one of its handlers was reached; the handlers depend on `dependencies`.

    Its router for `/api` is included, unless whoever protects it cannot stand that.
    """

    def __init__(
        self, dependencies: Sequence[Any] = (), websocket: Sequence[Any] = (), *, include: bool = True
    ) -> None:
        self.reached = 0
        self.app = FastAPI(openapi_url=None)
        router = APIRouter() if include else self.app.router
        router.add_api_route("/{thing}" if include else "/api/{thing}", self._item, dependencies=dependencies)
        self.app.add_api_route("/", self._item, dependencies=dependencies)
        self.app.add_api_route("/items/{item}", self._item, dependencies=dependencies)
        self.app.add_api_route("/upload", self._upload, methods=["POST"], dependencies=dependencies)
        self.app.add_api_websocket_route("/ws", self._socket, dependencies=websocket)
        if include:
            self.app.include_router(router, prefix="/api")
        self.app.mount("/admin", Starlette(routes=[Route("/panel", self._item)]))

    async def _item(self, request: Request) -> Response:
        self.reached += 1
        return JSONResponse({})

    async def _upload(self, request: Request) -> Response:
        self.reached += 1
        return JSONResponse({}, 413 if len(await request.body()) > BODY else 200)

    async def _socket(self, websocket: WebSocket) -> None:
        self.reached += 1
        await websocket.accept()
        await websocket.close()


Protect = Callable[[], tuple[Site, App]]
"""A new site, and it behind its protection; made while the clocks are in the arena's hands."""


@dataclass(slots=True)
class Clocks:
    """How far the clocks of this process are ahead of the real ones, in seconds."""

    passed: float = 0
    wall: float = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attack went."""

    admitted: int
    """How many of the fifty got through, to a handler or to an answer that is no refusal."""
    extra: int
    """How many of them beyond what is allowed."""
    crashed: int
    """How many ended in an exception."""
    bystander: bool
    """Whether a client that had asked once before could ask once more afterwards."""


def _seconds(in_ns: Callable[[], int]) -> float:
    return in_ns() / 1e9


@contextmanager
def clocks() -> Generator[Clocks, None, None]:
    """Within the block, the clocks of the process show what they are told to.

    By themselves they go a hundred times slower: on a busy machine a flood would take as long as a quota to come back.
    """
    moved = Clocks()

    def shown(name: str, exact: Callable[[], int]) -> Callable[[], int]:
        began, wall = exact(), name == "time"
        return lambda: (
            began + (exact() - began) // 100 + int((moved.passed + (moved.wall if wall else 0)) * 1e9)
        )

    names = ("time", "monotonic", "perf_counter")
    in_ns = {name: shown(name, getattr(time, f"{name}_ns")) for name in names}
    replaced: dict[str, Callable[[], float]] = {f"{name}_ns": one for name, one in in_ns.items()}
    replaced |= {name: partial(_seconds, one) for name, one in in_ns.items()}
    with ExitStack() as stack:
        for name, call in replaced.items():
            stack.enter_context(patch.object(time, name, call))
        yield moved


async def fight(attack: Attack, protect: Protect, flood: int) -> Outcome:
    """Make the fifty requests; a flood is so many other clients."""
    with clocks() as moved:
        site, app = protect()
        await knock(app, BYSTANDER)
        admitted = crashed = 0
        for number in range(KNOCKS):
            one = attack.knock(number)
            moved.passed += one.after
            moved.wall += one.wall
            for other in range(flood if one.others == FLOOD else one.others):
                await knock(app, Knock(client=(f"9{other >> 16 & 7}.{other >> 8 & 255}.{other & 255}.9", 1)))
            before = site.reached
            status = await knock(app, one)
            admitted += site.reached > before or status not in (*_REFUSALS, 500)
            crashed += status == 500
        last = await knock(app, BYSTANDER)
    return Outcome(admitted, max(0, admitted - attack.allowed), crashed, last == 200)


@dataclass(slots=True)
class _Answer:
    status: int = 0
    waiting: list[Message] = field(default_factory=list[Message])

    async def receive(self) -> Message:
        return self.waiting.pop(0) if self.waiting else {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind.endswith("response.start"):
            self.status = message["status"]
        elif kind == "websocket.accept":
            self.status = 101
        elif kind == "websocket.close" and not self.status:
            self.status = 429


async def knock(app: App, one: Knock) -> int:
    """One request; the status of its answer, 101 for an open websocket, 500 when it ended in an exception."""
    answer = _Answer()
    scope = _scope(one)
    if one.websocket:
        answer.waiting = [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1000}]
    else:
        last = len(one.body) - 1
        answer.waiting = [
            {"type": "http.request", "body": part, "more_body": place < last}
            for place, part in enumerate(one.body)
        ]
    try:
        await app(scope, answer.receive, answer.send)
    except Exception:  # noqa: BLE001 - a protection that breaks down has not let anyone in
        return answer.status or 500
    return answer.status


def _scope(one: Knock) -> dict[str, Any]:
    headers = {"host": "shop.example.com"} if "host" not in dict(one.headers) else {}
    scope: dict[str, Any] = {
        "type": "websocket" if one.websocket else "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "ws" if one.websocket else "http",
        "path": one.path,
        "raw_path": (one.raw or one.path).encode(),
        "query_string": one.query.encode(),
        "root_path": "",
        "headers": [
            (name.encode("latin-1"), value.encode("latin-1"))
            for name, value in (*headers.items(), *one.headers)
        ],
        "client": one.client,
        "server": ("127.0.0.1", 8000),
        "state": {},
    }
    if one.websocket:
        scope["subprotocols"] = []
    else:
        scope["method"] = one.method
    return scope
