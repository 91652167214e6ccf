"""A tiny in-process ASGI caller: what a server does, without one, so that 10,000 requests cost nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from mahavishnu.asgi import Hardening
from mahavishnu.protocols import Clock
from mahavishnu.runtime.current import forget
from mahavishnu.runtime.process import Usage
from mahavishnu.spec import Spec
from mahavishnu.testing import VirtualClock

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


@dataclass
class Answer:
    """Everything that was sent for one request, in order."""

    messages: list[Message] = field(default_factory=list[Message])

    @property
    def starts(self) -> int:
        """How often the response began."""
        return sum(one["type"].endswith("http.response.start") for one in self.messages)

    @property
    def status(self) -> int:
        """The status of the response; 0 when there was none."""
        return next((one["status"] for one in self.messages if "status" in one), 0)

    @property
    def raw(self) -> list[tuple[bytes, bytes]]:
        """The header lines of the response."""
        found = [one["headers"] for one in self.messages if "headers" in one]
        return list(found[0]) if found else []

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the response by name."""
        return {name.decode(): value.decode() for name, value in self.raw}

    @property
    def body(self) -> bytes:
        """The whole body."""
        return b"".join(one.get("body", b"") for one in self.messages)

    @property
    def complete(self) -> bool:
        """Whether the body was ended; a server cuts the connection of one that was not."""
        last: Message = self.messages[-1] if self.messages else {}
        return last.get("type") == "http.response.body" and not last.get("more_body", False)

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def scope_of(
    method: str = "GET",
    path: str = "/",
    headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
    client: str | None = "203.0.113.1",
    **more: Any,
) -> dict[str, Any]:
    """An HTTP scope as uvicorn builds it; `path` is the decoded one."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode("utf-8", "replace"),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in pairs],
        "client": None if client is None else (client, 50000),
        "server": ("127.0.0.1", 8000),
        "state": {},
        **more,
    }


async def call(
    app: App,
    method: str = "GET",
    path: str = "/",
    *,
    headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
    body: Iterable[bytes] = (),
    client: str | None = "203.0.113.1",
    answer: Answer | None = None,
    **more: Any,
) -> Answer:
    """One request; `body` is sent in these chunks. What was sent until an error is in `answer`."""
    got, ended = answer if answer is not None else Answer(), asyncio.Event()
    keep = collector(got)

    async def send(message: Message) -> None:
        await keep(message)
        if got.complete:
            ended.set()

    await app(scope_of(method, path, headers, client, **more), chunks(body, ended), send)
    return got


def chunks(body: Iterable[bytes], until: asyncio.Event | None = None) -> Receive:
    """The receive side of a request with this body; a disconnected client afterwards, or after that."""
    parts = list(body) or [b""]
    waiting = [
        {"type": "http.request", "body": part, "more_body": place < len(parts) - 1}
        for place, part in enumerate(parts)
    ]

    async def receive() -> Message:
        await asyncio.sleep(0)
        if not waiting and until is not None:
            await until.wait()
        return waiting.pop(0) if waiting else {"type": "http.disconnect"}

    return receive


def collector(answer: Answer) -> Send:
    """The send side: it keeps every message."""

    async def send(message: Message) -> None:
        answer.messages.append(dict(message))

    return send


async def handshake(
    app: App, path: str, *, extension: bool = False, client: str = "203.0.113.1", **more: Any
) -> Answer:
    """Open a websocket, say nothing, hang up; with `extension` the server can deny with a full response."""
    got = Answer()
    waiting: list[Message] = [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1000}]
    extensions: dict[str, dict[str, Any]] = {"websocket.http.response": {}} if extension else {}
    scope = scope_of("GET", path, client=client, extensions=extensions, subprotocols=[], **more)
    scope["type"] = "websocket"
    del scope["method"]

    async def receive() -> Message:
        return waiting.pop(0)

    await app(scope, receive, collector(got))
    return got


def spec_of(**sections: Any) -> Spec:
    """A spec with these sections, as if read from a file."""
    service = {"name": "shop", "app": "shop:app", **sections.pop("service", {})}
    return Spec.model_validate({"mahavishnu": 1, "service": service, **sections})


def limits(**limit: Mapping[str, Any]) -> Spec:
    """A spec with these limits and nothing else."""
    return spec_of(limits=limit)


@dataclass
class House:
    """A hardened app and what a test looks at: its clock and its log."""

    app: Hardening
    clock: VirtualClock
    stream: StringIO

    async def call(self, method: str = "GET", path: str = "/", **more: Any) -> Answer:
        """One request to the hardened app."""
        return await call(self.app, method, path, **more)

    async def status(self, method: str = "GET", path: str = "/", **more: Any) -> int:
        """The status of one request."""
        return (await self.call(method, path, **more)).status

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The log's records."""
        self.app.service.process_state.ended.settle()
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def count(self, limit: str, outcome: str) -> float:
        """How many decisions of this outcome the metrics show."""
        return self.samples().get(f"mahavishnu_limit_decisions_total{{limit={limit},outcome={outcome}}}", 0)

    def decisions(self, limit: str) -> tuple[float, float, float]:
        """The decisions of a limit: allowed, refused, observed."""
        return self.count(limit, "allowed"), self.count(limit, "refused"), self.count(limit, "observed")

    def gauge(self, name: str, limit: str) -> float:
        """The value of a limit's gauge."""
        return self.samples()[f"mahavishnu_limit_{name}{{limit={limit}}}"]

    def samples(self) -> dict[str, float]:
        """Every series that is shown, by its name and labels."""
        shown = [one for family in self.app.service.metrics.collect() for one in family.samples]
        return {f"{one.name}{{{_labels(one.labels)}}}": one.value for one in shown}


def _labels(labels: Mapping[str, str]) -> str:
    return ",".join(f"{name}={value}" for name, value in sorted(labels.items()))


def harden(app: Any, spec: Spec, *, clock: Clock | None = None, **more: Any) -> House:
    """The app behind Hardening, on a virtual clock, with a log in memory and a quiet operating system."""
    forget()
    time = clock if isinstance(clock, VirtualClock) else VirtualClock()
    stream = StringIO()
    more.setdefault("process", lambda: Usage(0, 0))
    return House(Hardening(app, spec, clock=time, log_to=stream, **more), time, stream)


async def ok(request: Request) -> Response:
    """A handler that says yes to everything."""
    return PlainTextResponse("ok")


def site(*routes: BaseRoute, **more: Any) -> Starlette:
    """A Starlette app with these routes; with `/` alone when there are none."""
    return Starlette(routes=list(routes) or [Route("/", ok, methods=METHODS)], **more)


def run(scenario: Awaitable[Any]) -> Any:
    """Run a scenario to its end; a scenario that hangs in virtual time fails after a real minute."""

    async def limited() -> Any:
        return await asyncio.wait_for(scenario, 60)

    return asyncio.run(limited())
