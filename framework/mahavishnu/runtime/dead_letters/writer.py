"""One thread for all that reads and writes dead letters: who asks meanwhile shares the next write to the disk."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeVar

from mahavishnu.runtime.dead_letters.letters import Letters, LettersSilent

T = TypeVar("T")


class _Asked(NamedTuple):
    step: Callable[[Letters], Any]
    future: Future[Any]


class LetterWriter:
    """Runs steps on letters, one after another; without `threaded` in the thread that asks, at once.

    A step's future is done when what it did is durable. What fails together is tried apart; but where the letters are
    silent, all who asked meanwhile hear of it at once, so that nobody waits for longer than their patience.
    """

    _thread: threading.Thread | None
    _last: threading.Thread | None

    def __init__(self, letters: Letters, *, threaded: bool = True) -> None:
        self.letters = letters
        self._threaded = threaded
        self._begin()

    def ask(self, step: Callable[[Letters], T]) -> Future[T]:
        """Do this soon."""
        future: Future[T] = Future()
        asked = _Asked(step, future)
        if self._process != os.getpid():  # a fork: the thread is its parent's
            self._begin()
        with self._lock:
            if not self._threaded:
                self._do(_wanted([asked]))
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

    def _begin(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._thread = self._last = None

    def _start(self) -> None:
        # With a queue of its own, so that nobody else takes the word that it shall end.
        queue = self._queue = SimpleQueue[_Asked | None]()
        self._last = self._thread = threading.Thread(
            target=self._work, args=(queue, self._last), name="mahavishnu-letters", daemon=True
        )
        self._thread.start()

    def _work(self, queue: SimpleQueue[_Asked | None], before: threading.Thread | None) -> None:
        if before is not None:
            before.join()  # letters are used by one thread at a time
        while (first := queue.get()) is not None:
            batch = [first]
            while len(batch) < self.letters.batch and (one := _waiting(queue)) is not None:
                batch.append(one)
            if (silence := self._do(_wanted(batch))) is not None:
                while (one := _waiting(queue)) is not None:
                    _fail(_wanted([one]), silence)
            del first, batch, silence  # else what was asked would be held until somebody asks again
        self.letters.close()

    def _do(self, batch: Sequence[_Asked]) -> LettersSilent | None:
        """Do these steps; returns why the letters are silent, if they are."""
        if not batch:
            return None
        try:
            with self.letters.together():
                results = [one.step(self.letters) for one in batch]
        except LettersSilent as silence:
            _fail(batch, silence)
            return silence
        except Exception as fault:  # noqa: BLE001 - who asked hears of it
            if len(batch) > 1:
                return self._apart(batch)
            batch[0].future.set_exception(fault)
            return None
        for one, result in zip(batch, results, strict=True):
            one.future.set_result(result)
        return None

    def _apart(self, batch: Sequence[_Asked]) -> LettersSilent | None:
        for place, one in enumerate(batch, 1):
            if (silence := self._do([one])) is not None:
                _fail(batch[place:], silence)
                return silence
        return None


def _wanted(batch: Sequence[_Asked]) -> list[_Asked]:
    """Without whoever was cancelled meanwhile: he is told nothing, so nothing is done for him."""
    return [one for one in batch if one.future.set_running_or_notify_cancel()]


def _fail(batch: Sequence[_Asked], silence: LettersSilent) -> None:
    for one in batch:
        one.future.set_exception(LettersSilent(str(silence)))


def _waiting(queue: SimpleQueue[_Asked | None]) -> _Asked | None:
    try:
        one = queue.get_nowait()
    except Empty:
        return None
    if one is None:  # the end, after this batch
        queue.put(None)
    return one
