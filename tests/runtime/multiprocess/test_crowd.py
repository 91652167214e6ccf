"""More processes at one socket than the spec says are found out, and nobody else is suspected."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from mahavishnu.runtime.multiprocess import crowd
from mahavishnu.runtime.multiprocess.crowd import Crowd
from mahavishnu.testing import VirtualClock
from tests.runtime.asgi_client import harden, limits, run, site
from tests.runtime.requests.test_drain import lifespan

# Looks as often as a minute allows, and tells how often it has warned; `leave` is what a drain does.
_PROCESS = """
import sys
from unittest.mock import Mock
from mahavishnu.runtime.multiprocess.crowd import Crowd
service = Mock()
service.spec.service.name, service.spec.service.workers = "shop", int(sys.argv[1])
crowd = Crowd(lambda: service, Mock(runs=True))
for line in sys.stdin:
    crowd.start()
    for _ in range(7 if line == "look\\n" else 0):
        crowd.look()
    print(service.log.warning.call_count, flush=True)
"""


class Process:
    """One that may serve these sockets, in a temporary folder that all of them have."""

    def __init__(self, folder: Path, workers: int, *sockets: socket.socket) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-c", _PROCESS, str(workers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[one.fileno() for one in sockets],
            env={"TMPDIR": str(folder), "PATH": ""},
        )

    def told(self, what: str = "look") -> int:
        """How often it has warned, after this."""
        stdin: Any = self.popen.stdin
        stdout: Any = self.popen.stdout
        stdin.write(f"{what}\n".encode())
        stdin.flush()
        return int(stdout.readline())


class Machine:
    """Its sockets and processes."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self.stack = folder, stack

    def listening(self) -> socket.socket:
        """A socket that accepts connections."""
        return self.stack.enter_context(closing(socket.create_server(("127.0.0.1", 0))))

    def process(self, workers: int, *sockets: socket.socket) -> Process:
        """A process that has them."""
        made = Process(self.folder, workers, *sockets)
        self.stack.callback(made.popen.communicate)
        self.stack.callback(made.popen.kill)
        return made


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with ExitStack() as stack:
        yield Machine(tmp_path, stack)


def test_who_is_one_too_many_says_so(machine: Machine) -> None:
    """Of three where two are said it is the last; once one has ended, however, or drains, there is a seat again."""
    shared = machine.listening()
    crew = [machine.process(2, shared) for _ in range(3)]
    assert [one.told() for one in crew] == [0, 0, 1]
    crew[0].popen.kill()
    crew[0].popen.wait()
    assert machine.process(2, shared).told() == 0
    assert machine.process(2, shared).told() == 1
    crew[1].told("leave")
    assert machine.process(2, shared).told() == 0


def test_nobody_else_is_suspected(machine: Machine) -> None:
    """Replicas have their own sockets; of several sockets one seat is enough; who does not listen serves nobody."""
    idle = machine.stack.enter_context(closing(socket.socket()))
    inherited = machine.listening()
    for _ in range(2):
        assert machine.process(1, machine.listening()).told() == 0
        assert machine.process(1, machine.listening(), inherited).told() == 0
        assert machine.process(1, idle).told() == 0
    assert machine.process(1, inherited).told() == 1


def test_what_is_left_of_others_is_removed(machine: Machine) -> None:
    """The folder holds no more than the seats that are taken."""
    for _ in range(3):
        one = machine.process(1, machine.listening())
        one.told()
        one.popen.kill()
        one.popen.wait()
    (seats,) = machine.folder.glob("mahavishnu-*-shop-seats")
    assert len(list(seats.iterdir())) == 1


def _served(clock: Any) -> tuple[Crowd, Mock]:
    service = Mock()
    service.spec.service.name, service.spec.service.workers = "shop", 1
    return Crowd(lambda: service, clock), service.log.warning


def test_several_middlewares_of_one_process_are_one(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They share its seat; where time stands still nobody looks, and where nothing can be written nothing is said."""
    monkeypatch.setattr("tempfile.tempdir", str(machine.folder))
    machine.listening()
    some = [_served(Mock(runs=True)) for _ in range(3)]
    for one, _ in some:
        for _ in range(7):
            one.look()
    still, _ = _served(clock := VirtualClock())
    still.start()
    assert clock.timers == 0
    monkeypatch.setattr(crowd, "seats", Mock(side_effect=PermissionError))
    unable, warned = _served(Mock(runs=True))
    unable.look()
    assert not any(said.called for _, said in (*some, (unable, warned)))
    for one, _ in some:
        one.leave()


def test_looking_begins_when_the_server_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which it does once the app has started, however long that takes; who drains has left."""
    made = Mock()
    monkeypatch.setattr("mahavishnu.runtime.life.Crowd", Mock(return_value=made))

    async def look() -> None:
        assert (made.start.call_count, made.leave.call_count) == (2, 0)

    run(lifespan(harden(site(), limits()).app, look()))
    assert made.leave.call_count == 1
