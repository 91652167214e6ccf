"""Starting and stopping: not ready before the end, nothing in flight lost, and everything off when asked."""

from __future__ import annotations

import asyncio
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware

from mahavishnu.asgi import Hardening
from mahavishnu.errors import MahavishnuError
from mahavishnu.runtime.current import current
from tests.otlp_receiver import collector as otlp_collector
from tests.runtime.asgi_client import (
    Answer,
    Message,
    call,
    chunks,
    collector,
    harden,
    limits,
    run,
    scope_of,
    site,
)


async def lifespan(app: Any, *during: Any) -> list[str]:
    """Start the app as a server does, do something, stop it; what it said."""
    told = Answer()
    messages: asyncio.Queue[Message] = asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    task = asyncio.create_task(app(scope, messages.get, collector(told)))
    await messages.put({"type": "lifespan.startup"})
    await asyncio.sleep(0.01)
    for one in during:
        await one
    await messages.put({"type": "lifespan.shutdown"})
    await task
    return [one["type"] for one in told.messages]


@pytest.fixture(autouse=True)
def _sigterm() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    """The handler of this process is put back."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


async def test_shutting_down_means_not_ready() -> None:
    """Ready until the server says stop; alive still then; answers close their connections."""
    house = harden(site(), limits())
    assert (await house.status(path="/readyz"), await house.status(path="/healthz")) == (200, 200)
    said = await lifespan(house.app, house.call(path="/readyz"))
    assert said == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert (await house.status(path="/readyz"), await house.status(path="/healthz")) == (503, 200)
    answer = await house.call()
    assert (answer.status, answer.headers["connection"]) == (200, "close")


async def test_who_starts_again_in_its_process_is_ready_again() -> None:
    """As with a second test client, or a server that is started anew; and SIGTERM is heard once."""
    house = harden(site(), limits())
    heard: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    for _ in range(1200):
        messages: asyncio.Queue[Message] = asyncio.Queue()
        for one in ("startup", "shutdown"):
            messages.put_nowait({"type": f"lifespan.{one}"})
        await house.app({"type": "lifespan"}, messages.get, collector(Answer()))
    again: list[Answer] = []

    async def asks() -> None:
        again.extend([await house.call(path="/readyz"), await house.call()])

    await lifespan(house.app, asks())
    assert [(one.status, "connection" in one.headers) for one in again] == [(200, False)] * 2
    os.kill(os.getpid(), signal.SIGTERM)
    assert (heard, house.app.service.draining) == ([signal.SIGTERM], True)


async def test_sigterm_drains_first_and_then_does_what_the_server_would() -> None:
    """Its handler is called, once, with readiness already withdrawn."""
    house = harden(site(), limits())
    seen: list[bool] = []

    def stop(number: int, frame: FrameType | None) -> None:
        seen.append(house.app.service.draining)

    signal.signal(signal.SIGTERM, stop)

    async def terminate() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0)

    await lifespan(house.app, terminate())
    assert seen == [True]


async def test_a_process_that_ignores_sigterm_goes_on_ignoring_it() -> None:
    """Nothing is installed where there was no handler to go on with."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    await lifespan(harden(site(), limits()).app)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    """As in test clients, which run apps in a thread of their own."""
    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=lambda: run(lifespan(harden(site(), limits()).app)))
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is before


async def plain(scope: Any, receive: Any, send: Any) -> None:
    """An app that knows requests alone, as Django's does."""
    assert scope["type"] == "http", "no lifespan here"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


async def silent(scope: Any, receive: Any, send: Any) -> None:
    """As `plain`, without a word."""
    if scope["type"] == "http":
        await plain(scope, receive, send)


