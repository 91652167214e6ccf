"""A real uvicorn with several workers, a client that keeps it busy, and what its series say."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

APP = """
import asyncio, os
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from mahavishnu.asgi import Hardening

async def home(request):
    return PlainTextResponse(str(os.getpid()))

async def slow(request):
    await asyncio.sleep(30)
    return PlainTextResponse("late")

app = Starlette(routes=[Route("/", home), Route("/slow", slow)])
app.add_middleware(Hardening, spec="mahavishnu.yaml")
"""
SPEC = """
mahavishnu: 1
service: {{name: shop, app: "shop:app", workers: {workers}}}
limits:
  all: {{rate: 1000000/second, scope: process, per: global}}
  few: {{concurrency: 50}}
{more}
"""
COUNT = "http_server_request_duration_seconds_count"
PATIENCE = 60


@dataclass
class Load:
    """What clients were answered, by the pid of the worker, and when each worker answered last."""

    answers: Counter[int] = field(default_factory=Counter[int])
    times: dict[int, list[float]] = field(default_factory=dict[int, list[float]])
    broken: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    stop: bool = False

    def run(self, port: int) -> None:
        """One client: one request after the other on one connection, and another connection where that breaks."""
        while not self.stop:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            try:
                for _ in range(20):
                    self._ask(connection)
            except (OSError, http.client.HTTPException):
                self.broken += 1
            finally:
                connection.close()

    def _ask(self, connection: http.client.HTTPConnection) -> None:
        connection.request("GET", "/")
        pid = int(connection.getresponse().read())
        with self.lock:
            self.answers[pid] += 1
            self.times.setdefault(pid, []).append(time.monotonic())


@dataclass
class Crew:
    """The server: its port, its process, and what was written by it."""

    port: int
    server: subprocess.Popen[bytes]
    folder: Path
    environment: dict[str, str]

    def get(self, path: str = "/") -> str:
        """The body of an answer, on a connection of its own: any worker may be the one that accepts it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with closing(connection):
            connection.request("GET", path)
            return connection.getresponse().read().decode()

    def samples(self) -> dict[str, float]:
        """What one scrape says, by name and sorted labels."""
        return {
            f"{one.name}{{{','.join(f'{key}={value}' for key, value in sorted(one.labels.items()))}}}": one.value
            for family in text_string_to_metric_families(self.get("/metrics"))
            for one in family.samples
        }

    def total(self, name: str) -> float:
        """The sum over all label values of one scrape."""
        return sum(value for key, value in self.samples().items() if key.startswith(name + "{"))

    def pids(self) -> set[int]:
        """The workers: children of the server that hold the file of their name."""
        names = [name.name for place in self.meeting() for name in place.iterdir()]
        found = {int(name.split("-")[0]) for name in names if name.count("-") == 1 and "." not in name}
        return {pid for pid in found if Path(f"/proc/{pid}").exists()}

    def meeting(self) -> list[Path]:
        """The folders in which workers meet."""
        return list((self.folder / "tmp").glob("mahavishnu-*[0-9]"))

    @property
    def log(self) -> str:
        """What the server has written."""
        return (self.folder / "log").read_text()

    @contextmanager
    def busy(self, clients: int = 8) -> Generator[Load]:
        """Clients that ask as fast as they are answered, until the block ends."""
        load = Load()
        threads = [threading.Thread(target=load.run, args=(self.port,)) for _ in range(clients)]
        for one in threads:
            one.start()
        try:
            yield load
        finally:
            load.stop = True
            for one in threads:
                one.join()

    def until(self, true: Callable[[], bool]) -> None:
        """Wait until it is so; a test fails where it never is."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            with suppress(OSError, http.client.HTTPException):
                if true():
                    return
            time.sleep(0.1)
        raise AssertionError(f"it never came to be; the server says:\n{self.log[-3000:]}")


@contextmanager
def crew(
    folder: Path, workers: int = 4, more: str = "", app: str = APP, started: int = 0, **said: str
) -> Generator[Crew]:
    """uvicorn with so many workers, or so many `started`, all of them at work, in a temporary folder of its own."""
    started = started or workers
    (folder / "shop.py").write_text(app)
    (folder / "mahavishnu.yaml").write_text(SPEC.format(workers=workers, more=more))
    (folder / "tmp").mkdir(exist_ok=True)
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "shop:app", f"--port={port}", f"--workers={started}"]
    options = ["--no-access-log", "--no-proxy-headers", "--timeout-graceful-shutdown=5"]
    environment = {**os.environ, "TMPDIR": str(folder / "tmp"), **said}
    with (folder / "log").open("ab") as log:
        server = subprocess.Popen([*command, *options], cwd=folder, stdout=log, stderr=log, env=environment)
    made = Crew(port, server, folder, environment)
    try:
        made.until(lambda: made.total("mahavishnu_workers") == started)
        yield made
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
