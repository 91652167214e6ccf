"""A real nginx before a real uvicorn: both count the same client, whatever the client says of itself."""

from __future__ import annotations

import http.client
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from socket import AF_INET, AF_UNIX
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pytest

from mahavishnu.contract import Contract, contract
from mahavishnu.load import load
from tests.figures import FULL, figure
from tests.judges import judge
from tests.ports import free_port

REQUESTS = 10_000 if FULL else 2_000
PEERS = [f"127.0.1.{number}" for number in range(1, 51)]
# What nginx's own documentation, ingress-nginx by default, and RFC 7239 make of the client's address.
WRITES = {
    "appended": "X-Forwarded-For $proxy_add_x_forwarded_for",
    "replaced": "X-Forwarded-For $remote_addr",
    "forwarded": 'Forwarded "$http_forwarded, for=$remote_addr;proto=http"',
}
NGINX = """\
daemon off;
pid {folder}/nginx.pid;
error_log stderr warn;
worker_processes 1;
events {{ worker_connections 512; }}
http {{
  log_format seen '$request_id $remote_addr';
  access_log {folder}/seen.log seen;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  keepalive_requests 100000;
  upstream app {{ server {app}; keepalive 16; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://app;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header X-Request-ID $request_id;
      proxy_set_header {writes};
    }}
  }}
}}
"""
APP = """
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from mahavishnu.asgi import Hardening

async def ok(request):
    return PlainTextResponse("ok")

app = Starlette(routes=[Route("/", ok)])
app.add_middleware(Hardening)
"""
SPEC = """\
mahavishnu: 1
service: {{name: shop, app: "shop:app", port: {port}, trusted_proxies: [{trusted}], forwarded: {forwarded}}}
limits: {{per_client: {{rate: 7/day}}, per_network: {{rate: 340/day, per: network}}}}
"""


class Seen(NamedTuple):
    """What each side says of every request, by its id: the peer nginx had, and the client the service counted."""

    peers: dict[str, str]
    clients: dict[str, str]
    admitted: Counter[str]


def hostile(chance: random.Random) -> dict[str, str]:
    """What a client sends to be somebody else, in every header that is ever read."""
    address = f"{chance.choice([10, 127, 198, 203])}.0.{chance.randrange(3)}.{chance.randrange(1, 250)}"
    plain = chance.choice([address, "127.0.0.1", "::1", f"[{address}]", "unknown", "_x", "", '"', "\\", f"{address},",
                           f"{address}, 127.0.0.1", "127.0.0.1, " * chance.randrange(1, 80), "x" * 1000])  # fmt: skip
    pairs = chance.choice([f"for={plain}", f'for="{plain}"', f'for="{plain}', f'for={plain};by="', plain, f'{plain}"\\',
                           f"for={address};host=a, for=127.0.0.1"])  # fmt: skip
    said = {"X-Forwarded-For": plain, "Forwarded": pairs, "X-Real-IP": address, "X-Request-ID": "abc"}
    return {name: value for name, value in said.items() if chance.random() < 0.7}


@contextmanager
def running(command: list[Any], place: int | Path, folder: Path, output: Path) -> Generator[None, None, None]:
    """A server that answers at the port, or at the Unix socket; FORWARDED_ALLOW_IPS as many images have it."""
    env = {**os.environ, "FORWARDED_ALLOW_IPS": "*", "MAHAVISHNU_SPEC": str(folder / "mahavishnu.yaml")}
    with (
        output.open("wb") as file,
        subprocess.Popen(command, cwd=folder, env=env, stdout=file, stderr=file) as server,
    ):
        try:
            until = time.monotonic() + 20
            while time.monotonic() < until and server.poll() is None:
                if _answers(place):
                    break
                time.sleep(0.02)
            yield
        finally:
            server.terminate()
            server.wait(10)


def _answers(place: int | Path) -> bool:
    family, address = (AF_INET, ("127.0.0.1", place)) if isinstance(place, int) else (AF_UNIX, str(place))
    with socket.socket(family) as probe:
        return probe.connect_ex(address) == 0


def ask(port: int, peer: str, count: int, seed: str) -> list[int]:
    """One client's requests, each with other lies."""
    chance = random.Random(seed + peer)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20, source_address=(peer, 0))
    statuses: list[int] = []
    for _ in range(count):
        connection.putrequest("GET", "/")
        for name, value in hostile(chance).items():
            for line in [value] * chance.choice([1, 1, 1, 2]):
                connection.putheader(name, line)
        connection.endheaders()
        answer = connection.getresponse()
        answer.read()
        statuses.append(answer.status)
    connection.close()
    return statuses


