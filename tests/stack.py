"""Real servers around a service for as long as a test runs: Prometheus, Alertmanager, and who hears of an alert."""

from __future__ import annotations

import json
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, Queue
from typing import Any

from tests.judges import judge
from tests.ports import free_port

LONGEST = 60


class Heard:
    """A web server that keeps what it is told, with the path it was told at."""

    def __init__(self) -> None:
        messages: Queue[tuple[str, dict[str, Any]]] = Queue()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                messages.put((self.path.lstrip("/"), json.loads(body)))
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name in the base)
                """Quietly."""

        self.messages = messages
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def until(self, enough: Callable[[str, dict[str, Any]], bool], seconds: float = LONGEST) -> None:
        """Hand every message on, with its path, until one is enough; fails when none is for so long."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                if enough(*self.messages.get(timeout=left)):
                    return
            except Empty:
                break
        raise AssertionError(f"not heard within {seconds} s")

    def close(self) -> None:
        """Hear nothing any more."""
        self.server.shutdown()
        self.server.server_close()


@contextmanager
def heard() -> Generator[Heard]:
    """Somebody who hears."""
    here = Heard()
    try:
        yield here
    finally:
        here.close()


@contextmanager
def serving(text: str, login: str = "") -> Generator[str]:
    """A server that answers every question, if it comes with the login, with the same text; its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.headers.get("Authorization", "") == login or not login else 401)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name in the base)
            """Quietly."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def alertmanager(config: Path, folder: Path) -> Generator[str]:
    """Alertmanager with this configuration, ready; its URL."""
    words = [f"--config.file={config}", f"--storage.path={folder / 'am'}", "--cluster.listen-address="]
    with server("prometheus-alertmanager", words, folder) as url:
        yield url


@contextmanager
def prometheus(config: Path, folder: Path, *words: str) -> Generator[str]:
    """Prometheus with this configuration, ready; its URL."""
    said = [f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}", *words]
    with server("prometheus", said, folder) as url:
        yield url


@contextmanager
def server(tool: str, words: list[str], folder: Path) -> Generator[str]:
    """A server of the Prometheus family on a free port, ready; ended with the block."""
    address = f"127.0.0.1:{free_port()}"
    with (folder / f"{tool}.log").open("w") as log:
        command = [str(judge(tool)), *words, f"--web.listen-address={address}"]
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            _ready(f"http://{address}", process, Path(log.name))
            yield f"http://{address}"
        finally:
            process.terminate()
            process.wait(20)


def _ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + LONGEST
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()[-2000:]
        try:
            with urllib.request.urlopen(f"{url}/-/ready", timeout=1):
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"{url} is not ready")
