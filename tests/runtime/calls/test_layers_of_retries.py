"""Layers that all repeat their calls do not multiply them: in one process, and from service to service."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

import httpx
import pytest

import mahavishnu
from mahavishnu.errors import DependencyError
from tests.figures import FULL, figure
from tests.runtime.calls.worlds import World

Answer = Callable[[httpx.Request], Coroutine[None, None, httpx.Response]]
RETRY: dict[str, Any] = {"retry": {"attempts": 3}}
WHOLE: dict[str, Any] = {**RETRY, "timeout": "1s", "breaker": {}, "bulkhead": {"concurrency": 10}}
NAMES = ("edge", "orders", "stripe")


class Chain:
    """A backend, and before it a service for each name; each repeats its calls as its dependency says."""

    def __init__(self, said: dict[str, Any], backend: Callable[[], int]) -> None:
        self.world = World(others=dict.fromkeys(NAMES[:-1], said), **said)
        self.backend = backend
        self.arrived = 0

    async def called(self, _: httpx.Request) -> httpx.Response:
        """The backend."""
        self.arrived += 1
        return httpx.Response(self.backend())

    def service(self, name: str, behind: Answer) -> Answer:
        """A service whose only dependency is what lies behind it; nothing but HTTP gets across."""

        async def elsewhere(request: httpx.Request) -> httpx.Response:
            serving: asyncio.Task[httpx.Response] = asyncio.get_running_loop().create_task(
                self.serve(client, request), context=Context()
            )
            return await serving

        dependency = mahavishnu.dependency(name)
        client = dependency.httpx_async_client(transport=httpx.MockTransport(behind))
        return elsewhere

    async def serve(self, client: httpx.AsyncClient, request: httpx.Request) -> httpx.Response:
        """One request of a service: it answers what its dependency answers."""
        try:
            return httpx.Response((await client.get(request.url)).status_code)
        except DependencyError:
            return httpx.Response(503)

    async def ask(self, requests: int) -> int:
        """So many requests, one after the other; how many were answered well."""
        front: Answer = self.called
        for name in reversed(NAMES):
            front = self.service(name, front)
        answers = [(await front(httpx.Request("GET", "http://shop/"))).status_code for _ in range(requests)]
        return answers.count(200)


def amplified(said: dict[str, Any], backend: Callable[[], int], requests: int) -> tuple[float, float]:
    """Calls of the backend for each request, and the share of requests that were answered well."""
    chain = Chain(said, backend)
    good = asyncio.run(chain.ask(requests))
    return chain.arrived / requests, good / requests


def dead() -> int:
    """A backend that is overloaded."""
    return 503


@pytest.mark.parametrize("said", [RETRY, WHOLE], ids=["retries alone", "the whole policy"])
def test_three_services_on_a_dead_backend_hardly_call_it_more_often(said: dict[str, Any]) -> None:
    """Three attempts in each of three services would be 27 calls for each request."""
    calls, _ = amplified(said, dead, 500)
    assert calls <= 1.1


def test_what_fails_now_and_then_is_still_repeated() -> None:
    """One call of ten fails: nearly every request is answered all the same."""
    turns = iter(range(10**6))
    calls, good = amplified(RETRY, lambda: 503 if next(turns) % 10 == 0 else 200, 500)
    assert good == 1
    assert 1 < calls < 1.15


@pytest.mark.proof
def test_layers_of_attempts_do_not_multiply() -> None:
    """At length, in services and in one process."""
    requests = 10_000 if FULL else 1000
    services = max(amplified(said, dead, requests)[0] for said in (RETRY, WHOLE))
    world = World(others=dict.fromkeys(NAMES[:-1], RETRY), **RETRY)
    inside = 0

    async def backend() -> None:
        nonlocal inside
        inside += 1
        raise ConnectionError

    async def layers() -> None:
        call: Any = backend
        for name in reversed(NAMES):
            call = mahavishnu.dependency(name)(idempotent=True)(call)
        for _ in range(requests):
            with pytest.raises(ConnectionError):
                await call()

    asyncio.run(layers())
    assert world.calls("failure") == inside
    worst = max(services, inside / requests)
    figure(
        "retries: three layers of three attempts on a dead backend, calls for each request",
        "1.1",
        f"{worst:.3f}",
    )
    assert worst <= 1.1
