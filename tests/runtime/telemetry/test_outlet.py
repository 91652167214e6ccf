"""A log that nobody reads: the process goes on, what is written is whole, and what is lost is told."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any, TextIO

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from mahavishnu.asgi import Hardening
from mahavishnu.runtime.current import forget
from mahavishnu.runtime.telemetry.outlet import Outlet
from mahavishnu.testing import VirtualClock
from tests.runtime.asgi_client import House, run, site, spec_of

LONG = "/" + "é" * 3000


@pytest.fixture(params=["pipe", "small pipe", "socket"])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[int, TextIO]]:
    """What is read from, and what is written to."""
    if request.param == "socket":
        ours, theirs = (one.detach() for one in socket.socketpair())
    else:
        ours, theirs = os.pipe()
    if request.param == "small pipe":
        fcntl: Any = pytest.importorskip("fcntl")
        fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, 8192)
    with open(theirs, "w", encoding="utf-8") as stream:  # noqa: PTH123 - a descriptor has no path
        yield ours, stream
        os.close(ours)


def read(descriptor: int) -> list[dict[str, Any]]:
    """All that has been written and not been read, line by line."""
    os.set_blocking(descriptor, False)
    found = b""
    with suppress(BlockingIOError):
        while part := os.read(descriptor, 65536):
            found += part
    return [json.loads(line) for line in found.splitlines()]


def hardened(app: Starlette, stream: TextIO) -> House:
    """An app whose log goes there."""
    forget()
    clock = VirtualClock()
    return House(Hardening(app, spec_of(), clock=clock, log_to=stream), clock, StringIO())


async def told(request: Request) -> Response:
    """A handler that logs by itself, too."""
    request.app.state.log.info("told", text="x" * 9000)
    return PlainTextResponse("ok")


def in_time(scenario: Any) -> None:
    """Run it in a thread, which may hang."""
    thread = threading.Thread(target=run, args=(scenario,), daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


def test_who_stops_reading_stops_nobody(ends: tuple[int, TextIO]) -> None:
    """Requests are answered all the same; once somebody reads again, the log says how many of its lines are missing."""
    ours, stream = ends
    app = site(Route("/told", told))
    house = hardened(app, stream)
    app.state.log = house.app.service.log

    async def asked(*paths: str) -> None:
        for path in paths:
            assert await house.status(path=path) in (200, 404)
            house.app.service.process_state.ended.settle()

    in_time(asked(*["/", "/told", LONG] * 200))
    before = read(ours)
    assert 1 <= len(before) < 800
    in_time(asked("/", "/"))
    first, *others = read(ours)
    assert (first["event"], first["lines"]) == ("log lines lost", 800 - len(before))
    assert len(others) == 2


def test_who_reads_is_told_all(tmp_path: Path) -> None:
    """A file has room for long lines at once."""
    with (tmp_path / "log").open("w") as stream:
        house = hardened(site(), stream)

        async def asked() -> None:
            for _ in range(100):
                await house.status(path=LONG)

        in_time(asked())
        house.app.service.process_state.ended.settle()
    assert len((tmp_path / "log").read_text().splitlines()) == 100


def test_what_only_writes_is_written_to() -> None:
    """As what stands for the standard output in a console or in a test, which is no file."""

    class Console:
        def __init__(self) -> None:
            self.said = ""

        def write(self, text: str) -> int:
            self.said += text
            return len(text)

        def flush(self) -> None:
            """Nothing is held back."""

    console: Any = Console()
    Outlet(console).write("one\n")
    assert console.said == "one\n"
