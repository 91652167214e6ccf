"""A process that is killed: parks orders as they fail, redrives them, and may die at any instruction.

Its dependency is a journal in SQLite that remembers every key it was asked for, and does nothing twice.
"""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import sys
import time
from collections import Counter
from uuid import uuid4

import mahavishnu
from mahavishnu.asgi import Hardening
from mahavishnu.errors import Parked
from mahavishnu.runtime.current import forget
from mahavishnu.runtime.dead_letters import queue, redriver
from mahavishnu.runtime.dead_letters.letters import Letters
from mahavishnu.spec import Spec

ORDERS = 40  # that one life takes in, if it is let
redriver.LEASE = 300  # ms: what a killed process had taken up comes back at once
redriver.PERIOD = 20_000_000


class Journal:
    """What the payment service did, and what the shop was told: each line is on the disk before it counts.

    The service does nothing twice for one key; whether one order ever came under two keys is what a test wants to know.
    """

    def __init__(self, path: str) -> None:
        self.base = sqlite3.connect(path, timeout=10, isolation_level=None)

    def make(self) -> None:
        """Empty tables."""
        self.base.execute("PRAGMA journal_mode = WAL")
        self.base.execute("CREATE TABLE asked (number TEXT, key TEXT)")
        self.base.execute("CREATE TABLE charged (key TEXT PRIMARY KEY, number TEXT)")
        self.base.execute("CREATE TABLE promised (number TEXT)")

    def pay(self, number: str, key: str) -> None:
        """Charge an order, unless this key was charged before."""
        self.base.execute("BEGIN IMMEDIATE")
        self.base.execute("INSERT INTO asked VALUES (?, ?)", (number, key))
        self.base.execute("INSERT OR IGNORE INTO charged VALUES (?, ?)", (key, number))
        self.base.execute("COMMIT")

    def promise(self, number: str) -> None:
        """The customer has been told that it will be paid."""
        self.base.execute("INSERT INTO promised VALUES (?)", (number,))

    def numbers(self, table: str) -> Counter[str]:
        """How often each order stands in a table."""
        return Counter(number for (number,) in self.base.execute(f"SELECT number FROM {table}"))


def spec(store: str) -> Spec:
    """A shop whose payment may fail, with letters that are due at once."""
    return Spec.model_validate(
        {
            "mahavishnu": 1,
            "service": {"name": "shop", "app": "shop:app"},
            "dependencies": {"payment": {"fallback": "dead_letter"}},
            "dead_letters": {
                "store": store,
                "redrive": {"attempts": 100, "base": "20ms", "max": "50ms"},
            },
            "observability": {"logs": {"level": "error"}},
        }
    )


async def forgotten(hardening: Hardening, key: str) -> None:
    """What a careless redriver does: it notes the call as done before it is."""
    found = hardening.service.dead_letters
    assert isinstance(found, queue.DeadLetterQueue)

    def drop(letters: Letters) -> None:
        letters.drop([one.id for one in letters.some(1000) if one.key == key])

    await asyncio.wrap_future(found.writer.ask(drop))
    await asyncio.sleep(0.02)


async def live(store: str, journal: Journal, life: int, mode: str) -> None:
    """Take in orders that fail, while others are redriven; `healthy`: only redrive, until nothing is left."""
    draw, healthy = random.Random(life), mode == "healthy"

    async def app(scope: object, receive: object, send: object) -> None: ...

    hardening = Hardening(app, spec(store))
    payment = mahavishnu.dependency("payment")

    @payment(idempotent=True)
    async def pay(order: str) -> None:
        if draw.random() < 0.9:
            raise ConnectionError
        await asyncio.sleep(0.001)
        journal.pay(order, mahavishnu.idempotency_key())

    @pay.redrive
    async def again(order: str) -> None:
        key = uuid4().hex if mode == "new-key" else mahavishnu.idempotency_key()
        if mode == "note-first":
            await forgotten(hardening, key)
        await asyncio.sleep(0.002 * draw.random())
        journal.pay(order, key)
        await asyncio.sleep(0.02 if mode == "new-key" else 0.002 * draw.random())

    hardening.life.redriver.start()
    say("ready")
    for number in range(0 if healthy else ORDERS):
        try:
            await pay(f"{life}-{number}")
        except Parked:
            journal.promise(f"{life}-{number}")
        await asyncio.sleep(0.005)
    found = hardening.service.dead_letters
    assert isinstance(found, queue.DeadLetterQueue)
    deadline, left = time.monotonic() + 60, -1
    while time.monotonic() < deadline and not (healthy and left == 0):
        left = await asyncio.wrap_future(found.writer.ask(lambda letters: letters.stats().entries))
        await asyncio.sleep(0.02)
    await hardening.life.redriver.stop()
    say("empty" if left == 0 else f"{left} left")


def say(line: str) -> None:
    """Tell the test."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def lives(store: str, book: str) -> None:
    """Begin a life for each line that is read, `<number> <mode>`; everything is imported once, before them all."""
    for line in sys.stdin:
        number, mode = line.split()
        child = os.fork()
        if child == 0:
            forget()
            asyncio.run(live(store, Journal(book), int(number), mode))
            os._exit(0)
        say(str(child))
        os.waitpid(child, 0)
        say("ended")


if __name__ == "__main__":
    lives(*sys.argv[1:])