def refusing(error: Exception) -> Any:
    """An app that refuses any other scope by this."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise error
        await plain(scope, receive, send)

    return app


async def blind(scope: Any, receive: Any, send: Any) -> None:
    """As `plain`, which does not look at the kind of its scope."""
    assert scope["path"]
    await plain(scope, receive, send)


WITHOUT = [
    plain,
    silent,
    blind,
    refusing(AssertionError()),
    refusing(ValueError("Django can only handle ASGI/HTTP connections, not lifespan.")),
    refusing(ValueError("WSGI wrapper received a non-HTTP scope")),
    refusing(NotImplementedError("unknown scope type")),
]


@pytest.mark.parametrize("app", WITHOUT)
async def test_an_app_without_lifespan_is_ended_all_the_same(app: Any) -> None:
    """The server hears that it has started and ended: so the last word is said, and it drains. Requests are served."""
    house = harden(app, limits())
    said = await lifespan(house.app, house.call(), house.call(path="/readyz"))
    assert said == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert await house.status(path="/readyz") == 503
    assert (await house.call()).body == b"ok"


@pytest.mark.parametrize("app", WITHOUT)
async def test_an_app_without_lifespan_starts_where_nothing_is_enforced(
    app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is generated insists on a lifespan: what is to save a service must not keep it from its start."""
    monkeypatch.setenv("MAHAVISHNU_DISABLE", "1")
    said = await lifespan(Hardening(app, limits()))
    assert said == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_an_app_that_cannot_start_is_left_to_say_so() -> None:
    """Its exception reaches the server, which does not start."""

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise OSError("no database")

    with pytest.raises(OSError, match="no database"):
        await harden(broken, limits()).app({"type": "lifespan"}, chunks([]), collector(Answer()))


def unbuilt() -> Starlette:
    """Its middlewares are made when it is first called, and one of them cannot be: it needs a key."""

    def needs(app: Any, key: str) -> Any:
        return app if key else None

    made: Any = needs
    return Starlette(middleware=[Middleware(made)])


async def unset(scope: Any, receive: Any, send: Any) -> None:
    """Asks for a setting when it starts, which is missing."""
    if scope["type"] == "lifespan":
        os.environ["NOT_SET"]
    await plain(scope, receive, send)


def invalid(scope: Any, receive: Any, send: Any) -> Any:
    """As `unset`, with one that is there and no number."""
    return plain({"type": "http", "port": int("eighty"), **scope}, receive, send)


def unmade() -> Any:
    """Makes what is in it late, and that holds what it is given to be wrong."""

    def made(routes: list[str]) -> Any:
        assert routes, "an app without routes"
        return plain

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await made([])(scope, receive, send)

    return app


BROKEN = [
    (unbuilt(), TypeError),
    (unset, KeyError),
    (invalid, ValueError),
    (unmade(), AssertionError),
    (refusing(RuntimeError("no database")), RuntimeError),
    (refusing(KeyError("currency")), KeyError),
]


@pytest.mark.parametrize(("app", "error"), BROKEN)
@pytest.mark.parametrize("disabled", ["0", "1"])
async def test_an_app_that_cannot_begin_its_start_does_not_start(
    app: Any, error: type[Exception], disabled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it raises before it listens is no word about lifespans: the server hears it, and does not start."""
    monkeypatch.setenv("MAHAVISHNU_DISABLE", disabled)
    told = Answer()
    with pytest.raises(error):
        await Hardening(app, limits())({"type": "lifespan"}, chunks([]), collector(told))
    assert told.messages == []


async def test_a_server_that_starts_all_the_same_is_one_that_says_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As uvicorn with `--lifespan=auto`: nobody will say that it ends, so the first request sees to it."""
    house, asked = harden(refusing(RuntimeError("no database")), limits()), list[bool]()
    monkeypatch.setattr(house.app.life, "end_unheard", lambda: asked.append(True))
    with pytest.raises(RuntimeError, match="no database"):
        await house.app({"type": "lifespan"}, chunks([]), collector(Answer()))
    assert [(await house.call()).body for _ in range(3)] == [b"ok"] * 3
    assert asked == [True]


@pytest.mark.parametrize("scope", [{"type": "lifespan"}, scope_of()])
def test_an_event_loop_that_is_not_asyncios_is_named(scope: Any) -> None:
    """As that of trio, under hypercorn or anyio's test client: nothing that waits would work there."""
    app = harden(site(), limits()).app
    with pytest.raises(MahavishnuError, match="runs on asyncio"):
        app(scope, chunks([]), collector(Answer())).send(None)


async def test_a_request_in_flight_survives_the_drain() -> None:
    """It is served to its end after readiness was withdrawn."""
    end = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await end.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    house = harden(slow, limits())
    task = asyncio.create_task(house.call())
    await house.clock.settle()
    house.app.drain()
    assert await house.status(path="/readyz") == 503
    end.set()
    assert (await task).body == b"done"


async def test_disabled_means_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """MAHAVISHNU_DISABLE=1: no spec is read, nothing is limited, added or counted; only a cluster's probes pass."""
    monkeypatch.setenv("MAHAVISHNU_DISABLE", "1")
    app = Hardening(site(), Path("/nonexistent/mahavishnu.yaml"))
    for _ in range(20):
        answer = await call(app)
        assert (answer.status, "x-request-id" in answer.headers) == (200, False)
    assert (await call(app, path="/metrics")).status == 404
    probes = [await call(app, method, path) for path in ("/healthz", "/readyz") for method in ("GET", "HEAD")]
    assert [one.status for one in probes] == [200] * 4  # or Kubernetes would kill what it is to save
    assert (await call(app, path="/sub/readyz", root_path="/sub")).status == 200
    assert (await call(app, "POST", "/healthz")).status == 404
    assert await lifespan(app) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    app.drain()
    await app.reload()
    assert current() is None


APP = """
import asyncio
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from mahavishnu.asgi import Hardening
from mahavishnu.errors import MahavishnuError
from mahavishnu.runtime.current import current

async def slow(request):
    print("in flight", flush=True)
    while not current().draining:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.3)
    return PlainTextResponse("done")

app = Starlette(routes=[Route("/slow", slow)])
app.add_middleware(Hardening, spec="mahavishnu.yaml")
"""
OFF = "--lifespan=off"
SPEC = "mahavishnu: 1\nservice: {name: shop, app: shop:app}\nlimits: {request: {timeout: 20s}}\n"


@contextmanager
def _server(
    folder: Path, *options: str, more: str = ""
) -> Generator[tuple[subprocess.Popen[str], int], None, None]:
    """uvicorn with the app, ready."""
    (folder / "shop.py").write_text(APP)
    (folder / "mahavishnu.yaml").write_text(SPEC + more)
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "shop:app",
        "--port",
        str(port),
        "--no-proxy-headers",
        *options,
    ]
    server = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert server.stdout is not None
        for line in server.stdout:
            if "running on" in line:
                break
        yield server, port
    finally:
        server.kill()
        server.wait()
        if server.stdout is not None:
            server.stdout.close()


