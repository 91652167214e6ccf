"""Backups sent to real servers, by SFTP and to S3: there and back, refused, and gone."""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
from collections.abc import Generator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest
from starlette.applications import Starlette

from examples.shop.firing import samples
from mahavishnu.asgi import Hardening
from mahavishnu.backup import child
from mahavishnu.backup.evidence import Copy, Evidence, write
from mahavishnu.cli import run
from tests.backup.test_removal import OURS, ages, made
from tests.backup.vaults import S3, Sftp, answering, s3, sftp
from tests.backup.world import NEW, OF_BOTH, PASSWORD, RESTICS, World, spec
from tests.figures import FULL
from tests.judges import judge, newer

pytestmark = pytest.mark.judge
SPY = """#!/bin/sh
{ tr '\\0' '\\n' < /proc/$$/cmdline; %(more)s; } >> %(seen)s
exec %(real)s "$@"
"""


@pytest.fixture
def stack() -> Generator[ExitStack]:
    """Servers, each until it is closed."""
    with ExitStack() as opened:
        yield opened


def watched(world: World, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the arguments of restic and ssh are written down, and ssh's environment."""
    folder, seen = world.home / "bin", world.home / "seen"
    folder.mkdir()
    for name, real, more in (("restic", world.restic, "true"), ("ssh", judge("ssh"), "env")):
        (folder / name).write_text(SPY % {"seen": seen, "real": real, "more": more})
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return seen


def there_and_back(world: World, made_old: dict[str, str]) -> None:
    """Every verb, one after the other; two old snapshots go."""
    assert world.do("run") == 0
    made(world, (1, 2), *OURS, **made_old)
    for words in (["list"], ["verify", "--all"], ["drill"], ["prune"]):
        assert world.do(*words) == 0, words
    assert ages(world, *OURS, **made_old) == [0]
    assert world.do("restore", "orders", "--to", "back") == 0
    assert world.rows(world.home / "back/orders.sqlite") == world.rows()


def seen_by(seen: Path, world: World, capsys: pytest.CaptureFixture[str], *hidden: str) -> None:
    """Nothing of what is hidden: not in arguments, reports, generated files, or what people are told."""
    assert run(["generate", "--out", "deploy"]) == 0
    files = [
        seen,
        *world.state.glob("*.json"),
        *(one for one in (world.home / "deploy").rglob("*") if one.is_file()),
    ]
    told = capsys.readouterr()
    shown = told.out + told.err + "".join(one.read_text("utf-8", "replace") for one in files)
    assert [one for one in hidden if one in shown] == []


def service(world: World) -> Hardening:
    """What shows the series of the backups of this spec."""
    return Hardening(Starlette(), spec=str(world.home / "mahavishnu.yaml"))


def series(app: Hardening) -> dict[str, float]:
    """What it shows."""

    async def exposition() -> str:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            return (await client.get("/metrics")).text

    return samples(asyncio.run(exposition()), "shop")


def fails(world: World, app: Hardening, capsys: pytest.CaptureFixture[str], *why: str) -> None:
    """A run does, says so in words, and in the series; the last success stays what it was."""
    before = world.known().copies["1"].success
    capsys.readouterr()
    assert world.do("run") == 1
    said = capsys.readouterr().err
    assert said.startswith("mahavishnu: backup `orders`: copy 1: restic ")
    for one in why:
        assert one in said
    shown = {name: value for name, value in series(app).items() if 'step="run"' in name}
    assert [*shown.values()] == [0]
    assert world.known().copies["1"].success == before


def by_ssh(server: Sftp, place: Path, **patch: object) -> dict[str, object]:
    """A spec that says how the server is entered."""
    ssh = {"key": "${BACKUP_SSH_KEY}", "known_hosts": [server.known_host], **patch}
    return {**spec(to=server.place(place), ssh=ssh, retention={"last": 1, "within": "1h"}), **SECRETS}


SECRETS = {"secrets": ["RESTIC_PASSWORD", "BACKUP_SSH_KEY"]}


def by_s3(place: str) -> dict[str, object]:
    """A spec that says who it is."""
    names = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]
    credentials = [f"${{{name}}}" for name in names]
    said = spec(to=place, credentials=credentials, retention={"last": 1, "within": "1h"})
    return {**said, "secrets": ["RESTIC_PASSWORD", *names]}


