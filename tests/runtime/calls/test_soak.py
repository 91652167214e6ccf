"""Mixed faults on a real server through a real client, for a while: everything is back where it started."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any, NamedTuple

import httpx
import pytest
import uvicorn

import mahavishnu
from mahavishnu.clock import SystemClock
from mahavishnu.runtime.current import forget, use
from mahavishnu.runtime.process import usage
from mahavishnu.runtime.service import Service
from mahavishnu.spec import Spec
from tests.figures import FULL, figure
from tests.metering import value

POLICIES: dict[str, Any] = {
    "timeout": "200ms",
    "retry": {"attempts": 3, "base": "1ms", "max": "10ms"},
    "breaker": {
        "failure_rate": "60%",
        "min_calls": 50,
        "window": "1s",
        "open_for": "50ms",
        "slow_call": "150ms",
    },
    "throttle": {"window": "2s"},
    "bulkhead": {"concurrency": 16, "wait": "20ms"},
}
FAULTS = ("/ok", "/ok", "/ok", "/ok", "/error", "/late", "/reset", "/slow_body", "/cut_body", "/drip")
CALLERS = 24
KINDS = ("read", "read", "stream", "drop", "cancel", "decorated")
Scope = MutableMapping[str, Any]


async def _server(
    scope: Scope, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
) -> None:
    """Answers well, with 503, late, not at all, slowly, in part, drop by drop."""
    if scope["type"] != "http":
        return
    path = scope["path"]
    if path == "/late":
        await asyncio.sleep(0.3)
    if path == "/reset":
        raise ConnectionResetError  # uvicorn answers 500, or nothing once it has begun
    status = 503 if path == "/error" else 200
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"10")]})
    for part in range(10):
        if path == "/slow_body":
            await asyncio.sleep(0.01)
        if path == "/drip":
            await asyncio.sleep(0.1)
        if path == "/cut_body" and part == 5:
            raise ConnectionResetError
        await send({"type": "http.response.body", "body": b"x", "more_body": part < 9})


@pytest.fixture
def url() -> Iterator[str]:
    """A uvicorn in a thread."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(_server, log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
    made = uvicorn.Server(config)
    thread = threading.Thread(target=made.run, kwargs={"sockets": [listener]})
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    made.should_exit = True
    thread.join(timeout=10)
    listener.close()


class Held(NamedTuple):
    """What a process holds."""

    places: int
    tasks: int
    descriptors: int
    megabytes: float


class Soak:
    """Callers that read, stop reading, drop, and hang up, at random, on a dependency that fails at random."""

    def __init__(self, url: str, seed: int) -> None:
        said = {"mahavishnu": 1, "service": {"name": "shop", "app": "shop:app"}}
        spec = Spec.model_validate({**said, "dependencies": {"stripe": {"url": url, **POLICIES}}})
        self.service = Service(spec, SystemClock())
        forget()
        use(self.service)
        self.stripe = mahavishnu.dependency("stripe")
        self.dice = random.Random(seed)
        self.calls = 0

    async def caller(self, client: httpx.AsyncClient, until: float) -> None:
        """One after the other, until the time is over."""
        while time.monotonic() < until:
            self.calls += 1
            task = asyncio.ensure_future(self.call(client))
            if self.dice.choice(KINDS) == "cancel":
                await asyncio.sleep(self.dice.random() * 0.1)
                task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.exception()

    async def call(self, client: httpx.AsyncClient) -> None:
        """One request, and what becomes of its answer."""
        path, kind = self.dice.choice(FAULTS), self.dice.choice(KINDS)
        if kind == "decorated":
            await self.stripe(idempotent=True)(self._work)(client, path)
        elif kind in ("stream", "drop"):
            answer = await client.send(client.build_request("GET", path), stream=True)
            if kind == "drop":
                return  # neither read nor closed: the garbage collector has to find it
            async for _ in answer.aiter_raw():
                if self.dice.random() < 0.2:
                    break
            await answer.aclose()
        else:
            await client.get(path)

    async def _work(self, client: httpx.AsyncClient, path: str) -> int:
        return (await client.get(path)).status_code

    async def run(self, seconds: float) -> None:
        """So long, and until everybody has come home."""
        async with self.stripe.httpx_async_client(timeout=1) as client:
            until = time.monotonic() + seconds
            await asyncio.gather(*(self.caller(client, until) for _ in range(CALLERS)))
        await asyncio.sleep(0.3)
        gc.collect()
        await asyncio.sleep(0)

    def held(self) -> Held:
        """What is held now."""
        bulkhead: Any = self.service.dependencies["stripe"].bulkhead
        places = bulkhead.in_flight + bulkhead.waiting
        tasks = len(asyncio.all_tasks()) - 1
        return Held(places, tasks, len(os.listdir("/proc/self/fd")), usage().memory / 2**20)  # noqa: PTH208


@pytest.mark.proof
def test_after_a_while_of_mixed_faults_everything_is_back(url: str) -> None:
    """Permits, tasks, descriptors and memory: as after the first seconds, which fill caches and pools."""
    seconds = 600.0 if FULL else 6.0
    soak = Soak(url, 7)

    async def scenario() -> tuple[Held, Held]:
        await soak.run(min(5.0, seconds / 2))
        before = soak.held()
        await soak.run(seconds)
        return before, soak.held()

    before, after = asyncio.run(scenario())
    grown = Held(
        after.places - before.places,
        after.tasks - before.tasks,
        after.descriptors - before.descriptors,
        after.megabytes - before.megabytes,
    )
    ends = {
        outcome: value(soak.service.metrics, "mahavishnu_dependency_calls_total", outcome=outcome)
        for outcome in ("success", "failure", "timeout", "rejected", "cancelled")
    }
    figure(
        f"mixed faults on a real server for {seconds:.0f} s, {soak.calls:,} calls: places, tasks, files left, MiB",
        "0, 0, 0, below 8",
        f"{after.places}, {grown.tasks}, {grown.descriptors}, {grown.megabytes:.1f}",
    )
    assert all(count > 0 for count in ends.values()), ends
    assert after.places == 0
    assert (grown.tasks, max(0, grown.descriptors)) == (0, 0)
    assert grown.megabytes < 8
