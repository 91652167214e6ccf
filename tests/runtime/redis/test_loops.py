"""Short event loops, as of workers that run one for each job: each finds the store, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress

from mahavishnu.alerts.shared_store import STORE_CALLS, STORE_DURATION, STORE_UP
from mahavishnu.algorithms import Gcra
from mahavishnu.clock import SystemClock
from mahavishnu.runtime.redis.address import address
from mahavishnu.runtime.redis.store import RedisStore
from mahavishnu.runtime.telemetry.metrics import Metrics
from tests.metering import value
from tests.ports import free_port
from tests.runtime.redis.servers import Charged, Server, server

DAY = 86_400 * 10**9
QUOTA = (Charged("quota", Gcra(10, DAY, 10), on_store_failure="open"),)


class Worker:
    """A process whose jobs are event loops of their own, and what its log says of the store."""

    def __init__(self, url: str) -> None:
        self.told: list[tuple[bool, str]] = []
        self.metrics = Metrics({one.name: one for one in (STORE_CALLS, STORE_DURATION, STORE_UP)})
        self.store = RedisStore(
            address(url), "shop", SystemClock(), self.metrics, lambda up, why: self.told.append((up, why))
        )

    def job(self) -> bool:
        return asyncio.run(self._asks())

    async def _asks(self) -> bool:
        return (await self.store.take(QUOTA, ["i:10.0.0.1"])).admitted

    def calls(self, outcome: str) -> float:
        return value(self.metrics, STORE_CALLS.name, outcome=outcome)


@contextmanager
def far(to: int, delay: float) -> Generator[int, None, None]:
    """The port of a way to a server that takes so many seconds in each direction."""

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with source, sink, suppress(OSError):
            while data := source.recv(65536):
                time.sleep(delay)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        with suppress(OSError):
            while True:
                near, back = there.accept()[0], socket.create_connection(("127.0.0.1", to))
                for ends in ((near, back), (back, near)):
                    threads.append(threading.Thread(target=pump, args=ends))
                    threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as there:
        threads = [threading.Thread(target=serve)]
        threads[0].start()
        yield there.getsockname()[1]
        there.shutdown(socket.SHUT_RDWR)
        for one in threads:
            one.join()


def test_a_job_in_a_loop_of_its_own_asks_a_store_that_is_far_away(redis: Server) -> None:
    """To connect takes twice there and back, longer than any answer may: it is waited for all the same."""
    with far(redis.port, 0.1) as port:
        worker = Worker(f"redis://127.0.0.1:{port}?socket_timeout=0.35")
        for _ in range(5):
            worker.job()
    assert (worker.calls("ok"), worker.calls("skipped")) == (5, 0)


def test_jobs_in_several_threads_share_one_number(redis: Server) -> None:
    """Eight threads, ten loops in each, and a store that is well: it is told of once, and nobody goes without it."""
    worker = Worker(f"{redis.url}?socket_timeout=2")
    admitted: list[bool] = []
    threads = [
        threading.Thread(target=lambda: admitted.extend(worker.job() for _ in range(10))) for _ in range(8)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert (admitted.count(True), len(admitted)) == (10, 80)
    assert (worker.calls("ok"), worker.calls("skipped")) == (80, 0)
    assert worker.told == [(True, "")]


def test_a_loop_that_ends_leaves_no_connection_and_no_thread(redis: Server) -> None:
    """At once: whoever runs many of them does not wait for the garbage collector."""
    worker, before = Worker(f"redis://localhost:{redis.port}?socket_timeout=2"), threading.active_count()
    gc.disable()
    try:
        for _ in range(20):
            worker.job()
        until = time.monotonic() + 10
        while _connections(redis) or threading.active_count() > before:
            assert time.monotonic() < until, (_connections(redis), threading.enumerate())
            time.sleep(0.01)
    finally:
        gc.enable()


def _connections(redis: Server) -> int:
    with redis.client() as client:
        return sum(one["name"] == "mahavishnu-shop" for one in client.client_list())


def test_a_store_that_is_known_to_be_down_holds_up_no_job() -> None:
    """Nobody answers there: the first job waits as long as a try lasts, those behind it for nothing, but one in 2 s."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        worker = Worker(f"redis://127.0.0.1:{silent.getsockname()[1]}")
        took = [_seconds(worker) for _ in range(20)]
    assert 0.5 < took[0] < 3
    assert sorted(took[1:])[-2] < 0.5
    assert sum(took[1:]) < 2.5
    assert worker.told == [(False, "no answer in time")]


def test_jobs_find_a_store_that_has_come_back() -> None:
    """After a while one of them waits for it again, and then all ask it."""
    with server() as one:
        worker = Worker(f"{one.url}?socket_timeout=2")
        worker.job()
        one.kill()
        for _ in range(3):
            worker.job()
        one.start()
        until = time.monotonic() + 30
        while worker.told[-1] != (True, ""):
            assert time.monotonic() < until
            worker.job()
            time.sleep(0.05)
        asked = worker.calls("ok")
        worker.job()
        assert worker.calls("ok") == asked + 1


def _seconds(worker: Worker) -> float:
    before = time.perf_counter()
    worker.job()
    return time.perf_counter() - before


def test_a_first_request_waits_no_longer_than_the_first_try(redis: Server) -> None:
    """Nobody listens: it is known at once, and the request does what it does without the store."""
    worker = Worker(f"redis://127.0.0.1:{free_port()}")
    assert _seconds(worker) < 0.9
    assert worker.calls("skipped") == 1
