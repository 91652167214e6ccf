"""Which store a spec gets: its URL, its secrets, and what is missing, in words."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mahavishnu.alerts.shared_store import STORE_CALLS, STORE_DURATION, STORE_UP
from mahavishnu.asgi import Hardening
from mahavishnu.clock import SystemClock
from mahavishnu.derived.outage import outage
from mahavishnu.errors import MahavishnuError
from mahavishnu.runtime.keys import Caller
from mahavishnu.runtime.limits.admission import Admission
from mahavishnu.runtime.limits.memory_store import MemoryStore
from mahavishnu.runtime.redis.address import DEADLINE, address
from mahavishnu.runtime.redis.store import RedisStore
from mahavishnu.runtime.secret_values import resolved, secret
from mahavishnu.runtime.service import Service
from mahavishnu.runtime.stores import open_store
from mahavishnu.runtime.telemetry.metrics import Metrics
from tests.ports import free_port
from tests.runtime.asgi_client import call, spec_of
from tests.runtime.redis.servers import Server, server
from tests.runtime.redis.test_store import PER_CLIENT, Fleet

METRICS = Metrics({one.name: one for one in (STORE_CALLS, STORE_DURATION, STORE_UP)})


def _told(_up: bool, _reason: str) -> None: ...


def test_a_secret_is_a_variable_or_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The variable wins; a last line break is not part of it; one that is nowhere is named."""
    (tmp_path / "REDIS_URL").write_text("redis://from-file\n", encoding="utf-8")
    assert secret("REDIS_URL", tmp_path) == "redis://from-file"
    monkeypatch.setenv("REDIS_URL", "redis://from-variable\n")
    assert secret("REDIS_URL", tmp_path) == "redis://from-variable"
    with pytest.raises(MahavishnuError, match=r"`REDIS_PW` is neither an environment variable nor"):
        secret("REDIS_PW", tmp_path)


def test_a_password_is_escaped_where_it_is_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it holds, it leads nowhere else."""
    monkeypatch.setenv("PW", "p@ss/word:#?%40")
    url = resolved("rediss://shop:${PW}@cache:6380/2?socket_timeout=0.05")
    one = address(url)
    assert one.login == ("shop", "p@ss/word:#?%40")
    assert (one.host, one.port, one.database, one.deadline) == ("cache", 6380, 2, 50_000_000)
    assert isinstance(one.tls, ssl.SSLContext)
    assert "p@ss" not in repr(one)


@pytest.mark.parametrize(
    ("url", "host", "port", "path"),
    [
        ("redis://cache", "cache", 6379, None),
        ("valkey://[::1]:7000/1", "::1", 7000, None),
        ("unix:///run/redis.sock?db=3", "localhost", 6379, "/run/redis.sock"),
    ],
)
def test_urls(url: str, host: str, port: int, path: str | None) -> None:
    """Of both servers, by name, address and socket file."""
    one = address(url)
    assert (one.host, one.port, one.path, one.deadline) == (host, port, path, DEADLINE)
    assert one.tls is None


@pytest.mark.parametrize(
    "url",
    [
        "http://x:pw@h",
        "redis://:pw@h:port",
        "redis://:pw@h?socket_timeout=60",
        "rediss://:pw@h?ssl_ca_certs=/no",
    ],
)
def test_a_url_that_is_none_says_so_without_its_secret(url: str) -> None:
    """A secret may hold anything; the error says what to write and nothing of it."""
    with pytest.raises(MahavishnuError, match="the URL of the store cannot be used") as said:
        address(url)
    assert "pw" not in str(said.value)
    assert said.value.__cause__ is None


def test_the_spec_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory, or a shared one by its secret."""
    monkeypatch.setenv("REDIS_URL", "redis://nobody.invalid")
    clock = SystemClock()
    assert isinstance(open_store(spec_of(), clock, METRICS, _told, str), MemoryStore)
    shared = spec_of(store="${REDIS_URL}", secrets=["REDIS_URL"])
    assert isinstance(open_store(shared, clock, METRICS, _told, str), RedisStore)
    monkeypatch.delenv("REDIS_URL")
    with pytest.raises(MahavishnuError, match="neither an environment variable nor the file"):
        open_store(shared, clock, METRICS, _told, str)