@pytest.mark.parametrize(("status", "began"), [(503, False), (403, False), (404, True)])
def test_a_store_that_does_not_answer_is_not_taken_for_an_empty_one(
    status: int,
    began: bool,
    world: World,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Only where it says that nothing is there a repository is begun, or has gone; a newer restic tells by itself."""
    with answering(status) as port:
        world.write(spec(to=f"rest:http://127.0.0.1:{port}/x"))
        assert world.do("run") == 1
        first = capsys.readouterr().err
        write(world.state, "shop.orders", Evidence({"1": Copy(success=1)}))
        assert world.do("run") == 1
    assert ("restic init failed" in first) is began
    assert ("is not there any more" in capsys.readouterr().err) is began


class Refuses(BaseHTTPRequestHandler):
    """An S3 that lets nobody in."""

    def do_GET(self) -> None:
        body = b"<Error><Code>InvalidAccessKeyId</Code><Message>no such key as AKIDREFUSED</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name in the base)
        """Quietly."""


def test_a_login_that_restic_tries_again_and_again_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A current one goes on for minutes, and says why where nobody looks; the secret is not in it."""
    world = World(tmp_path, monkeypatch, restic=newer("restic"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refuses)
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    world.write(by_s3(f"s3:http://127.0.0.1:{server.server_address[1]}/shop/orders"))
    world.fill(1)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDREFUSED")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with world.start("run") as process:
        try:
            assert process.stdout is not None
            told: dict[str, str] = next(map(json.loads, process.stdout))
            while told["event"] != "retrying":
                told = next(map(json.loads, process.stdout))
        finally:
            process.terminate()
            server.shutdown()
            server.server_close()
    assert told["copy"] == "1"
    assert re.fullmatch(
        r"Stat\(<config/>\) returned error, retrying after [0-9.]+m?s: .*no such key as \*\*\*", told["why"]
    )


@pytest.fixture
def server(world: World, stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> Sftp:
    """One by SFTP, whose key is told as a secret; nothing else lets anybody in."""
    made = stack.enter_context(sftp(world.home / "sshd"))
    monkeypatch.setenv("BACKUP_SSH_KEY", made.key.strip())
    monkeypatch.setenv("HOME", "/nonexistent")
    monkeypatch.setenv("SSH_AUTH_SOCK", "/nonexistent")
    return made


@pytest.mark.parametrize("world", RESTICS if FULL else ["restic"], indirect=True)
@pytest.mark.proof
def test_by_sftp(
    world: World, server: Sftp, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a key that is on no disk here, in no argument, and not in ssh's environment."""
    seen = watched(world, monkeypatch)
    world.write(by_ssh(server, world.home / "made"))
    assert world.do("run") == 0
    assert '"initialised"' in capsys.readouterr().out
    (world.state / "shop.orders.json").unlink()
    world.begin()
    world.write(by_ssh(server, world.home / "repository"))
    there_and_back(world, {})
    lines = [line for line in server.key.splitlines() if len(line) > 40]
    seen_by(seen, world, capsys, PASSWORD, *lines)
    assert "UserKnownHostsFile=/proc/" in seen.read_text()


@OF_BOTH
def test_what_is_wrong_with_sftp_is_said(
    world: World,
    server: Sftp,
    stack: ExitStack,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Another key, none, a server that is another one, and none."""
    watched(world, monkeypatch)
    world.begin()
    place = world.home / "repository"
    world.write(by_ssh(server, place))
    assert world.do("run") == 0
    app = service(world)
    monkeypatch.setenv("BACKUP_SSH_KEY", (server.folder / "another").read_text())
    fails(world, app, capsys, "Permission denied (publickey)", "authorized_keys")
    monkeypatch.setenv("BACKUP_SSH_KEY", "not a key")
    fails(world, app, capsys, "private key without a passphrase")
    monkeypatch.setenv("BACKUP_SSH_KEY", server.key)
    impostor = (server.folder / "another.pub").read_text().split()[1]
    world.write(by_ssh(server, place, known_hosts=[f"[127.0.0.1]:{server.port} ssh-ed25519 {impostor}"]))
    fails(world, app, capsys, "find out why before you trust it")
    world.write(by_ssh(server, place))
    stack.close()
    fails(world, app, capsys, "Connection refused", "is the server up")


@pytest.mark.proof
def test_to_s3(
    world: World, stack: ExitStack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another key and no server at all fail, and no secret is an argument."""
    secret = secrets.token_hex(20)
    server: S3 = stack.enter_context(s3(world.home / "s3", secret))
    seen = watched(world, monkeypatch)
    entry = {"AWS_ACCESS_KEY_ID": server.user, "AWS_SECRET_ACCESS_KEY": secret}
    for name, value in entry.items():
        monkeypatch.setenv(name, value)
    world.write(by_s3(server.place("made/orders")))
    assert world.do("run") == 0
    assert '"initialised"' in capsys.readouterr().out
    (world.state / "shop.orders.json").unlink()
    server.put("backups/orders", NEW)
    world.write(by_s3(server.place("backups/orders")))
    there_and_back(world, {**entry, "RESTIC_REPOSITORY": server.place("backups/orders")})

    app = service(world)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    fails(world, app, capsys, "see the secrets of `credentials`")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    stack.close()
    fails(world, app, capsys, "connection refused", "is the server up")
    seen_by(seen, world, capsys, PASSWORD, secret)
    assert "restic" in seen.read_text()


def test_a_key_is_lent_where_there_is_no_proc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As a file of one's own, which is gone afterwards."""
    monkeypatch.setattr(child, "_FILES_OF_PROCESSES", tmp_path / "none")
    with child.lent("key") as path:
        assert Path(path).read_text() == "key"
        assert Path(path).stat().st_mode & 0o777 == 0o600
    assert not Path(path).exists()
