"""Nothing is lost and nothing is done twice: ten minutes around an outage, and a process that is killed anywhere."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

import mahavishnu
from mahavishnu.asgi import Hardening
from mahavishnu.errors import BreakerOpen, Parked
from mahavishnu.runtime.current import forget
from mahavishnu.runtime.dead_letters import queue as offices
from mahavishnu.runtime.dead_letters.redis import RedisLetters
from mahavishnu.runtime.dead_letters.sqlite import SqliteLetters
from mahavishnu.spec import Spec
from mahavishnu.testing import VirtualClock
from tests.figures import FULL, figure
from tests.metering import value
from tests.runtime.dead_letters.worker import Journal
from tests.runtime.redis.servers import server

ROOT = Path(__file__).parents[3]
SECOND = 10**9
RATE, DOWN_FROM, DOWN_FOR, MINUTES = 50, 60, 5, 10 if FULL else 2
OPEN_FOR = 5
KILLS = 50 if FULL else 10

SPEC: dict[str, Any] = {
    "mahavishnu": 1,
    "service": {"name": "shop", "app": "shop:app"},
    "dependencies": {
        "payment": {
            "timeout": "1s",
            "retry": {"attempts": 3, "base": "10ms", "max": "50ms", "budget": "20%"},
            "breaker": {"failure_rate": "50%", "min_calls": 20, "window": "10s", "open_for": f"{OPEN_FOR}s"},
            "bulkhead": {"concurrency": 100},
            "fallback": "dead_letter",
        }
    },
    "dead_letters": {"redrive": {"attempts": 5, "base": "10s", "max": "1m"}, "entries": 10_000},
    "observability": {"logs": {"level": "error"}},
}


class Payment(httpx.AsyncBaseTransport):
    """Counts what it charged, by key; it is down for a while."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.down = False
        self.charged: Counter[str] = Counter()
        self.recovered: int | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self.down:
            return httpx.Response(503)
        self.charged[request.headers["idempotency-key"]] += 1
        return httpx.Response(200)


class Outage(NamedTuple):
    """The payments, the keys kept, those paid at once; ns from the outage's end until the breaker was due, and done."""

    payment: Payment
    kept: list[str]
    paid: list[str]
    due: int
    recovered: int


