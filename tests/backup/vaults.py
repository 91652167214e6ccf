"""Servers that backups are sent to, really started: OpenSSH's for SFTP, SeaweedFS for S3."""

from __future__ import annotations

import getpass
import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from tests.judges import judge
from tests.ports import free_port

_NOBODY = 65534
_SSHD = """
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host
PidFile none
AuthorizedKeysFile {folder}/admitted
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
ForceCommand internal-sftp
Subsystem sftp internal-sftp
"""


@dataclass(frozen=True)
class Sftp:
    """One that lets in a user with one key, to all that the tests may reach."""

    folder: Path
    port: int
    user: str

    def place(self, path: Path) -> str:
        """A repository there."""
        return f"sftp://{self.user}@127.0.0.1:{self.port}/{path}"

    @property
    def key(self) -> str:
        """The private key that is let in."""
        return (self.folder / "key").read_text()

    @property
    def known_host(self) -> str:
        """The line by which it is known."""
        return f"[127.0.0.1]:{self.port} {_public(self.folder / 'host')}"


@contextmanager
def sftp(folder: Path) -> Generator[Sftp]:
    """As the user who asks; root is another one there, since the server would ask for users and folders as root."""
    folder.mkdir()
    for name in ("host", "key", "another"):
        made = ["-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run([judge("ssh-keygen"), *made], check=True, stdin=subprocess.DEVNULL)
    (folder / "admitted").write_text(_public(folder / "key"))
    port, root = free_port(), os.getuid() == 0
    (folder / "sshd_config").write_text(_SSHD.format(port=port, folder=folder))
    other = ["unshare", "--user", f"--map-user={_NOBODY}", f"--map-group={_NOBODY}"] if root else []
    with _running([*other, str(judge("sshd")), "-D", "-e", "-f", str(folder / "sshd_config")], folder):
        _until(lambda: b"listening" in (folder / "log").read_bytes(), folder)
        yield Sftp(folder, port, "nobody" if root else getpass.getuser())


def _public(key: Path) -> str:
    return " ".join(key.with_suffix(".pub").read_text().split()[:2])


@dataclass(frozen=True)
class S3:
    """One with one user, who may do everything."""

    port: int
    filer: int
    user: str
    password: str

    def put(self, path: str, folder: Path) -> None:
        """Files, in a bucket, by another door than S3."""
        for file in (one for one in folder.rglob("*") if one.is_file()):
            url = f"http://127.0.0.1:{self.filer}/buckets/{path}/{file.relative_to(folder)}"
            with urllib.request.urlopen(
                urllib.request.Request(url, file.read_bytes(), method="PUT"), timeout=10
            ):
                pass

    def place(self, path: str) -> str:
        """A repository there: a bucket, and a path in it."""
        return f"s3:http://127.0.0.1:{self.port}/{path}"


@contextmanager
def s3(folder: Path, password: str) -> Generator[S3]:
    """A store of its own, in one process."""
    folder.mkdir()
    one = S3(free_port(), free_port(), "shop", password)
    may = ["Admin", "Read", "Write", "List", "Tagging"]
    users = [
        {"name": "shop", "credentials": [{"accessKey": one.user, "secretKey": password}], "actions": may}
    ]
    (folder / "users.json").write_text(json.dumps({"identities": users}))
    ports = {"s3.port": one.port, "filer.port": one.filer, "filer.port.grpc": free_port()}
    for name in ("master.port", "volume.port"):
        ports |= {name: free_port(), f"{name}.grpc": free_port()}
    ports |= {"s3.port.grpc": free_port(), "s3.port.iceberg": 0, "s3.port.lance": 0}
    words = ["server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", "-s3.iam=false"]
    words += [f"-s3.config={folder / 'users.json'}", *(f"-{name}={port}" for name, port in ports.items())]
    with _running([str(judge("weed")), *words], folder):
        _until(lambda: _answers(f"http://127.0.0.1:{one.port}/status"), folder)
        yield one


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


@contextmanager
def _running(command: Sequence[str], folder: Path) -> Generator[None]:
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            yield
        finally:
            process.kill()
            process.wait()


def _until(true: Callable[[], bool], folder: Path) -> None:
    until = time.monotonic() + 60
    while not true():
        assert time.monotonic() < until, (folder / "log").read_text("utf-8", "replace")[-2000:]
        time.sleep(0.02)


class _Answers(BaseHTTPRequestHandler):
    """To whatever it is asked the same."""

    status: int

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_POST = do_GET  # noqa: N815 (as the base calls them)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name in the base)
        """Quietly."""


@contextmanager
def answering(status: int) -> Generator[int]:
    """The port of a store that has only one answer."""
    kind = type("Answers", (_Answers,), {"status": status})
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
