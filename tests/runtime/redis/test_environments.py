"""Environments that share a server under one name: none counts for another, or tells its breakers anything."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mahavishnu.clock import SystemClock
from mahavishnu.load import load
from mahavishnu.runtime.keys import Caller
from mahavishnu.runtime.limits.admission import Admission
from mahavishnu.runtime.redis.rates import KeyHash
from mahavishnu.runtime.redis.store import RedisStore
from mahavishnu.runtime.service import Service
from tests.runtime.redis.servers import Server

WORLDS = ("production", "staging", None)


def _service(folder: Path, url: str, environment: str | None) -> Service:
    """The service as a process of this environment has it; the environments differ in nothing."""
    said: dict[str, Any] = {
        "mahavishnu": 1,
        "service": {"name": "shop", "app": "shop:app"},
        "store": f"{url}?socket_timeout=2",
        "limits": {"calls": {"rate": "5/day"}},
        "environments": {"production": {}, "staging": {}},
    }
    file = folder / "mahavishnu.yaml"
    file.write_text(json.dumps(said), encoding="utf-8")
    return Service(load(file, environment).spec, SystemClock())


def _store(service: Service) -> RedisStore:
    assert isinstance(service.store, RedisStore)
    return service.store


async def _admitted(service: Service, times: int) -> int:
    plan, caller = service.engine.planner.plan("/", "GET"), Caller("203.0.113.1")
    asked = [Admission("", caller, plan, service.clock.now()) for _ in range(times)]
    for one in asked:
        await service.engine.admit(one)
    return sum(one.refused is None for one in asked)


async def _up(services: Sequence[Service]) -> None:
    async with asyncio.timeout(10):
        while not all(_store(one).up() for one in services):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


async def test_each_has_quotas_of_its_own(redis: Server, tmp_path: Path) -> None:
    """What a client has used up in one, it has whole in the others; two processes of one share it."""
    services = [_service(tmp_path, redis.url, one) for one in (*WORLDS, "staging")]
    await _up(services)
    assert [await _admitted(one, 7) for one in services] == [5, 5, 5, 0]
    with redis.client() as client:
        tags = {key.partition(b":calls")[0] for key in client.keys("*:calls:*")}
    assert tags == {b"{mahavishnu:shop@production}", b"{mahavishnu:shop@staging}", b"{mahavishnu:shop}"}
    for one in services:
        _store(one).close()


async def test_an_open_breaker_is_no_news_to_another(redis: Server, tmp_path: Path) -> None:
    """Only the processes of its own environment hear of it."""
    services = [_service(tmp_path, redis.url, one) for one in (*WORLDS, "staging")]
    await _up(services)
    heard: list[int] = []
    _store(services[1]).tell_open("bank", 10**10)
    await _admitted(services[1], 1)  # what was said before has arrived when this is answered
    for place, one in enumerate(services):

        def told(_: int, place: int = place) -> None:
            heard.append(place)

        _store(one).ask_open("bank", told)
        await _admitted(one, 1)
    await asyncio.sleep(0)
    assert heard == [1, 3]
    for one in services:
        _store(one).close()


def test_a_client_has_other_digits_in_each() -> None:
    """Also where the names are as long as names may be."""
    longest = "s" * 40
    names = (longest, f"{longest}@{'a' * 39}b", f"{longest}@{'a' * 39}c")
    assert len({KeyHash(one).over("i:203.0.113.1") for one in names}) == 3
