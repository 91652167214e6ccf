"""The real shop on a virtual clock: traffic minute by minute, faults that can be switched on, and every scrape kept."""

from __future__ import annotations

import asyncio
import io
import itertools
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

import examples.shop.main as shop
from examples.shop.firing import samples
from mahavishnu.asgi import Hardening
from mahavishnu.backup.evidence import Copy, Evidence, about, folder, write
from mahavishnu.load import load
from mahavishnu.runtime import current
from mahavishnu.runtime.dead_letters.queue import DeadLetterQueue
from mahavishnu.runtime.limits.memory_store import MemoryStore
from mahavishnu.runtime.process import Usage
from mahavishnu.snapshots.series import STEPS
from mahavishnu.testing import VirtualClock
from tests.runtime.asgi_client import Answer, App, Message, collector, scope_of

MINUTE = 60 * 10**9
STEP = 10**7
FINE = 16  # of what has passed already, a step is at the most such a part
Fault = Callable[["Shop"], Awaitable[None]]


class Payment(httpx.AsyncBaseTransport):
    """The payment service: answers after a virtual delay; some of each five calls get `failure`, others `status`."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.failing = 0
        self.failure, self.status = 503, 200
        self.delay = 0
        self._calls = itertools.count()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self.delay:
            await self.clock.sleep(self.delay)
        return httpx.Response(self.failure if next(self._calls) % 5 < self.failing else self.status)


async def asked(app: App, method: str, target: str, address: str = "", content: bytes = b"") -> Answer:
    """One request, through the proxy when it has an address; who asks waits for the answer. A client library would
    take longer than the shop itself."""
    path, _, query = target.partition("?")
    headers = {"host": "shop", "content-length": str(len(content))}
    headers |= {"x-forwarded-for": address} if address else {}
    client = "10.0.0.1" if address else "127.0.0.1"
    scope = scope_of(method, path, headers, client, query_string=query.encode())
    waiting: list[Message] = [{"type": "http.request", "body": content, "more_body": False}]
    answered = asyncio.Event()

    async def receive() -> Message:
        if not waiting:
            await answered.wait()
        return waiting.pop() if waiting else {"type": "http.disconnect"}

    answer = Answer()
    await app(scope, receive, collector(answer))
    answered.set()
    return answer


def backed_up(file: Path, *, well: bool = True) -> None:
    """The jobs of its backups have reported that all is well, or that each step has failed."""
    now = time.time()
    spec = load(file).spec
    for name, backup in spec.backups.items():
        copies = {
            copy: Copy(success=now, sizes=[1], verified=now, drilled=now, restore=1.0)
            for copy in backup.copies
        }
        write(folder(file), about(spec.service.name, name), Evidence(copies, dict.fromkeys(STEPS, well)))


class Shop:
    """Drives the shop; `series` holds one value for each virtual minute, None where a scrape had none."""

    def __init__(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.file = file
        backed_up(file)
        current.forget()
        self.clock = VirtualClock()
        self.usage = Usage(memory=100e6, cpu=0)
        self.building = 0
        self.up = True
        self.closed = False
        self.minutes = 0
        self.series: dict[str, list[float | None]] = {}
        self.payment = Payment(self.clock)
        self._clients = itertools.count()
        monkeypatch.setattr(shop, "build_report", self._build)
        app = shop.create_app(spec=file, clock=self.clock, process=lambda: self.usage, log_to=io.StringIO())
        stack: Any = app.build_middleware_stack()  # before the client asks which spec is at work
        app.middleware_stack = stack
        while not isinstance(stack, Hardening):
            stack = stack.app
        self.hardening = stack
        service = current.current()
        assert service is not None
        service.lag.start()
        app.state.payment = shop.payment.httpx_async_client(transport=self.payment)
        self.app: App = app

    async def run(self, minutes: int, fault: Fault | None = None) -> int:
        """So many minutes of everyday traffic, with a fault in each of them; the number of the last minute."""
        for _ in range(minutes):
            if not self.closed:
                await self.everyday()
            self.closed = False
            if fault is not None:
                await fault(self)
            else:
                await self.scrape()
            self.clock.advance(MINUTE - self.clock.now() % MINUTE)
        return self.minutes - 1

    async def everyday(self) -> None:
        """What customers do in a good minute."""
        await self.finish([self.ask("GET", "/products") for _ in range(10)])
        await self.finish([self.ask("POST", "/orders") for _ in range(2)])
        await self.finish(
            [self.ask("GET", "/reports"), self.ask("GET", "/search?q=drum"), self.ask("POST", "/login")]
        )

    async def ask(self, method: str, path: str, client: int | None = None, content: bytes = b"{}") -> int:
        """One request, by a client of its own unless said; the status."""
        number = next(self._clients) if client is None else client
        address = f"198.{18 + number // 65536 % 2}.{number // 256 % 256}.{number % 256}"
        return (await asked(self.app, method, path, address, content if method == "POST" else b"")).status

    async def finish(self, requests: list[Awaitable[int]]) -> list[int]:
        """Let requests run to their end, moving the time as far as they need it."""
        return await self.end(self.begin(requests))

    def begin(self, requests: list[Awaitable[int]]) -> list[asyncio.Future[int]]:
        """Start requests."""
        return [asyncio.ensure_future(one) for one in requests]

    async def end(self, begun: list[asyncio.Future[int]]) -> list[int]:
        """Wait for requests that were begun, moving the time as far as they need it."""
        since = self.clock.now()
        for _ in range(1000):
            await self.clock.settle(3)
            if all(one.done() for one in begun):
                return [one.result() for one in begun]
            self.clock.advance(max(STEP, (self.clock.now() - since) // FINE))
        raise AssertionError("a request never ended")

    @property
    def store(self) -> MemoryStore:
        """Where the state of its limits lives."""
        service = current.current()
        assert service is not None
        assert isinstance(service.store, MemoryStore)
        return service.store

    @property
    def dead_letters(self) -> DeadLetterQueue:
        """Where its dead letters are kept."""
        service = current.current()
        assert service is not None
        assert service.dead_letters is not None
        return service.dead_letters

    async def redrive(self) -> None:
        """Look for dead letters that are due, and make their calls."""
        await self.finish([self._redrive()])

    async def _redrive(self) -> int:
        await self.hardening.life.redriver.look()
        await self.hardening.life.redriver.settle()
        return 0

    async def edit(self, text: str) -> None:
        """Somebody changes the file of the spec, and it is read."""
        self.file.write_text(text)
        await self.hardening.reload()

    async def exposition(self) -> str:
        """What the shop shows now."""
        return (await asked(self.app, "GET", "/metrics")).body.decode()

    async def scrape(self) -> None:
        """Prometheus comes by: one sample more for every series."""
        scraped: Mapping[str, float] = {next(iter(samples("", "shop"))): 0.0}
        if self.up:
            scraped = samples(await self.exposition(), "shop")
        for name in {*self.series, *scraped}:
            self.series.setdefault(name, [None] * self.minutes).append(scraped.get(name))
        self.minutes += 1

    async def _build(self) -> dict[str, Any]:
        if self.building:
            await self.clock.sleep(self.building)
        return {}
