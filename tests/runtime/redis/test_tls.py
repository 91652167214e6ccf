"""A server that speaks TLS alone, and wants to know who asks: what the URL says holds, and why it fails is told."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest

from mahavishnu.errors import MahavishnuError
from mahavishnu.runtime.dead_letters.letters import LettersUnreachable
from mahavishnu.runtime.dead_letters.redis import RedisLetters
from mahavishnu.runtime.redis.address import address
from tests.judges import judge
from tests.ports import free_port
from tests.runtime.dead_letters.letterboxes import keep, letter
from tests.runtime.redis.servers import server
from tests.runtime.redis.test_store import Fleet

LOCAL = "subjectAltName=IP:127.0.0.1"


class Secure(NamedTuple):
    """A server, and the folder of the files that its clients need."""

    port: int
    folder: Path

    def url(self, scheme: str = "rediss", **said: str) -> str:
        """With these options, where `ssl_…` are names of files in the folder."""
        told = [f"{name}={self.folder / value if '.' in value else value}" for name, value in said.items()]
        return f"{scheme}://127.0.0.1:{self.port}?{'&'.join(told)}"


def openssl(folder: Path, *words: str) -> None:
    """Run it there."""
    subprocess.run([judge("openssl"), *words], cwd=folder, capture_output=True, check=True)


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    folder = tmp_path_factory.mktemp("tls")
    kind = ("req", "-x509", "-newkey", "rsa:2048", "-subj", "/CN=shop", "-addext", LOCAL)
    openssl(folder, *kind, "-nodes", "-keyout", "server.key", "-out", "server.pem")
    openssl(folder, *kind, "-passout", "pass:s3cret", "-keyout", "client.key", "-out", "client.pem")
    port = free_port()
    said = {
        "port": str(port),
        "cert-file": "server.pem",
        "key-file": "server.key",
        "ca-cert-file": "client.pem",
    }
    words = [word for name, value in said.items() for word in (f"--tls-{name}", value)]
    with server("--dir", str(folder), *words):
        yield Secure(port, folder)


KNOWN = {"ssl_ca_certs": "server.pem", "ssl_certfile": "client.pem", "ssl_keyfile": "client.key"}
WELL = {**KNOWN, "ssl_password": "s3cret"}


def reason_of(url: str) -> str:
    """Why the store does not answer there."""

    async def story() -> str:
        one = Fleet(url, None)
        await one.take()  # which waits for the first connection
        reason = one.store.reason()
        one.store.close()
        return reason

    return asyncio.run(story())


def kept(url: str) -> str:
    """What becomes of a letter there."""
    letters = RedisLetters(url, "shop")
    try:
        return keep(letters, letter())[0]
    except LettersUnreachable as fault:
        return str(fault)
    finally:
        letters.close()


def test_who_shows_a_certificate_is_served(secure: Secure) -> None:
    """Its key may be locked; the password stands in the URL, which is a secret as a whole."""
    assert (reason_of(secure.url(**WELL)), kept(secure.url(**WELL))) == ("", "stored")


def test_a_certificate_that_is_missing_is_told(secure: Secure) -> None:
    """The server says so after the handshake, and hangs up; redis-py may find that before it reads why."""
    url = secure.url(ssl_ca_certs="server.pem")
    assert "CERTIFICATE_REQUIRED" in reason_of(url)
    assert re.search("CERTIFICATE_REQUIRED|or a certificate", kept(url))


def test_a_connection_that_is_reset_before_any_answer_is_told() -> None:
    """As one that is closed."""
    with socket.create_server(("127.0.0.1", 0)) as asked, ThreadPoolExecutor(1) as pool:
        pool.submit(resets, asked)
        url = f"redis://127.0.0.1:{asked.getsockname()[1]}"
        assert "or a certificate" in kept(url)


def resets(asked: socket.socket) -> None:
    """Take two connections, and reset each."""
    for _ in range(2):
        taken, _ = asked.accept()
        taken.recv(1)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        taken.close()


def test_a_server_nobody_vouches_for_is_told(secure: Secure) -> None:
    """So that one looks for the authority, and not for the server."""
    url = secure.url(**{**WELL, "ssl_ca_certs": "client.pem"})
    assert "CERTIFICATE_VERIFY_FAILED" in reason_of(url)
    assert "CERTIFICATE_VERIFY_FAILED" in kept(url)


def test_a_server_that_speaks_something_else_is_told(secure: Secure) -> None:
    """Who forgets the second `s` of `rediss`, or takes the port of another service."""
    assert "perhaps it wants TLS" in reason_of(secure.url("redis"))
    web = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    with web, ThreadPoolExecutor(1) as pool:
        pool.submit(web.handle_request)
        assert reason_of(f"redis://127.0.0.1:{web.server_port}") == "it does not speak the protocol of Redis"


@pytest.mark.parametrize("password", [None, "wr0ng"])
def test_a_key_that_stays_locked_is_told(secure: Secure, password: str | None) -> None:
    """Nobody is asked for the password at a terminal that a service does not have."""
    said = KNOWN if password is None else {**KNOWN, "ssl_password": password}
    with pytest.raises(MahavishnuError, match="the URL of the store cannot be used") as fault:
        address(secure.url(**said))
    assert "wr0ng" not in str(fault.value)


def test_what_is_not_carried_out_is_refused() -> None:
    """An option that nobody keeps to would be a promise; of another client's, nothing depends."""
    with pytest.raises(MahavishnuError, match="`ssl_ciphers` is not supported"):
        address("rediss://cache?ssl_ciphers=HIGH")
    assert address("redis://cache?decode_responses=true&max_connections=5").host == "cache"


def test_options_of_another_client_change_nothing() -> None:
    """One URL may be that of several; letters are bytes here all the same."""
    with server() as one:
        assert kept(f"{one.url}?decode_responses=true&max_connections=5&wrong=1") == "stored"
