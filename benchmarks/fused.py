"""The lower bound: what a request must pay at the least, written by hand in one ASGI layer for this one app.

A compiled route table that hands the route on to the router, GCRA in dicts of two generations (all limits or
none), the RateLimit fields, plain integer cells by route, method and status, a request id in header, log and
context, a deadline wheel, and one JSON line, of which 64 are written at a time. It knows no proxies, queues,
streams, mounts, convertors or websockets, and has no exposition. Nobody should use it, and nothing that does
all those things can be quicker.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from contextvars import ContextVar
from itertools import count
from json.encoder import encode_basestring_ascii as quoted  # in C
from operator import itemgetter
from typing import Any

from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from benchmarks.app import Call, Sink
from benchmarks.table import Table, Way

REQUEST: ContextVar[tuple[str, int]] = ContextVar("REQUEST")
"""The id of the request that is served, and when it must be answered (monotonic ns)."""
Refused = tuple["Rate", int]
"""Which limit refuses, and for how long (ns)."""
Answer = tuple[Sequence[tuple[bytes, bytes]], bytes]
"""Headers and body."""
_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
_BATCH = 64
_TICK = 0.05
_second = itemgetter(1)


class Rate:
    """GCRA over two generations of a dict; times are nanoseconds, the period is seconds."""

    __slots__ = ("_step", "_swap", "allowed", "horizon", "name", "old", "policy", "refused", "words", "young")

    def __init__(self, requests: int, period: int, name: str = "per_client") -> None:
        self.horizon = period * 10**9
        self._step = self.horizon // requests
        self.young: dict[str, int] = {}
        self.old: dict[str, int] = {}
        self._swap = 0
        self.allowed = self.refused = 0
        self.name = name
        self.policy = f'"{name}";q={requests};w={period}'
        self.words = f"limit `{name}` allows {requests} in {period} s; retry in %d s"

    def after(self, key: str, now: int) -> int:
        """When this key has its whole budget again if it is let in now; 0 when it is not."""
        if now >= self._swap:
            self.old, self.young, self._swap = self.young, {}, now + self.horizon
        arrival = self.young.get(key) or self.old.get(key, 0)
        after = (arrival if arrival > now else now) + self._step  # noqa: FURB136 - max() takes twice as long
        return after if after - now <= self.horizon else 0

    def admits(self, key: str, now: int) -> bool:
        """Whether one more request of this key conforms; if so it is counted."""
        after = self.after(key, now)
        if after:
            self.young[key] = after
        return after > 0

    def left(self, after: int, now: int) -> int:
        """How many more requests would be let in."""
        return (self.horizon - after + now) // self._step

    def wait(self, key: str, now: int) -> int:
        """How long (ns) until a refused key is let in."""
        return (self.young.get(key) or self.old.get(key, 0)) + self._step - self.horizon - now


class One:
    """One limit, for each client."""

    __slots__ = ("policy", "rate")

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self.policy = rate.policy.encode()

    def take(self, client: str, _: str, now: int) -> bytes | Refused:
        """The RateLimit field of a request that is admitted, or who refuses it."""
        rate = self.rate
        after = rate.after(client, now)
        if not after:
            return rate, rate.wait(client, now)
        rate.young[client] = after
        rate.allowed += 1
        return b'"%b";r=%d;t=%d' % (rate.name.encode(), rate.left(after, now), -((now - after) // 10**9))


class Three:
    """Three limits, for each client, for each client on each route, for all together: all of them or none."""

    __slots__ = ("_all", "_client", "_field", "_route", "policy")

    def __init__(self, client: Rate, route: Rate, everyone: Rate) -> None:
        self._client, self._route, self._all = client, route, everyone
        self.policy = f"{client.policy}, {route.policy}, {everyone.policy}".encode()
        names = (client.name, route.name, everyone.name)
        self._field = ", ".join(f'"{name}";r=%d;t=%d' for name in names).encode()

    def take(self, client: str, route: str, now: int) -> bytes | Refused:
        """The RateLimit field of a request that is admitted by all, or who refuses it longest."""
        one, two, three = self._client, self._route, self._all
        both = client + route
        after = one.after(client, now)
        further = two.after(both, now)
        overall = three.after("", now)
        if not (after and further and overall):
            found = ((one, client, after), (two, both, further), (three, "", overall))
            return max(
                [(rate, rate.wait(key, now)) for rate, key, admitted in found if not admitted], key=_second
            )
        one.young[client] = after
        two.young[both] = further
        three.young[""] = overall
        one.allowed += 1
        two.allowed += 1
        three.allowed += 1
        return self._field % (
            one.left(after, now), -((now - after) // 10**9),
            two.left(further, now), -((now - further) // 10**9),
            three.left(overall, now), -((now - overall) // 10**9),
        )  # fmt: skip


class Wheel:
    """Deadlines of equal length (ns): one append for each, one timer for all."""

    def __init__(self, delay: int) -> None:
        self.delay = delay
        self._waiting: deque[list[Any]] = deque()
        self._ticking = False

    def add(self, now: int) -> list[Any]:
        """Watch the current task; it is called off by clearing the second place."""
        entry = [now + self.delay, asyncio.current_task()]
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


class Cell:
    """What is counted of one route, method and status, and the parts of its log line that never change."""

    __slots__ = ("after", "before", "counts", "sum")

    def __init__(self, method: str, route: str, status: int) -> None:
        self.counts = [0] * (len(_BOUNDS) + 1)
        self.sum = 0
        self.before = f'{{"method": "{method}", "route": {quoted(route)}, "path": '
        self.after = f', "status": {status}, "duration_ms": '


class Fused:
    """The middleware around an app; `quota` are its limits, `deadline` is in seconds, `sink` takes its log.

    Each of the three may be left out. What it counted is in `cells`.
    """

    def __init__(
        self,
        app: Starlette,
        quota: One | Three | None = None,
        deadline: float | None = None,
        sink: Sink | None = None,
    ) -> None:
        self._app = app
        self._table = Table(app)
        self._quota = quota
        self._policy = b"" if quota is None else quota.policy
        self._refusals: dict[tuple[str, int], Answer] = {}
        self._wheel = Wheel(int(deadline * 1e9)) if deadline is not None else None
        self._sink = sink
        self._prefix = secrets.token_hex(8)
        self._ids = count()
        self._lines: list[tuple[Cell, str, int, str, int, str, str, int]] = []
        self._unmatched = Way(Route("/{unmatched:path}", asyncio.sleep), "unmatched")
        self._second, self._stamp = -1, ""
        self.active = 0
        self.cells: list[Cell] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.monotonic_ns()
        client = scope["client"][0]
        way = self._table.find(scope) or self._unmatched
        name = f"{self._prefix}-{next(self._ids):x}"
        quota, policy, field = self._quota, self._policy, None
        if quota is not None:
            field = quota.take(client, way.path, began)
            if type(field) is tuple:
                headers, body = self._refused(scope, way, began, name, *field)
                await send({"type": "http.response.start", "status": 429, "headers": headers})
                await send({"type": "http.response.body", "body": body})
                return
        wheel = self._wheel
        watched = None if wheel is None else wheel.add(began)
        REQUEST.set((name, 0 if wheel is None else began + wheel.delay))
        status, size = 500, 0

        def send_on(message: Message) -> Any:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
                if watched is not None:
                    watched[1] = None
                headers = message["headers"]
                headers.append((b"x-request-id", name.encode()))
                if field is not None:
                    headers.append((b"ratelimit-policy", policy))
                    headers.append((b"ratelimit", field))
            elif message["type"] == "http.response.body":
                size += len(message["body"])
            return send(message)

        self.active += 1
        try:
            await self._app(scope, receive, send_on)
        except asyncio.CancelledError:
            if watched is None or watched[1] is None:
                raise
            status = 504
            await _too_late(send)
        finally:
            self.active -= 1
            self._done(scope, way, status, began, name, size, "")

    def _refused(self, scope: Scope, way: Way, began: int, name: str, rate: Rate, wait: int) -> Answer:
        rate.refused += 1
        headers, body = self._refusal(rate, -(-wait // 10**9))
        self._done(scope, way, 429, began, name, len(body), rate.name)
        return [*headers, (b"x-request-id", name.encode())], body

    def _refusal(self, rate: Rate, seconds: int) -> Answer:
        """What all say who are refused by this limit for so long; most of them come within one second."""
        found = self._refusals.get((rate.name, seconds))
        if found is None:
            if len(self._refusals) > _BATCH:
                self._refusals.clear()
            found = self._refusals[rate.name, seconds] = _refusal(rate, seconds, self._policy)
        return found

    def _done(
        self, scope: Scope, way: Way, status: int, began: int, name: str, size: int, refused: str
    ) -> None:
        took = time.monotonic_ns() - began
        cell = way.cells.get((scope["method"], status)) or self._cell(way, scope["method"], status)
        cell.counts[bisect_left(_BOUNDS, took / 1e9)] += 1
        cell.sum += took
        if self._sink is not None:
            lines = self._lines
            lines.append((cell, scope["path"], took, scope["client"][0], size, refused, name, time.time_ns()))
            if len(lines) >= _BATCH:
                self.flush()

    def _cell(self, way: Way, method: str, status: int) -> Cell:
        method = method if method in _METHODS else "_OTHER"
        cell = way.cells.get((method, status))
        if cell is None:
            cell = way.cells[method, status] = Cell(method, way.path, status)
            self.cells.append(cell)
        return cell

    def flush(self) -> None:
        """Write what is held back."""
        if self._sink is not None:
            self._sink.write("".join(map(self._line, self._lines)))
            self._lines.clear()

    def _line(self, fact: tuple[Cell, str, int, str, int, str, str, int]) -> str:
        cell, path, took, client, size, refused, name, at = fact
        second, ns = divmod(at, 10**9)
        if second != self._second:
            self._second = second
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        by = f', "refused_by": "{refused}"' if refused else ""
        return (
            f'{cell.before}{quoted(path)}{cell.after}{took // 1000 / 1000}, "client": "{client}", '
            f'"bytes": {size}{by}, "event": "request", "request_id": "{name}", "level": "info", '
            f'"timestamp": "{self._stamp}.{ns // 1000:06d}Z"}}\n'
        )


async def _too_late(send: Send) -> None:
    await send({"type": "http.response.start", "status": 504, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def _refusal(rate: Rate, seconds: int, policy: bytes) -> Answer:
    body = (
        '{"type": "https://iana.org/assignments/http-problem-types#quota-exceeded", '
        f'"title": "Too Many Requests", "status": 429, "detail": "{rate.words % seconds}", '
        f'"violated-policies": ["{rate.name}"]}}'
    ).encode()
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        (b"retry-after", b"%d" % seconds),
        (b"ratelimit-policy", policy),
        (b"ratelimit", b'"%b";r=0;t=%d' % (rate.name.encode(), seconds)),
    ]
    return headers, body


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