async def outage(clock: VirtualClock, hardening: Hardening) -> Outage:
    """Ten minutes at 50 orders a second, in which the payments are down for a while."""
    payment, kept, paid = Payment(clock), list[str](), list[str]()
    stripe = mahavishnu.dependency("payment")
    healed, due, recovered = (DOWN_FROM + DOWN_FOR) * SECOND, 0, 0
    async with stripe.httpx_async_client(transport=payment) as client:
        hardening.life.redriver.start()

        async def order(number: int) -> None:
            nonlocal due, recovered
            key = f"order-{number}"
            try:
                answer = await client.post(
                    "http://payment/charges",
                    headers={"idempotency-key": key},
                    extensions={"idempotent": True},
                )
            except Parked as parked:
                kept.append(parked.key)
                if clock.now() >= healed and not due and isinstance(parked.__cause__, BreakerOpen):
                    due = clock.now() - healed + (parked.__cause__.retry_after or 0)
            else:
                assert answer.status_code == 200
                paid.append(key)
                if clock.now() >= healed and not recovered:
                    recovered = clock.now() - healed

        pending: set[asyncio.Task[None]] = set()
        for number in range(RATE * 60 * MINUTES):
            payment.down = DOWN_FROM * SECOND <= clock.now() < healed
            task = asyncio.create_task(order(number))
            pending.add(task)
            task.add_done_callback(pending.discard)
            await clock.settle(4)
            clock.advance(SECOND // RATE)
        while pending:
            await clock.settle()
            clock.advance(SECOND // 100)
        await hardening.life.redriver.stop()
    return Outage(payment, kept, paid, due, recovered)


@pytest.mark.proof
@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_an_outage_of_five_seconds_loses_nothing(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recovered within one open period; every failed order kept once, redriven once."""
    forget()
    clock = VirtualClock()

    def now() -> int:
        return 1_800_000_000_000 + clock.now() // 10**6

    with server() if kind == "redis" else nullcontext() as running:
        letters: Any = (
            RedisLetters(running.url, "shop", now)
            if running
            else SqliteLetters(str(tmp_path / "d" / "l.db"), now)
        )
        if isinstance(letters, SqliteLetters):  # nobody is killed here, so the disk need not be waited for
            letters.base.execute("PRAGMA synchronous = OFF")

        def same(*_: Any) -> Any:
            return letters

        monkeypatch.setattr(offices, "_letters", same)
        hardening = Hardening(_nobody, Spec.model_validate(SPEC), clock=clock)
        payment, kept, paid, due, recovered = asyncio.run(outage(clock, hardening))
        left = letters.stats().entries
        letters.close()

    orders = RATE * 60 * MINUTES
    metrics = hardening.service.metrics
    stored = value(metrics, "mahavishnu_dead_letters_parked_total", outcome="stored")
    done = value(metrics, "mahavishnu_dead_letters_redriven_total", outcome="done")
    twice = sum(count > 1 for count in payment.charged.values())
    within = due + 2 * SECOND // RATE  # until the next order, and that one
    figure(
        f"{kind}: recovered after the outage, s (with the open period of the breaker)",
        f"<= {within / SECOND:.2f}",
        f"{recovered / SECOND:.2f}",
    )
    figure(
        f"{kind}: orders of {orders:,} that failed, were kept, were redriven",
        "all alike",
        f"{len(kept):,}, {stored:,.0f}, {done:,.0f}",
    )
    figure(
        f"{kind}: orders lost, charged twice, left over",
        "0, 0, 0",
        f"{orders - len(payment.charged)}, {twice}, {left}",
    )
    assert 0 < recovered <= within
    assert len(kept) == len({*kept}) == stored == done > RATE
    assert len(kept) + len(paid) == orders == len(payment.charged)
    assert (twice, left) == (0, 0)


async def _nobody(scope: Any, receive: Any, send: Any) -> None: ...


@pytest.mark.proof
@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_a_process_that_is_killed_loses_nothing_and_does_nothing_twice(kind: str, tmp_path: Path) -> None:
    """`kill -9` at random points of parking, leasing, redriving and noting; then one life to the end."""
    with (
        server("--appendonly", "yes", "--appendfsync", "always")
        if kind == "redis"
        else nullcontext() as running
    ):
        store = running.url if running else f"sqlite:{tmp_path}/letters/dead.db"
        found = killed(store, tmp_path / "journal.db", "failing")
    name = f"{kind}, {KILLS} x kill -9: orders"
    figure(f"{name} lost of those promised", "0 of some", f"{found.lost} of {found.promised}")
    figure(f"{name} charged twice (of those asked for again)", 0, f"{found.twice} ({found.again})")
    assert found.promised > KILLS
    assert (found.lost, found.twice) == (0, 0)


class Found(NamedTuple):
    """How many orders were promised, lost, charged twice, and asked for more than once."""

    promised: int
    lost: int
    twice: int
    again: int


def killed(store: str, book: Path, mode: str) -> Found:
    """Lives that are killed, and a last one that redrives all that is left; what the book says then."""
    journal = Journal(str(book))
    journal.make()
    draw = random.Random(4)
    with started(store, book) as process:
        for life in range(KILLS):
            child = begun(process, life, mode)
            time.sleep(draw.uniform(0.0, 0.5))
            os.kill(child, signal.SIGKILL)
            assert process.stdout.readline() == "ended\n"
        begun(process, KILLS, "healthy")
        assert process.stdout.readline() == "empty\n"
    promised, charged, asked = (journal.numbers(table) for table in ("promised", "charged", "asked"))
    journal.base.close()
    twice, again = (sum(count > 1 for count in book.values()) for book in (charged, asked))
    return Found(len(promised), len(promised.keys() - charged.keys()), twice, again)


def test_the_book_shows_what_is_lost_and_what_is_done_twice(tmp_path: Path) -> None:
    """The proof above can fail: an order that nobody charged, and one that came under two keys."""
    journal = Journal(str(tmp_path / "journal.db"))
    journal.make()
    for number in ("1", "2", "3"):
        journal.promise(number)
    for number, key in (("1", "a"), ("1", "a"), ("2", "b"), ("2", "c")):
        journal.pay(number, key)
    promised, charged, asked = (journal.numbers(table) for table in ("promised", "charged", "asked"))
    assert (promised.keys() - charged.keys(), charged, asked) == ({"3"}, {"1": 1, "2": 2}, {"1": 2, "2": 2})
    journal.base.close()


@pytest.mark.proof
@pytest.mark.parametrize("careless", ["note-first", "new-key"])
def test_a_careless_redriver_is_caught(careless: str, tmp_path: Path) -> None:
    """One that notes a call before it makes it loses orders; one that makes up keys has them charged twice."""
    found = killed(f"sqlite:{tmp_path}/letters/dead.db", tmp_path / "journal.db", careless)
    assert (found.lost if careless == "note-first" else found.twice) > 0


@contextmanager
def started(store: str, book: Path) -> Generator[Any, None, None]:
    """The process whose children live and are killed."""
    command = [sys.executable, "-m", "tests.runtime.dead_letters.worker", store, str(book)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, env=environment, **pipes) as process:
        yield process
        if process.stdin is not None:
            process.stdin.close()


def begun(process: Any, life: int, mode: str) -> int:
    """The process id of a life that has begun to take in orders."""
    process.stdin.write(f"{life} {mode}\n")
    process.stdin.flush()
    said = {process.stdout.readline(), process.stdout.readline()}
    return int(next(one for one in said if one != "ready\n"))
