"""uvicorn with the deadline for heads, over real sockets: who dawdles is closed, nobody else notices."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Generator, MutableMapping
from contextlib import closing, contextmanager
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from mahavishnu.clock import SystemClock
from mahavishnu.runtime.current import current, forget, use
from mahavishnu.runtime.service import Service
from mahavishnu.server import HeadDeadline, head_timeout, with_deadline
from tests.figures import FULL, figure
from tests.metering import value
from tests.runtime.asgi_client import spec_of

DEADLINE = 0.4
REQUEST = b"GET / HTTP/1.1\r\nhost: shop\r\n\r\n"
OK = b"HTTP/1.1 200"
LATE = b"HTTP/1.1 408"


def _protocol(name: str) -> Any:
    if name == "h11":
        return H11Protocol
    pytest.importorskip("httptools")
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    return HttpToolsProtocol


@pytest.fixture(scope="module", params=["h11", "httptools"])
def protocol(request: pytest.FixtureRequest) -> Any:
    """Each of uvicorn's protocols that is installed."""
    return _protocol(request.param)


async def app(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
    """Reads the body and answers with its length; `/early` answers first, `/slow` takes its time."""
    size = 0
    if scope["path"] == "/slow":
        await asyncio.sleep(2 * DEADLINE)
    while scope["path"] != "/early":
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    said = str(size).encode()
    headers = [(b"content-length", str(len(said)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": said})


class Echo(asyncio.Protocol):
    """A stand-in for a websocket library: says `open`, then sends back what it is sent."""

    def __init__(self, **of_uvicorn: Any) -> None:
        self.opened = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data if self.opened else b"open")
        self.opened = True


def at_work(timeout: str = f"{int(DEADLINE * 1000)}ms") -> None:
    """Give this process a spec with this deadline."""
    forget()
    use(Service(spec_of(service={"head_timeout": timeout}), SystemClock()))


@contextmanager
def served(
    protocol: Any, timeout: str = f"{int(DEADLINE * 1000)}ms", keep_alive: Any = 30
) -> Generator[int, None, None]:
    """A uvicorn in a thread, whose process has a spec with this deadline; its port."""
    at_work(timeout)
    listener = socket.create_server(("127.0.0.1", 0), backlog=1000)
    config = uvicorn.Config(
        app, http=protocol, ws=Echo, log_level="critical", lifespan="off", timeout_keep_alive=keep_alive
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = server.force_exit = True
        thread.join()
        listener.close()


@pytest.fixture(scope="module")
def server(protocol: Any) -> Generator[int, None, None]:
    """A server with the deadline."""
    with served(with_deadline(protocol)) as port:
        yield port


@pytest.fixture
def port(server: int) -> int:
    """The port of a server with the deadline; every test starts with no spec at work."""
    at_work()
    return server


def counted() -> float:
    """What the series says of late heads."""
    service = current()
    assert service is not None
    return value(service.metrics, "mahavishnu_head_timeouts_total")


def connect(port: int) -> socket.socket:
    """A connection that fails a test rather than to hang it."""
    made = socket.create_connection(("127.0.0.1", port))
    made.settimeout(10)
    return made


def answer(client: socket.socket, ends: bytes = b"\r\n\r\n0") -> bytes:
    """What comes until these bytes, or the end of the connection."""
    got = b""
    while not got.endswith(ends) and (part := client.recv(65536)):
        got += part
    return got


def drip(client: socket.socket, head: bytes) -> tuple[float, bytes]:
    """Send a byte now and then until the server hangs up: after how long, and what it had said."""
    began, got = time.monotonic(), b""
    client.settimeout(DEADLINE / 20)
    for place in range(10_000):
        try:
            client.sendall(head[place : place + 1] or b"x")
            part = client.recv(65536)
        except TimeoutError:
            continue
        except OSError:
            break
        if not part:
            break
        got += part
    return time.monotonic() - began, got


def test_a_head_that_drips_ends_with_408(port: int) -> None:
    """However busily the bytes come, at the deadline and not before."""
    with closing(connect(port)) as client:
        took, said = drip(client, b"GET / HTTP/1.1\r\nhost: shop\r\nx: ")
    assert DEADLINE * 0.9 < took < DEADLINE + 2
    assert said.startswith(LATE)
    assert b"connection: close" in said
    assert counted() == 1


def test_a_connection_that_says_nothing_is_closed_in_silence(port: int) -> None:
    """A browser that connects ahead of time would take an answer for that of its next request."""
    began = time.monotonic()
    with closing(connect(port)) as client:
        assert client.recv(100) == b""
    assert DEADLINE * 0.9 < time.monotonic() - began < DEADLINE + 2
    assert counted() == 0


def test_a_response_does_not_wait_for_nagles_algorithm(protocol: Any) -> None:
    """Also where asyncio leaves it on: at sockets that somebody else has bound, as uvicorn does for its workers."""
    options: list[int] = []

    class Seen(with_deadline(protocol)):  # type: ignore[misc]
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            inside = transport.get_extra_info("socket")
            options.append(inside.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    with served(Seen) as port, closing(connect(port)) as client:
        client.sendall(REQUEST)
        assert answer(client).startswith(OK)
    assert options == [1]


def test_the_second_head_of_a_connection_has_a_deadline_too(port: int) -> None:
    """From its own first byte on."""
    with closing(connect(port)) as client:
        client.sendall(REQUEST)
        assert answer(client).startswith(OK)
        time.sleep(DEADLINE * 1.5)
        took, _ = drip(client, REQUEST[:-2] + b"x: ")
    assert DEADLINE * 0.9 < took < DEADLINE + 2


def test_a_pause_between_two_requests_is_nobodys_fault(port: int) -> None:
    """It has uvicorn's own limit, a longer one here."""
    with closing(connect(port)) as client:
        for _ in range(3):
            client.sendall(REQUEST)
            assert answer(client).startswith(OK)
            time.sleep(DEADLINE * 1.2)


def test_a_request_in_two_pieces_is_served(port: int) -> None:
    """As long as its head is whole in time."""
    with closing(connect(port)) as client:
        for _ in range(2):
            client.sendall(REQUEST[:20])
            time.sleep(DEADLINE / 3)
            client.sendall(REQUEST[20:])
            assert answer(client).startswith(OK)


def test_a_body_and_an_answer_may_take_longer(port: int) -> None:
    """They have limits of their own: `limits.<name>.within` and `.timeout`."""
    with closing(connect(port)) as client:
        client.sendall(b"POST / HTTP/1.1\r\nhost: shop\r\ncontent-length: 4\r\n\r\n")
        for _ in range(4):
            time.sleep(DEADLINE / 2)
            client.sendall(b"x")
        assert answer(client, b"\r\n\r\n4").startswith(OK)
        client.sendall(REQUEST.replace(b"/ ", b"/slow "))
        assert answer(client).startswith(OK)


def test_requests_sent_ahead_are_all_served(port: int) -> None:
    """Pipelined, behind one that takes longer than a head may."""
    with closing(connect(port)) as client:
        client.sendall(REQUEST.replace(b"/ ", b"/slow ") + REQUEST + REQUEST)
        got = b""
        while got.count(OK) < 3 and (part := client.recv(65536)):
            got += part
        assert got.count(OK) == 3


def test_what_is_left_of_a_body_after_the_answer_has_a_deadline(port: int) -> None:
    """Nobody reads it any more; uvicorn alone would let it drip for ever."""
    with closing(connect(port)) as client:
        client.sendall(b"POST /early HTTP/1.1\r\nhost: shop\r\ncontent-length: 100000\r\n\r\n")
        assert answer(client).startswith(OK)
        took, _ = drip(client, b"")
    assert DEADLINE * 0.9 < took < DEADLINE + 2


def answered_early(client: socket.socket) -> None:
    """A request whose body comes, whole, when its answer is there already."""
    client.sendall(b"POST /early HTTP/1.1\r\nhost: shop\r\ncontent-length: 6\r\n\r\n")
    assert answer(client).startswith(OK)
    time.sleep(DEADLINE / 10)
    client.sendall(b"abcdef")


def test_a_body_that_comes_after_the_answer_keeps_its_connection(port: int) -> None:
    """As that of a client that was refused before it had sent it: what it asks next is served."""
    with closing(connect(port)) as client:
        for _ in range(2):
            answered_early(client)
            time.sleep(DEADLINE * 1.5)
        client.sendall(REQUEST[:20])
        time.sleep(DEADLINE / 2)
        client.sendall(REQUEST[20:])
        assert answer(client).startswith(OK)
        assert counted() == 0
        answered_early(client)
        took, _ = drip(client, b"\r\n" * 1000)
    assert took < DEADLINE + 2


def test_a_head_behind_a_late_body_has_a_deadline(port: int) -> None:
    """Also one whose beginning came with the last of the body."""
    with closing(connect(port)) as client:
        answered_early(client)
        client.sendall(b"POST /early HTTP/1.1\r\nhost: shop\r\ncontent-length: 6\r\n\r\n")
        assert answer(client).startswith(OK)
        time.sleep(DEADLINE / 10)
        client.sendall(b"abcdef" + REQUEST[:10])
        began = time.monotonic()
        assert client.recv(100) == b""
    assert DEADLINE * 0.9 < time.monotonic() - began < DEADLINE + 2


def test_a_pause_behind_a_late_body_ends_as_any_other(protocol: Any) -> None:
    """With uvicorn's own limit, which uvicorn has called off when the body came."""
    with (
        served(with_deadline(protocol), "60s", keep_alive=DEADLINE) as port,
        closing(connect(port)) as client,
    ):
        answered_early(client)
        assert client.recv(100) == b""


def test_a_websocket_is_not_meant(port: int) -> None:
    """Once it is open, the connection belongs to another protocol."""
    with closing(connect(port)) as client:
        client.sendall(REQUEST[:-2] + b"connection: upgrade\r\nupgrade: websocket\r\n\r\n")
        assert client.recv(100) == b"open"
        time.sleep(DEADLINE * 2)
        client.sendall(b"still here")
        assert client.recv(100) == b"still here"


def test_without_it_uvicorn_waits(protocol: Any) -> None:
    """The tests above can fail: the protocol alone holds a dripping head open."""
    with served(protocol) as port, closing(connect(port)) as client:
        client.sendall(REQUEST[:-2])
        client.settimeout(DEADLINE * 3)
        with pytest.raises(TimeoutError):
            client.recv(100)


def test_the_deadline_is_the_specs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten seconds until a spec is at work; none where everything is switched off."""
    forget()
    assert head_timeout() == 10
    at_work("1500ms")
    assert head_timeout() == 1.5
    monkeypatch.setenv("MAHAVISHNU_DISABLE", "1")
    assert head_timeout() is None


def test_uvicorns_command_line_takes_it() -> None:
    """By its name, as the generated files write it."""
    config = uvicorn.Config(app, http="mahavishnu.server:HeadDeadline", log_config=None)
    config.load()
    assert config.http_protocol_class is HeadDeadline


@pytest.mark.proof
@pytest.mark.alone
def test_dripping_heads_are_closed_while_requests_are_served() -> None:
    """200 connections drip their heads; 100 requests meanwhile are all answered."""
    deadline = 10 if FULL else 3
    with served(HeadDeadline, f"{deadline}s") as port:
        open_at: list[float] = []
        drips = [_Dripping(port, open_at.append) for _ in range(200)]
        began = time.monotonic()
        for one in drips:
            one.start()
        served_well = sum(_get(port, deadline / 120) for _ in range(100))
        for one in drips:
            one.join(timeout=60)
        slowest = max(open_at)
    figure("100 requests beside 200 dripping connections", "100", served_well)
    figure("the last dripping head is closed after", f"<= {deadline + 2} s", f"{slowest:.1f} s")
    assert (served_well, len(open_at)) == (100, 200)
    assert deadline * 0.9 < slowest <= deadline + 2
    assert time.monotonic() - began < 60


class _Dripping(threading.Thread):
    """One connection that sends a byte of its head every 100 ms."""

    def __init__(self, port: int, closed: Callable[[float], None]) -> None:
        super().__init__(daemon=True)
        self.client = connect(port)
        self.closed = closed

    def run(self) -> None:
        began = time.monotonic()
        self.client.settimeout(0.1)
        head = iter(b"GET / HTTP/1.1\r\nhost: shop\r\n" + b"x: y\r\n" * 1000)
        while True:
            try:
                self.client.sendall(bytes([next(head)]))
                if self.client.recv(1000) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        self.client.close()
        self.closed(time.monotonic() - began)


def _get(port: int, pause: float) -> bool:
    time.sleep(pause)
    with closing(connect(port)) as client:
        client.sendall(REQUEST)
        return answer(client).startswith(OK)
