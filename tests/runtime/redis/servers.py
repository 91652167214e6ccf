"""Real redis-servers for tests: started, spoken to, and ended with the block."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from redis import Redis

from tests.judges import judge
from tests.ports import free_port


class Server:
    """One redis-server on a TCP port and a socket file."""

    def __init__(self, folder: Path, port: int, *options: str) -> None:
        self.folder, self.port, self.options = folder, port, options
        self.socket = folder / "redis.sock"
        self.bus = 0
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


class Cluster:
    """Three primaries, of which each has a third of the slots, and a replica for each."""

    def __init__(self, nodes: Sequence[Server]) -> None:
        self.primaries, self.replicas = [*nodes[:3]], [*nodes[3:]]
        self.nodes = [*nodes]
        """Those that are there."""

    def join(self) -> None:
        """Make one of them, and wait until all agree."""
        for epoch, one in enumerate(self.nodes, 1):
            # Else all begin with the same one, and one that is raised just before its node dies outlives it: the
            # replica that takes its place never has a higher one.
            _ask(one, "CLUSTER", "SET-CONFIG-EPOCH", epoch)
        for place, one in enumerate(self.primaries):
            _ask(one, "CLUSTER", "ADDSLOTSRANGE", 5461 * place, 16383 if place == 2 else 5461 * place + 5460)
        for one in self.nodes[1:]:
            to = self.nodes[0]
            _ask(one, "CLUSTER", "MEET", "127.0.0.1", to.port, to.bus)
        _until(lambda: all(len(_slots(one)) == 3 for one in self.nodes))
        for primary, replica in zip(self.primaries, self.replicas, strict=True):
            _ask(replica, "CLUSTER", "REPLICATE", _ask(primary, "CLUSTER", "MYID"))
        _until(lambda: all(len(each) == 4 for one in self.nodes for each in _slots(one)))
        _until(lambda: all(b"cluster_state:ok" in _ask(one, "CLUSTER", "INFO") for one in self.nodes))

    def of(self, key: str) -> int:
        """The place of the primary that has this key."""
        return min(2, int(_ask(self.nodes[0], "CLUSTER", "KEYSLOT", key)) // 5461)

    def kill(self, place: int) -> None:
        """A primary is killed, and its replica, which has all that it had, takes its place."""
        self._copied(place)
        self.primaries[place].kill()
        self.nodes.remove(self.primaries[place])
        self.fail_over(place, copied=False)

    def fail_over(self, place: int, *, copied: bool = True) -> None:
        """A replica takes the place of its primary, which becomes one where it is there."""
        if copied:
            self._copied(place)
        primary, replica = self.primaries[place], self.replicas[place]
        self.primaries[place], self.replicas[place] = replica, primary
        _ask(replica, "CLUSTER", "FAILOVER", "TAKEOVER")
        ports = {one.port for one in self.primaries}
        _until(lambda: all({each[2][1] for each in _slots(one)} == ports for one in self.nodes))
        _until(lambda: all(b"cluster_state:ok" in _ask(one, "CLUSTER", "INFO") for one in self.nodes))

    def _copied(self, place: int) -> None:
        _until(lambda: b"master_link_status:up" in _ask(self.replicas[place], "INFO", "replication"))
        assert _ask(self.primaries[place], "WAIT", 1, 5000) == 1


def _ask(one: Server, *words: str | int) -> Any:
    with one.client() as client:
        client.response_callbacks.clear()
        return client.execute_command(words[0], *words[1:])


def _slots(one: Server) -> list[Any]:
    return list(_ask(one, "CLUSTER", "SLOTS"))


def _until(holds: Callable[[], bool], within: float = 60.0) -> None:
    end = time.monotonic() + within
    while not holds():
        assert time.monotonic() < end, "the cluster does not agree"
        time.sleep(0.02)


@contextmanager
def cluster() -> Generator[Cluster, None, None]:
    """A running cluster; it ends with the block."""
    # On a busy machine a node may look dead: only the tests say which replica takes whose place.
    settings = {"enabled": "yes", "node-timeout": "5000", "replica-no-failover": "yes"}
    options = [word for name, value in settings.items() for word in (f"--cluster-{name}", value)]
    options += ["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"]
    with ExitStack() as stack:
        nodes: list[Server] = []
        for _ in range(6):
            bus = free_port()
            nodes.append(stack.enter_context(server(*options, "--cluster-port", str(bus))))
            nodes[-1].bus = bus
        made = Cluster(nodes)
        made.join()
        yield made


class Charged(NamedTuple):
    """A rate as the engine hands it to a store."""

    name: str
    algorithm: Any
    cost: int = 1
    enforced: bool = True
    on_store_failure: str = "local"
    shared: bool = True
    per: tuple[str, ...] = ("client",)
