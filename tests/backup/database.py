"""A real PostgreSQL, as another user where the tests run as root: it refuses to run as root."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.judges import ROOT, judge

PASSWORD = "another-horse's %battery"
_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


def programs() -> Path:
    """The folder of its programs: Debian keeps them apart, by version."""
    for top in (ROOT / ".tools", Path("/")):
        found = sorted(top.glob("usr/lib/postgresql/*/bin/postgres"))
        if found:
            return found[-1].parent if top == Path("/") else ROOT / ".tools/bin"
    return judge("postgres").resolve().parent


@contextmanager
def server(monkeypatch: pytest.MonkeyPatch) -> Generator[int]:
    """Its port; asked for a password by everybody.

    In a folder of its own: every session of pytest closes the folder above its `tmp_path` to other users.
    """
    with TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as folder:
        yield from _served(Path(folder), monkeypatch)


def _served(home: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[int]:
    there = programs()
    monkeypatch.setenv("PATH", f"{there}{os.pathsep}{os.environ['PATH']}")
    root = os.getuid() == 0
    (home / "password").write_text(PASSWORD)
    if root:
        for one in (home, home / "password"):
            os.chown(one, 65534, 65534)
    as_nobody: list[str | Path] = [*_NOBODY] if root else []
    made: list[str | Path] = [*as_nobody, there / "initdb", "-D", home / "data", "-U", "shop"]
    made += ["--pwfile", home / "password", "-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "--no-sync"]
    subprocess.run(made, check=True, capture_output=True, cwd=home)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options: list[str | Path] = [
        "-p",
        str(port),
        "-k",
        home,
        "-c",
        "listen_addresses=127.0.0.1",
        "-c",
        "fsync=off",
    ]
    with (home / "log").open("wb") as log:
        command: list[str | Path] = [*as_nobody, there / "postgres", "-D", home / "data", *options]
        running = subprocess.Popen(command, cwd=home, stderr=log)
    try:
        _wait(running, home / "log")
        yield port
    except BaseException as error:
        error.add_note((home / "log").read_text()[-4000:])
        raise
    finally:
        running.terminate()
        running.wait(20)


def _wait(running: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(400):
        said = log.read_text()
        assert running.poll() is None, said
        if "database system is ready to accept connections" in said:
            return
        time.sleep(0.05)
    raise AssertionError("the server never was ready")
