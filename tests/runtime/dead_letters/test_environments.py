"""Environments that share a server under one name: none makes the letters of another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mahavishnu.load import load
from mahavishnu.runtime.dead_letters.queue import letters_of
from tests.runtime.dead_letters.letterboxes import Time, keep, letter, take
from tests.runtime.redis.servers import Server, server

WORKER = """
import asyncio, sys
from mahavishnu import dependency, redriving

bank = dependency("bank")
order, down, done = sys.argv[1], True, asyncio.Event()

@bank(idempotent=True, key=str)
async def charge(number: str) -> None:
    if down:
        raise ConnectionError
    print(number, flush=True)
    if number == order:
        done.set()

async def park() -> None:
    try:
        await charge(order)
    except bank.Parked:
        return
    raise AssertionError("not kept")

async def work() -> None:
    global down
    await park()
    if sys.argv[2:] == ["and make"]:
        down = False
        async with redriving():
            await asyncio.wait_for(done.wait(), 20)

asyncio.run(work())
"""


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with server() as one:
        yield one


@pytest.fixture(name="shop")
def _shop(running: Server, tmp_path: Path) -> Path:
    """A folder with a worker, and a spec whose environments differ in nothing."""
    running.client().flushall()
    spec: dict[str, Any] = {
        "mahavishnu": 1,
        "service": {"name": "shop", "app": "shop:app"},
        "dependencies": {"bank": {"fallback": "dead_letter"}},
        "dead_letters": {"store": running.url, "redrive": {"base": "100ms"}},
        "environments": {"production": {}, "staging": {}},
    }
    (tmp_path / "mahavishnu.yaml").write_text(json.dumps(spec), encoding="utf-8")
    (tmp_path / "worker.py").write_text(WORKER, encoding="utf-8")
    return tmp_path


def _work(shop: Path, environment: str, *words: str) -> list[str]:
    """Which orders a worker of this environment has charged."""
    done = subprocess.run(
        [sys.executable, "worker.py", *words],
        cwd=shop,
        env={**os.environ, "MAHAVISHNU_ENV": environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_what_production_owes_is_not_paid_at_the_sandbox(shop: Path) -> None:
    """Staging's own letter was due later, so that it would have made production's first; production makes it."""
    assert _work(shop, "production", "real-1") == []
    assert _work(shop, "staging", "test-1", "and make") == ["test-1"]
    assert _work(shop, "production", "real-2", "and make") == ["real-1", "real-2"]


def test_each_keeps_and_takes_its_own(shop: Path, running: Server) -> None:
    """Of one key, too; and those of one lie in one slot of a cluster."""
    now = Time()
    worlds = [None, "production", "staging"]
    kept = [letters_of(load(shop / "mahavishnu.yaml", one).spec, now) for one in worlds]
    for letters in kept:
        assert keep(letters, letter("order-7")) == ["stored"]
    assert [len(take(letters)) for letters in kept] == [1, 1, 1]
    for letters in kept[1:]:
        assert letters.drop([one.id for one in letters.some(9)]) == 1
    assert [letters.stats().entries for letters in kept] == [1, 0, 0]
    tags = {key.partition(b"}")[0] for key in running.client().scan_iter()}
    assert tags == {
        b"{mahavishnu:shop:letters",
        b"{mahavishnu:shop@production:letters",
        b"{mahavishnu:shop@staging:letters",
    }
    for letters in kept:
        letters.close()
