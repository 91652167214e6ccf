"""Bodies that are too large or too slow, at a real uvicorn over real sockets."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from mahavishnu.asgi import Hardening
from mahavishnu.runtime.requests.linger import BYTES, TIME
from mahavishnu.server import HeadDeadline
from tests.figures import FULL, figure
from tests.runtime.asgi_client import limits

LIMIT = 256 * 1024
SLACK = 64 * 1024
BUFFERS = SLACK + 256 * 1024  # what uvicorn holds for the app, and what asyncio reads at once
HEAD = b"POST / HTTP/1.1\r\nhost: shop\r\n"


class Metered:
    """The hardened app, and the bytes of bodies that it has read before it answered, and dropped after it."""

    def __init__(self, within: str) -> None:
        async def size(request: Request) -> Response:
            return PlainTextResponse(str(len(await request.body())))

        spec = limits(uploads={"body": f"{LIMIT}B", "within": within})
        inside = Starlette(routes=[Route("/", size, methods=["GET", "POST"])])
        self.app = Hardening(inside, spec, log_to=io.StringIO())
        self.read = self.dropped = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        answered = False

        async def counted() -> Any:
            message = await receive()
            size = len(message.get("body", b""))
            if answered:
                self.dropped += size
            else:
                self.read += size
            return message

        async def seen(message: Any) -> None:
            nonlocal answered
            answered = True
            await send(message)

        await self.app(scope, counted, seen)


@contextmanager
def served(within: str = "2s", http: Any = HeadDeadline) -> Generator[tuple[Metered, int], None, None]:
    """The app under uvicorn in a thread, and its port."""
    app = Metered(within)
    listener = socket.create_server(("127.0.0.1", 0), backlog=1000)
    config = uvicorn.Config(app, http=http, ws="none", log_level="critical", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        yield app, listener.getsockname()[1]
    finally:
        server.should_exit = server.force_exit = True
        thread.join()
        listener.close()


def announced(size: int) -> Iterator[bytes]:
    """A body with its length said first."""
    yield HEAD + f"content-length: {size}\r\n\r\n".encode()
    yield from (b"x" * min(16384, size - at) for at in range(0, size, 16384))


def chunked(size: int) -> Iterator[bytes]:
    """A body of chunks, without a length."""
    yield HEAD + b"transfer-encoding: chunked\r\n\r\n"
    for at in range(0, size, 16384):
        part = min(16384, size - at)
        yield f"{part:x}\r\n".encode() + b"x" * part + b"\r\n"
    yield b"0\r\n\r\n"


def post(port: int, parts: Iterator[bytes]) -> tuple[bytes, int]:
    """Send as much as is taken, and the status line that comes; empty where the connection was cut first."""
    sent, got = 0, b""
    with closing(socket.create_connection(("127.0.0.1", port), timeout=20)) as client:
        try:
            for part in parts:
                client.sendall(part)
                sent += len(part)
        except OSError:
            pass
        try:
            while part := client.recv(65536):
                got += part
                if b"\r\n\r\n" in got:
                    break
        except OSError:
            pass
    return got.split(b"\r\n")[0], sent


@pytest.mark.parametrize("form", [announced, chunked])
def test_a_body_of_the_limit_passes_and_a_byte_more_is_413(form: Any) -> None:
    """Said beforehand it is not read at all, otherwise hardly beyond the limit."""
    with served() as (app, port):
        assert post(port, form(LIMIT)) == (b"HTTP/1.1 200 OK", post(port, form(LIMIT))[1])
        app.read = 0
        status, _ = post(port, form(LIMIT + 1))
    assert status in (b"HTTP/1.1 413 Request Entity Too Large", b"HTTP/1.1 413 Content Too Large")
    assert app.read <= (0 if form is announced else LIMIT + SLACK)


@pytest.mark.parametrize("form", [announced, chunked])
def test_a_flood_is_not_read(form: Any) -> None:
    """The connection is closed: so much is dropped of what comes after the refusal, and no more is taken from it."""
    with served() as (app, port):
        status, sent = post(port, form(100 * 2**20))
    assert status == b"" or b" 413 " in status
    assert sent < BYTES + 10 * 2**20
    assert app.read <= (0 if form is announced else LIMIT + BUFFERS)
    assert app.dropped <= BYTES + BUFFERS


@pytest.mark.parametrize("http", ["httptools", "h11", HeadDeadline])
@pytest.mark.parametrize("form", [announced, chunked])
@pytest.mark.parametrize("last", [b"", b"connection: close\r\n"])
def test_whoever_sends_far_too_much_reads_the_413(http: Any, form: Any, last: bytes) -> None:
    """Also one that gives up as soon as it cannot send: the connection stays until it has sent everything."""
    with served(http=http) as (_, port):
        told = [_all_of(port, form(10_000_000), last) for _ in range(10)]
    assert [one.split()[1] for one in told] == [b"413"] * len(told)


def _all_of(port: int, parts: Iterator[bytes], last: bytes) -> bytes:
    """The answer to who has sent everything; raises OSError where that was not possible."""
    with closing(socket.create_connection(("127.0.0.1", port), timeout=20)) as client:
        client.sendall(next(parts).removesuffix(b"\r\n") + last + b"\r\n")
        for part in parts:
            client.sendall(part)
        return client.recv(65536)


@pytest.mark.proof
@pytest.mark.alone
def test_figures_of_what_is_dropped() -> None:
    """How many come to read the refusal; how much of a flood, and how long a silent client, that costs."""
    with served() as (app, port):
        post(port, announced(100 * 2**20))
        dropped = app.dropped
    with served() as (_, port):
        told = [
            _all_of(port, form(10_000_000), last).split()[1]
            for form in (announced, chunked)
            for last in (b"", b"connection: close\r\n")
            for _ in range(100)
        ]
        with closing(socket.create_connection(("127.0.0.1", port), timeout=30)) as client:
            client.sendall(next(announced(10_000_000)))
            while b"}" not in client.recv(65536):
                pass
            began = time.monotonic()
            assert client.recv(65536) == b""
            held = time.monotonic() - began
    figure(
        "413s read by who sends 10 MB against 256 KiB", "400 of 400", f"{told.count(b'413')} of {len(told)}"
    )
    figure("dropped of an announced flood of 100 MiB", f"<= {BYTES + BUFFERS} B", f"{dropped} B")
    figure("a refused client that is silent is let go after", f"<= {TIME / 1e9 + 1:.0f} s", f"{held:.1f} s")
    assert told == [b"413"] * 400
    assert dropped <= BYTES + BUFFERS
    assert held <= TIME / 1e9 + 1


@pytest.mark.proof
@pytest.mark.alone
def test_figures_of_bodies() -> None:
    """How much is read of what is refused; how soon 200 dripping bodies end, and who is served meanwhile."""
    within = 10 if FULL else 3
    with served(f"{within}s") as (app, port):
        post(port, chunked(LIMIT + 1))
        beyond = app.read - LIMIT
        app.read = 0
        post(port, chunked(100 * 2**20))
        flooded = app.read - LIMIT
        ended: list[tuple[float, bytes]] = []
        drips = [threading.Thread(target=_drip, args=(port, ended), daemon=True) for _ in range(200)]
        for one in drips:
            one.start()
        well = 0
        for _ in range(100):
            time.sleep(within / 120)
            well += post(port, announced(1000))[0] == b"HTTP/1.1 200 OK"
        for one in drips:
            one.join(60)
    slowest = max(took for took, _ in ended)
    refused = sum(status.startswith(b"HTTP/1.1 408") for _, status in ended)
    figure("read beyond the limit, of a chunked body of limit + 1", "<= 65536 B", f"{beyond} B")
    figure("the same, of a chunked flood of 100 MiB", f"<= {BUFFERS} B", f"{flooded} B")
    figure("100 uploads beside 200 dripping bodies", "100", well)
    figure("dripping bodies told 408", "200", refused)
    figure("the last of them is closed after", f"<= {within + 2} s", f"{slowest:.1f} s")
    assert beyond <= SLACK
    assert flooded <= BUFFERS
    assert (well, refused) == (100, 200)
    assert within * 0.9 < slowest <= within + 2


def _drip(port: int, ended: list[tuple[float, bytes]]) -> None:
    began, got = time.monotonic(), b""
    with closing(socket.create_connection(("127.0.0.1", port), timeout=0.1)) as client:
        client.sendall(HEAD + b"content-length: 1000\r\n\r\n")
        while True:
            try:
                client.sendall(b"x")
                part = client.recv(65536)
            except TimeoutError:
                continue
            except OSError:
                break
            got += part
            if not part:
                break
    ended.append((time.monotonic() - began, got))
