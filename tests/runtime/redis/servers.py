"""Real redis-servers for tests: started, spoken to, and ended with the block."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from redis import Redis

from tests.judges import judge


def free_port() -> int:
    """A port nobody listens on at this moment."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Server:
    """One redis-server on a TCP port and a socket file."""

    def __init__(self, folder: Path, port: int, *options: str) -> None:
        self.folder, self.port, self.options = folder, port, options
        self.socket = folder / "redis.sock"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @property
    def unix(self) -> str:
        return f"unix://{self.socket}"

    def start(self) -> None:
        """Start it, and wait until it answers at all."""
        program = str(judge("redis-server"))
        said = (
            "--enable-debug-command",
            "local",
            "--port",
            str(self.port),
            "--unixsocket",
            str(self.socket),
            "--save",
            "",
            "--dir",
            str(self.folder),
        )
        self.process = subprocess.Popen(
            [program, *said, *self.options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(1000):
            try:
                with socket.socket(socket.AF_UNIX) as one:
                    one.connect(str(self.socket))
                    one.sendall(b"PING\r\n")
                    if one.recv(1):
                        return
            except OSError:
                if self.process.poll() is not None:
                    break
                time.sleep(0.01)
        self.kill()
        raise TimeoutError("redis-server does not start")

    def client(self, **said: Any) -> Any:
        """A client of its own, for what a test does behind the store's back; redis-py is typed by half."""
        return Redis(unix_socket_path=str(self.socket), **said)

    def kill(self) -> None:
        """As `kill -9`."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
            self.socket.unlink(missing_ok=True)

    def send(self, number: signal.Signals) -> None:
        """Stop or continue it."""
        assert self.process is not None
        self.process.send_signal(number)


@contextmanager
def server(*options: str) -> Generator[Server, None, None]:
    """A running server; it ends with the block, whatever state it is in."""
    with TemporaryDirectory(prefix="mahavishnu-redis-") as folder:
        one = _started(Path(folder), options)
        try:
            yield one
        finally:
            one.kill()


def _started(folder: Path, options: tuple[str, ...]) -> Server:
    """A port that was free a moment ago may be somebody's now: then another one is tried."""
    for _ in range(3):
        one = Server(folder, free_port(), *options)
        with suppress(TimeoutError):
            one.start()
            return one
    raise TimeoutError("redis-server starts on no port")


class Charged(NamedTuple):
    """A rate as the engine hands it to a store."""

    name: str
    algorithm: Any
    cost: int = 1
    enforced: bool = True
    on_store_failure: str = "local"
    shared: bool = True
    per: tuple[str, ...] = ("client",)