def _get(port: int, path: str) -> tuple[int, str, str]:
    """Status, body and what is said of the connection; 0 when there is none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer.headers.get("connection", "")
    except ConnectionError:
        return 0, "", ""
    finally:
        connection.close()


@pytest.mark.parametrize("options", [[], [OFF]], ids=["lifespan", "without"])
def test_a_real_server_on_sigterm(tmp_path: Path, options: list[str]) -> None:
    """uvicorn: the request in flight is served whole, nobody is told `ready` any more, the process ends by itself."""
    with _server(tmp_path, *options) as (server, port):
        assert _get(port, "/readyz")[:2] == (200, "ready\n")
        answers: list[tuple[int, str, str]] = []
        client = threading.Thread(target=lambda: answers.append(_get(port, "/slow")))
        client.start()
        assert server.stdout is not None
        assert any("in flight" in line for line in server.stdout)
        server.send_signal(signal.SIGTERM)
        client.join(10)
        assert answers == [(200, "done", "close")]
        assert _get(port, "/readyz")[0] in (0, 503)
        rest = server.stdout.read()
        assert server.wait(10) in (0, -signal.SIGTERM)
        assert '"route": "/slow"' in rest
        assert '"status": 200' in rest
        assert "Traceback" not in rest


@pytest.mark.parametrize("options", [[], [OFF], [OFF, "--limit-max-requests=4"]], ids=" ".join)
def test_a_real_server_says_its_last_word(tmp_path: Path, options: list[str]) -> None:
    """Whether or not it tells the app that it ends, and why ever it does, what it has served is pushed before."""
    with otlp_collector() as receiver:
        more = f"observability: {{metrics: {{otlp: '{receiver.url}', every: 1h}}}}\n"
        with _server(tmp_path, *options, more=more) as (server, port):
            for _ in range(4):
                assert _get(port, "/nowhere")[0] == 404
            if len(options) < 2:
                server.send_signal(signal.SIGTERM)
            ended = server.wait(10)
        assert ended == (0 if len(options) == 2 else -signal.SIGTERM)
        shown = receiver.samples()
        counts = [
            value
            for name, value in shown.items()
            if name.startswith("http_server_request_duration_seconds_count")
        ]
        assert counts == [4]
        assert len(receiver.pushed) == 1
