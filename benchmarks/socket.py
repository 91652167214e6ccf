"""Over a real socket: uvicorn with one worker, wrk on 32 connections, the applications switched inside one process."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from benchmarks import assembled, ours, stacks
from benchmarks.app import CLIENTS
from benchmarks.goals import Report, at_most
from benchmarks.harness import CONTROL, table, times, whole
from benchmarks.served import FULL
from benchmarks.stacks import EVERYTHING, Build, Setup

_SWITCH = 500
_SETTLED = 64  # requests of the application before may still be running
_CONNECTIONS = 32
_BUILDS: tuple[Build, ...] = (
    partial(ours.hardened, on=EVERYTHING, name=FULL),
    partial(ours.bound, on=EVERYTHING),
    assembled.best,
    assembled.usual,
)
_NAMES = (FULL, ours.BOUND, assembled.BEST, assembled.USUAL, CONTROL)
_TITLE = f"""\
uvicorn as it is installed by default (h11, asyncio), one worker, wrk on {_CONNECTIONS} connections, the application
switched inside the process every {_SWITCH} requests, each turn after one of the bare application's:"""
_TOOLS = Path(__file__).resolve().parent.parent / ".tools/bin"


def report(rounds: int) -> Report:
    """The table; raises AssertionError when not every answer is a 200."""
    program = shutil.which("wrk", path=f"{_TOOLS}:/usr/bin:/usr/local/bin")
    if program is None:
        raise SystemExit("no wrk here: make tools")
    turns = _measured(program, rounds // 2 + 1)
    pairs: dict[str, list[tuple[float, float]]] = {}
    for (_, base), (name, took) in zip(turns[::2], turns[1::2], strict=True):
        pairs.setdefault(name, []).append((base, took))
    bare = median(base for one in pairs.values() for base, _ in one)
    ratios = {name: median(took / base for base, took in one) for name, one in pairs.items()}
    added = {name: median(took - base for base, took in one) for name, one in pairs.items()}
    rows = [(name, whole(added[name]), times(ratios[name])) for name in _NAMES]
    text = f"### Over a socket\n\n{_TITLE} {whole(bare)} ns of CPU.\n\n"
    text += table(("stack", "added ns", "whole, x bare"), rows)
    return Report(text, (at_most("over a real socket, everything on", ratios[FULL], 1.3, "bare"),))


class Switch:
    """The applications in turn, and the CPU time of the process for one request of each turn."""

    def __init__(self, turns: Sequence[tuple[str, ASGIApp]], done: Callable[[], None]) -> None:
        self.turns: list[tuple[str, float]] = []
        self._left = iter(turns)
        self._name, self._app = next(self._left)
        self._done = done
        self._served = 0
        self._began = 0
        self._clients = cycle(
            [f"10.{one >> 16 & 255}.{one >> 8 & 255}.{one & 255}" for one in range(CLIENTS)]
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        self._served += 1
        if self._served == _SETTLED:
            self._began = time.process_time_ns()
        elif self._served > _SWITCH:
            self._next()
        scope["client"] = (next(self._clients), 40_000)
        await self._app(scope, receive, send)

    def _next(self) -> None:
        took = time.process_time_ns() - self._began
        self.turns.append((self._name, took / (_SWITCH + 1 - _SETTLED)))
        following = next(self._left, None)
        if following is None:
            self._done()
        else:
            self._name, self._app = following
        self._served = 1


def _measured(wrk: str, rounds: int) -> list[tuple[str, float]]:
    """A process that serves all turns to wrk, and what it says of them."""
    command = [sys.executable, "-m", "benchmarks.socket", wrk, str(rounds)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    told = json.loads(done.stdout.splitlines()[-1])
    if told["failed"]:
        raise AssertionError(f"wrk saw {told['failed']}")
    return [(name, ns) for name, ns in told["turns"]]


def _turns(rounds: int) -> list[tuple[str, ASGIApp]]:
    setup = Setup(requests=1_000_000)  # nobody is refused, however long it takes
    base = ("bare", stacks.plain(setup).app)
    others = [(stack.name, stack.app) for stack in (build(setup) for build in _BUILDS)]
    others.append((CONTROL, base[1]))
    draw = random.Random(1)
    turns: list[tuple[str, ASGIApp]] = []
    for _ in range(rounds + 1):
        draw.shuffle(others)
        for one in others:
            turns += [base, one]
    return turns


def main(wrk: str, rounds: int) -> None:
    """Serve every turn to wrk on a port of its own; print the turns after the first round, which warms up."""
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    port = bound.getsockname()[1]

    def finished() -> None:
        server.should_exit = True

    switch = Switch(_turns(rounds), finished)
    config = uvicorn.Config(switch, log_level="critical", access_log=False, lifespan="off")
    server = uvicorn.Server(config)
    found: list[str] = []
    load = threading.Thread(target=_load, args=(wrk, port, server, found))
    load.start()
    asyncio.run(server.serve(sockets=[bound]))
    load.join()
    skipped = 2 * (len(_BUILDS) + 1)
    sys.stdout.write(
        json.dumps({"turns": switch.turns[skipped:], "failed": _failures("".join(found))}) + "\n"
    )


def _load(wrk: str, port: int, server: Any, found: list[str]) -> None:
    while not server.started:
        time.sleep(0.01)
    command = [wrk, "-t1", f"-c{_CONNECTIONS}", "-d600s", f"http://127.0.0.1:{port}/items/17"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while not server.should_exit:
            time.sleep(0.05)
        process.send_signal(2)
        found.append(process.communicate()[0])


def _failures(said: str) -> str:
    return "\n".join(line.strip() for line in said.splitlines() if "Non-2xx" in line)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