def test_missing_packages_are_named() -> None:
    """Without the extra there is one sentence, with what to type; who counts in memory loads neither."""
    program = (
        "import sys; sys.modules['hiredis'] = None\n"
        "from mahavishnu.runtime.stores import open_store\n"
        "from mahavishnu.spec import Spec\n"
        "assert 'redis' not in sys.modules\n"
        "said = {'mahavishnu': 1, 'service': {'name': 'shop', 'app': 'a:b'}, 'store': 'redis://h'}\n"
        "from mahavishnu.clock import SystemClock\n"
        "open_store(Spec.model_validate(said), SystemClock(), None, None, None)\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "pip install 'mahavishnu[redis]'" in ran.stderr.splitlines()[-1]


def test_a_closed_limit_is_a_503_with_the_time_to_come_back() -> None:
    """The whole way through the middleware: a problem of its own, and other routes go on."""
    limits = {
        "login": {"rate": "5/minute", "match": {"path": "/login"}, "on_store_failure": "closed"},
        "rest": {"rate": "2/minute"},
    }
    spec = spec_of(store=f"redis://127.0.0.1:{free_port()}", limits=limits)

    async def ok(_: Request) -> Response:
        return Response()

    async def story() -> None:
        app = Hardening(Starlette(routes=[Route("/login", ok), Route("/", ok)]), spec=spec)
        refused = await call(app, path="/login")
        assert refused.status == 503
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["type"].endswith("#temporary-reduced-capacity")
        assert [(await call(app, path="/")).status for _ in range(3)] == [200, 200, 429]
        store = app.service.store
        assert isinstance(store, RedisStore)
        store.close()

    asyncio.run(story())


def test_the_log_says_when_and_why_it_is_lost() -> None:
    """Once when it goes and once when it comes, not with every try."""
    told: list[tuple[bool, str]] = []

    def tell(up: bool, reason: str) -> None:
        told.append((up, reason))

    async def found(store: RedisStore) -> None:
        await store.take(PER_CLIENT, ["i:a"])
        for _ in range(1000):
            await asyncio.sleep(0.01)
            if store.up():
                return

    async def story(one: Server) -> None:
        mine = Fleet(one.url)
        store = RedisStore(address(one.url), "shop", SystemClock(), mine.metrics, tell)
        await found(store)
        told.clear()
        one.kill()
        await asyncio.sleep(0.8)
        one.start()
        await found(store)
        store.close()
        mine.store.close()

    with server() as one:
        asyncio.run(story(one))
    assert told[0] == (False, "the connection was lost")
    assert told[-1] == (True, "")
    assert len(told) <= 3


def test_tls(tmp_path: Path) -> None:
    """`rediss://` checks the certificate and its name; one that nobody vouches for is no store."""
    made = subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "1",
                "-subj",
                "/CN=localhost",
            ),
            *(
                "-addext",
                "subjectAltName=DNS:localhost",
                "-keyout",
                tmp_path / "key",
                "-out",
                tmp_path / "cert",
            ),
        ],
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip("no openssl here")
    port = free_port()
    options = ("--tls-port", str(port), "--tls-cert-file", str(tmp_path / "cert"), "--tls-key-file")
    more = (str(tmp_path / "key"), "--tls-auth-clients", "no", "--tls-ca-cert-file", str(tmp_path / "cert"))

    reasons: list[str] = []

    async def calls(url: str) -> float:
        one = Fleet(url, None)
        await one.take()
        for _ in range(100):
            if one.up():
                break
            await asyncio.sleep(0.01)
        await one.take()
        reasons.append(one.store.reason())
        one.store.close()
        return one.calls("ok")

    with server(*options, *more):
        trusted = f"rediss://localhost:{port}?ssl_ca_certs={tmp_path / 'cert'}&socket_timeout=1"
        assert asyncio.run(calls(trusted)) == 2
        assert asyncio.run(calls(f"rediss://localhost:{port}?socket_timeout=1")) == 0
        assert asyncio.run(calls(trusted.replace("localhost", "127.0.0.1"))) == 0
    assert reasons == ["", *["TLS: CERTIFICATE_VERIFY_FAILED"] * 2]


def test_what_an_outage_may_let_through() -> None:
    """In words and numbers, for each rate of the fleet that refuses."""
    limits = {
        "a": {"rate": "300/minute"},
        "b": {"rate": "5/15m", "on_store_failure": "closed"},
        "c": {"rate": "9/second", "on_store_failure": "open"},
        "d": {"rate": "7/second", "scope": "process"},
        "e": {"rate": "7/second", "mode": "observe"},
    }
    deploy = {"replicas": {"max": 12}}
    said = [*outage(spec_of(store="redis://redis", limits=limits, deploy=deploy))]
    assert len(said) == 3
    assert "up to 7,800 through in 1m" in said[0]
    assert "nothing through: 503" in said[1]
    assert "everything through" in said[2]
    assert [*outage(spec_of(limits=limits, deploy=deploy))] == []


RULES = [
    {"rate": "100/day"},
    {"rate": "20/hour"},
    {"rate": "100/hour", "burst": 300},
    {"rate": "100/hour", "algorithm": "sliding_window"},
    {"rate": "100/2h", "algorithm": "sliding_window"},
    {"rate": "200/hour", "algorithm": "sliding_log"},
    {"rate": "100/hour", "per": "ip"},
]


@pytest.mark.parametrize("after", RULES, ids=str)
def test_a_reload_gives_nothing_back_that_the_fleet_has_counted(after: dict[str, Any]) -> None:
    """The new rule goes on from the old one, which holds on beside it where callers are told apart otherwise."""

    async def story(one: Server) -> list[bool]:
        caller, url = Caller("203.0.113.1"), f"{one.url}?socket_timeout=2"
        first = Service(spec_of(store=url, limits={"calls": {"rate": "100/hour"}}), SystemClock())
        second = Service(spec_of(store=url, limits={"calls": after}), SystemClock(), before=first)
        assert isinstance(first.store, RedisStore)
        while not first.store.up():  # noqa: ASYNC110 - it has no event, for nobody but a test waits for it
            await asyncio.sleep(0.01)
        before = [await _admitted(first, caller) for _ in range(101)]
        second.take_over(first)
        said = [await _admitted(second, one) for one in (caller, caller, Caller("203.0.113.9"))]
        first.store.close()
        return [before.count(True) >= 100, not before[-1], *said]

    with server() as one:
        assert asyncio.run(story(one)) == [True, True, False, False, True]


async def _admitted(service: Service, caller: Caller) -> bool:
    admission = Admission("", caller, service.engine.planner.plan("/", "GET"), service.clock.now())
    await service.engine.admit(admission)
    return admission.refused is None
