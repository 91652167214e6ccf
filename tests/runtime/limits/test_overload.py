"""Three times as much as a real server can do, over real sockets: what it still answers in time, and whom."""

from __future__ import annotations

import asyncio
import random
import re
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.figures import FULL, figure

PATIENCE = 0.5  # seconds
# Seconds: whoever is later than this was kept from working by the machine, and nothing can be told. It is half of what
# a critical request waits.
STALL = 0.05
WINDOWS = 8  # in which such a stall may happen, but for one
APP = """
import asyncio, time
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from mahavishnu.asgi import Hardening

backend = asyncio.Semaphore(8)  # connections to a database

async def asks(request):
    async with backend:
        await asyncio.sleep(0.05)
    return PlainTextResponse("ok")

async def computes(request):
    until = time.thread_time() + 0.04
    while time.thread_time() < until:
        pass
    return PlainTextResponse("ok")

handler = {handler}
app = Starlette(routes=[Route(path, handler) for path in ("/checkout", "/orders", "/search")])
app.add_middleware(Hardening, spec="mahavishnu.yaml")
"""
SPEC = """
mahavishnu: 1
service: {name: shop, app: shop:app}
observability: {logs: {level: warning}}
"""
LIMIT = """
limits:
  whole: {concurrency: adaptive, queue: 20, wait: 100ms, critical: [{path: /checkout}], sheddable: [{path: /search}]}
"""
SHARES = {"/checkout": 0.1, "/orders": 0.6, "/search": 0.3}


@contextmanager
def server(folder: Path, handler: str, limit: str) -> Generator[int, None, None]:
    """uvicorn with the app; its port."""
    (folder / "shop.py").write_text(APP.replace("{handler}", handler))
    (folder / "mahavishnu.yaml").write_text(SPEC + limit)
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "shop:app", "--port", str(port), "--no-access-log"]
    command += ["--no-proxy-headers", "--backlog", "4096"]
    log = (folder / "log").open("w")
    process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
    try:
        while "running on" not in (folder / "log").read_text():
            assert process.poll() is None
            asyncio.run(asyncio.sleep(0.05))
        yield port
    finally:
        process.kill()
        process.wait()
        log.close()


async def ask(port: int, path: str) -> int:
    """The status of one request on a connection of its own; 0 when the client had to wait too long."""
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n".encode())
            head = await reader.readline()
            return int(head.split()[1]) if head else 0
    except (TimeoutError, OSError):
        return 0
    finally:
        if writer is not None:
            writer.close()


class Load(NamedTuple):
    """How requests ended, by path and status, and how late the latest of them was sent (seconds)."""

    ended: Counter[tuple[str, int]]
    late: float


async def load(port: int, rate: float, seconds: float) -> Load:
    """So many requests a second, whatever becomes of them."""
    ended: Counter[tuple[str, int]] = Counter()
    chance = random.Random(1)
    loop = asyncio.get_running_loop()
    began = due = loop.time()
    late = 0.0

    async def one(path: str) -> None:
        ended[path, await ask(port, path)] += 1

    async with asyncio.TaskGroup() as tasks:
        while due < began + seconds:
            due += chance.expovariate(rate)
            await asyncio.sleep(max(0, due - loop.time()))
            late = max(late, loop.time() - due)
            (path,) = chance.choices(list(SHARES), list(SHARES.values()))
            tasks.create_task(one(path))
    return Load(ended, late)


def undisturbed(port: int, rate: float, seconds: float) -> Counter[tuple[str, int]]:
    """How requests ended in the first window in which the machine let both sides work all the time.

    A stall of half a second loses everything that is under way, with any limit and without: it says nothing.
    """
    for _ in range(WINDOWS):
        before = asyncio.run(stalls(port))
        ended, late = asyncio.run(load(port, rate, seconds))
        if late < STALL and asyncio.run(stalls(port)) == before:
            return ended
    pytest.fail(f"the machine stalled in each of {WINDOWS} windows: nothing can be measured here")


async def exposition(port: int) -> str:
    """What a scrape is answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n")
    text = (await reader.read()).decode()
    writer.close()
    return text


def value(text: str, series: str) -> float:
    """The value of a series, named with its labels as they are shown; the first one of such a name."""
    found = re.search(rf"^{re.escape(series)}(?:\{{[^}}]*\}})? (\S+)$", text, re.MULTILINE)
    assert found is not None
    return float(found[1])


async def stalls(port: int) -> float:
    """How often the server's event loop was late by more than STALL so far."""
    lag = "mahavishnu_event_loop_lag_seconds"
    text = await exposition(port)
    return value(text, f"{lag}_count") - value(text, f'{lag}_bucket{{le="{STALL}"}}')


async def capacity(port: int, places: int, seconds: float) -> float:
    """Requests a second that so many clients get answered who ask again as soon as they are: no more is possible."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    answered = 0

    async def client() -> None:
        nonlocal answered
        while loop.time() < until:
            status = await ask(port, "/orders")
            answered += status == 200

    await asyncio.gather(*(client() for _ in range(places)))
    return answered / seconds


def answered(ended: Counter[tuple[str, int]]) -> int:
    """How many got what they asked for."""
    return sum(count for (_, status), count in ended.items() if status == 200)


@pytest.mark.proof
@pytest.mark.alone
@pytest.mark.parametrize(("handler", "places"), [("asks", 8), *([("computes", 1)] if FULL else [])])
def test_a_real_server_at_three_times_its_capacity(handler: str, places: int, tmp_path: Path) -> None:
    """Bound by a backend, or by its own processor: it collapses without a limit, and does nine tenths with one."""
    seconds, warm_up = (30.0, 90.0) if FULL else (6.0, 15.0)
    ended: dict[str, Counter[tuple[str, int]]] = {}
    with server(tmp_path, handler, "") as port:
        able = asyncio.run(capacity(port, places, 2))
        asyncio.run(load(port, 3 * able, 3.0))
        ended["bare"] = asyncio.run(load(port, 3 * able, 3.0)).ended
    with server(tmp_path, handler, LIMIT) as port:
        asyncio.run(load(port, 3 * able, warm_up))
        # The middle one of three: a machine that does something else for a moment is not the limit's doing.
        windows = [undisturbed(port, 3 * able, seconds) for _ in range(3)]
        ended["adaptive"] = sorted(windows, key=answered)[1]
        found = value(asyncio.run(exposition(port)), "mahavishnu_limit_quota")
    good = {
        name: answered(each) / able / (3.0 if name == "bare" else seconds) for name, each in ended.items()
    }
    critical = {status: count for (path, status), count in ended["adaptive"].items() if path == "/checkout"}
    lost = sum(count for status, count in critical.items() if status != 200)
    said = f"a server that {handler}, {able:.0f}/s"
    figure(f"goodput of {said}, at 3x, without a limit", "collapse", f"{good['bare']:.0%}")
    figure(f"goodput of {said}, at 3x, adaptive", "> 90 %", f"{good['adaptive']:.0%}")
    figure(f"its critical requests that were lost, of {sum(critical.values())}", 0, lost)
    # Gradient2 leaves room for a queue of the limit's root besides: three of eight. How near it comes to larger
    # capacities is asserted on the fake clock, in tests/policies/test_overload.py.
    figure(f"its limit, of a true capacity of {places}", f"{places // 2} to {2 * places}", found)
    assert good["bare"] < 0.5
    assert good["adaptive"] > 0.9
    assert lost == 0
    assert places / 2 <= found <= 2 * places
