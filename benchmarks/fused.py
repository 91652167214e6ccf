"""The lower bound: what a request must pay at the least, written by hand in one ASGI layer for this one app.

GCRA in a dict of two generations, a deadline wheel, plain integer cells, a request id, and one JSON line, of
which 64 are written at a time. It knows no proxies, queues, streams, websockets or second limit, and has
no exposition. Nobody should use it, and nothing that does all those things can be quicker.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from bisect import bisect_left
from collections import deque
from itertools import count
from json.encoder import encode_basestring_ascii as quoted  # in C
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from benchmarks.app import Call, Sink

_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_BATCH = 64
_TICK = 0.05
_REFUSAL: Message = {
    "type": "http.response.start",
    "status": 429,
    "headers": [(b"content-type", b"application/problem+json"), (b"content-length", b"51")],
}
_REFUSAL_BODY: Message = {
    "type": "http.response.body",
    "body": b'{"title": "Too Many Requests", "status": 429     }\n',
}


class Rate:
    """GCRA over two generations of a dict; times are nanoseconds, the period is seconds."""

    __slots__ = ("_horizon", "_old", "_step", "_swap", "_young")

    def __init__(self, requests: int, period: int) -> None:
        self._horizon = period * 10**9
        self._step = self._horizon // requests
        self._young: dict[str, int] = {}
        self._old: dict[str, int] = {}
        self._swap = 0

    def admits(self, key: str, now: int) -> bool:
        """Whether one more request of this key conforms; if so it is counted."""
        if now >= self._swap:
            self._old, self._young, self._swap = self._young, {}, now + self._horizon
        arrival = self._young.get(key) or self._old.get(key, 0)
        after = (arrival if arrival > now else now) + self._step  # noqa: FURB136 - max() takes twice as long
        if after - now > self._horizon:
            return False
        self._young[key] = after
        return True


class Wheel:
    """Deadlines of equal length (seconds): one append for each, one timer for all."""

    def __init__(self, delay: float) -> None:
        self._delay = int(delay * 1e9)
        self._waiting: deque[list[Any]] = deque()
        self._ticking = False

    def add(self, now: int) -> list[Any]:
        """Watch the current task; it is called off by clearing the second place."""
        entry = [now + self._delay, asyncio.current_task()]
        self._waiting.append(entry)
        if not self._ticking:
            self._ticking = True
            asyncio.get_running_loop().call_later(_TICK, self._tick)
        return entry

    def _tick(self) -> None:
        now, waiting = time.monotonic_ns(), self._waiting
        while waiting and (waiting[0][1] is None or waiting[0][0] <= now):
            task = waiting.popleft()[1]
            if task is not None:
                task.cancel()
        self._ticking = bool(waiting)
        if waiting:
            asyncio.get_running_loop().call_later(_TICK, self._tick)


class Fused:
    """The middleware. What it counted is in `cells`: by endpoint and status, a count per bucket and a sum."""

    def __init__(self, app: ASGIApp, requests: int, period: int, deadline: float, sink: Sink) -> None:
        self._app = app
        self._rate = Rate(requests, period)
        self._wheel = Wheel(deadline)
        self._sink = sink
        self._prefix = secrets.token_hex(8)
        self._ids = count()
        self._lines: list[tuple[float, str, str, int, int, str, str]] = []
        self.cells: dict[tuple[int, int], list[float]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.monotonic_ns()
        client = scope["client"][0]
        name = f"{self._prefix}-{next(self._ids):x}"
        if not self._rate.admits(client, began):
            self._done(scope, 429, began, client, name)
            await send(_REFUSAL)
            await send(_REFUSAL_BODY)
            return
        watched = self._wheel.add(began)
        status = 500

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                nonlocal status
                status = message["status"]
                watched[1] = None
                message["headers"].append((b"x-request-id", name.encode()))
            await send(message)

        try:
            await self._app(scope, receive, send_on)
        except asyncio.CancelledError:
            if watched[1] is None:
                raise
            status = 504
            await send({"type": "http.response.start", "status": 504, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        finally:
            self._done(scope, status, began, client, name)

    def _done(self, scope: Scope, status: int, began: int, client: str, name: str) -> None:
        took = time.monotonic_ns() - began
        key = (id(scope.get("endpoint")), status)
        cell = self.cells.get(key)
        if cell is None:
            cell = self.cells[key] = [0] * (len(_BOUNDS) + 2)
        cell[bisect_left(_BOUNDS, took / 1e9)] += 1
        cell[-1] += took
        lines = self._lines
        lines.append((time.time(), scope["method"], scope["path"], status, took, client, name))
        if len(lines) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """Write what is held back."""
        self._sink.write("".join(map(_line, self._lines)))
        self._lines.clear()


def _line(fact: tuple[float, str, str, int, int, str, str]) -> str:
    at, method, path, status, took, client, name = fact
    return (
        f'{{"event": "request", "method": "{method}", "path": {quoted(path)}, "status": {status}, '
        f'"duration_ms": {took / 1e6:.3f}, "client": "{client}", '
        f'"request_id": "{name}", "timestamp": {at:.6f}}}\n'
    )


class Closed:
    """A breaker at its least: opens after so many failures in a row, and never closes again."""

    __slots__ = ("_call", "_failed", "_most")

    def __init__(self, call: Call, most: int = 5) -> None:
        self._call = call
        self._failed = 0
        self._most = most

    async def __call__(self, item: str) -> int:
        """Call through."""
        if self._failed >= self._most:
            raise ConnectionError("open")
        try:
            answer = await self._call(item)
        except Exception:
            self._failed += 1
            raise
        self._failed = 0
        return answer
