"""One thread for all that reads and writes dead letters: who asks meanwhile shares the next write to the disk."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeVar

from mahavishnu.runtime.letters import Letters

T = TypeVar("T")


class _Asked(NamedTuple):
    step: Callable[[Letters], Any]
    future: Future[Any]


class Desk:
    """Runs steps on letters, one after another; without `threaded` in the thread that asks, at once.

    A step's future is done when what it did is durable. What fails together is tried apart.
    """

    def __init__(self, letters: Letters, *, threaded: bool = True) -> None:
        self.letters = letters
        self._threaded = threaded
        self._queue: SimpleQueue[_Asked | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def ask(self, step: Callable[[Letters], T]) -> Future[T]:
        """Do this soon."""
        future: Future[T] = Future()
        asked = _Asked(step, future)
        if not self._threaded:
            with self._lock:
                self._do([asked])
            return future
        if self._thread is None:
            self._start()
        self._queue.put(asked)
        return future

    def close(self) -> None:
        """Do what was asked, and let go of the letters; with the next step they are opened again."""
        with self._lock:
            thread, self._thread = self._thread, None
            if thread is not None:
                self._queue.put(None)
        if thread is not None:
            thread.join()
        elif not self._threaded:
            return  # in memory: closed is forgotten
        self.letters.close()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="mahavishnu-letters", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while (first := self._queue.get()) is not None:
            batch = [first]
            while len(batch) < self.letters.batch and (one := self._waiting()) is not None:
                batch.append(one)
            self._do(batch)

    def _waiting(self) -> _Asked | None:
        try:
            one = self._queue.get_nowait()
        except Empty:
            return None
        if one is None:  # the end, after this batch
            self._queue.put(None)
        return one

    def _do(self, batch: Sequence[_Asked]) -> None:
        # Whoever was cancelled meanwhile is told nothing, so nothing is done for him.
        wanted = [one for one in batch if one.future.set_running_or_notify_cancel()]
        if not self._done(wanted):
            for one in wanted:
                self._done([one])

    def _done(self, wanted: Sequence[_Asked]) -> bool:
        """Do these steps; False when they failed together and have to be tried apart."""
        try:
            with self.letters.together():
                results = [one.step(self.letters) for one in wanted]
        except Exception as fault:  # noqa: BLE001 - who asked hears of it
            if len(wanted) > 1:
                return False
            wanted[0].future.set_exception(fault)
            return True
        for one, result in zip(wanted, results, strict=True):
            one.future.set_result(result)
        return True