def played(folder: Path, writes: str, requests: int, by: Path | None = None) -> Seen:
    """All requests through nginx to the service, started as the generators say, or at a Unix socket."""
    app, port = free_port(), free_port()
    spec = folder / "mahavishnu.yaml"
    forwarded = "forwarded" if writes == "forwarded" else "x-forwarded-for"
    trusted = "unix" if by else "127.0.0.1/32"
    spec.write_text(SPEC.format(port=app, forwarded=forwarded, trusted=trusted), encoding="utf-8")
    (folder / "shop.py").write_text(APP, encoding="utf-8")
    config = folder / "nginx.conf"
    upstream = f"unix:{by}" if by else f"127.0.0.1:{app}"
    config.write_text(
        NGINX.format(folder=folder, app=upstream, port=port, writes=WRITES[writes]), encoding="utf-8"
    )
    command = import_module("mahavishnu.generators._service").command(contract(load(spec).spec))
    local = [*command, "--host=127.0.0.1", *(["--uds", str(by)] if by else [])]
    with ExitStack() as servers:
        log = folder / "app.log"
        servers.enter_context(running([sys.executable, "-m", *local], by or app, folder, log))
        servers.enter_context(
            running([judge("nginx"), "-c", config, "-p", folder], port, folder, folder / "nginx.log")
        )
        with ThreadPoolExecutor(8) as pool:
            asked = {peer: pool.submit(ask, port, peer, requests // len(PEERS), writes) for peer in PEERS}
            admitted = Counter({peer: found.result().count(200) for peer, found in asked.items()})
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    clients = {one["request_id"]: one["client"] for one in lines if "client" in one}
    seen = [line.split() for line in (folder / "seen.log").read_text().splitlines()]
    return Seen({line[0]: line[1] for line in seen}, clients, admitted)


def disagreements(seen: Seen, requests: int) -> int:
    """Requests that the two sides do not count for the same client; what one of them has not seen included."""
    agreed = sum(seen.clients.get(name) == peer for name, peer in seen.peers.items())
    return requests - agreed


def judged(folder: Path, writes: str, requests: int, by: Path | None = None) -> int:
    """The disagreements; what is admitted of each client and of their network holds besides."""
    seen = played(folder, writes, requests, by)
    assert len(seen.peers) == requests
    assert max(seen.admitted.values()) <= 7
    assert sum(seen.admitted.values()) == 340
    return disagreements(seen, requests)


@pytest.mark.judge
@pytest.mark.parametrize("writes", list(WRITES))
def test_both_count_the_same_client(writes: str, tmp_path: Path) -> None:
    """50 clients, each with 8 requests full of lies: nginx's peer is the service's client; 7 each, 340 of their /24."""
    assert judged(tmp_path, writes, 400) == 0


@pytest.mark.proof
@pytest.mark.judge
@pytest.mark.parametrize("writes", ["appended", "forwarded"])
def test_both_count_the_same_client_by_a_unix_socket(writes: str, tmp_path: Path) -> None:
    """The same lies, where the proxy has no address of its own."""
    with TemporaryDirectory() as short:  # the path of a socket has at most 107 bytes
        Path(short).chmod(0o755)  # nginx's workers are another user where its master is root
        assert judged(tmp_path, writes, 400, Path(short, "app.sock")) == 0


@pytest.mark.judge
def test_the_server_must_not_walk_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the flag that the generators write uvicorn believes the leftmost address: it would be seen."""
    service: Any = import_module("mahavishnu.generators._service")
    said = service.command

    def without(one: Contract) -> list[str]:
        return [word for word in said(one) if word != "--no-proxy-headers"]

    monkeypatch.setattr(service, "command", without)
    assert disagreements(played(tmp_path, "appended", 400), 400) > 50


@pytest.mark.proof
@pytest.mark.judge
def test_ten_thousand_requests_full_of_lies(tmp_path: Path) -> None:
    """The long run, a third of it in each way in which proxies write."""
    wrong = 0
    for writes in WRITES:
        folder = tmp_path / writes
        folder.mkdir()
        wrong += judged(folder, writes, REQUESTS // 3 // len(PEERS) * len(PEERS) + len(PEERS))
    figure(f"{REQUESTS:,} requests with forged addresses through nginx: client counted against nginx's peer",
           "0 disagreements", wrong)  # fmt: skip
    assert wrong == 0
