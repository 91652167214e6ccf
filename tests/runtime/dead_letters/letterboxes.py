"""Dead letters for tests: on both stores, at a time that stands still until it is moved."""

from __future__ import annotations

import threading
from collections.abc import Generator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from mahavishnu.runtime.dead_letters.letters import Bounds, Letter, Letters
from mahavishnu.runtime.dead_letters.redis import RedisLetters
from mahavishnu.runtime.dead_letters.sqlite import SqliteLetters
from mahavishnu.runtime.dead_letters.writer import LetterWriter
from tests.runtime.redis.servers import Server

STORES = ["sqlite", "redis"]
ROOM = Bounds(entries=100, size=10_000, displace=False)
LEASE = 60_000


class Time:
    """Milliseconds since 1970."""

    def __init__(self) -> None:
        self.ms = 1_800_000_000_000

    def __call__(self) -> int:
        return self.ms


@contextmanager
def stored(kind: str, folder: Path, now: Time, running: Server) -> Generator[Letters, None, None]:
    """Letters in a file of this folder, or on the server, which then holds nothing else."""
    if kind == "sqlite":
        filed = SqliteLetters(str(folder / "letters" / "dead.db"), now)
        yield filed
        filed.close()
    else:
        running.client().flushall()
        served = RedisLetters(running.url, "shop", now)
        yield served
        served.close()


def letter(key: str = "", dependency: str = "payment", payload: bytes = b'{"order":1}') -> Letter:
    """A call that failed."""
    name = uuid4().hex
    return Letter(name, dependency, "charge", key or name, payload, request="r1", error="no answer")


def keep(letters: Letters, *ones: Letter, pause: int = 0, bounds: Bounds = ROOM) -> list[str]:
    """Put letters in, and say what came of each."""
    with letters.together():
        return [letters.put(one, pause, bounds)[0] for one in ones]


def take(letters: Letters, dependency: str = "payment", most: int = 10, attempts: int = 5) -> list[Letter]:
    """Take up what is due."""
    with letters.together():
        return list(letters.take(dependency, most, LEASE, attempts))


def held_up(writer: LetterWriter) -> threading.Event:
    """Keep the writer's thread busy from now on, until what is returned is set."""
    gate, busy = threading.Event(), Future[None]()

    def hold(_: Letters) -> None:
        busy.set_result(None)
        gate.wait()

    writer.ask(hold)
    busy.result()
    return gate
