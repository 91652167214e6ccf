"""The last good answers of a dependency, bounded in number, bytes and age."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from typing import NamedTuple

from mahavishnu.policies.fallback import StaleCache
from mahavishnu.protocols import Clock


class _Kept(NamedTuple):
    at: int
    answer: bytes


class Answers:
    """What is kept; it outlives the settings that bound it. Thread-safe."""

    def __init__(self) -> None:
        self.kept: OrderedDict[bytes, _Kept] = OrderedDict()
        self.size = 0
        self.lock = threading.Lock()


class Copies:
    """How many bytes all copies take together that are still being made. Thread-safe."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._taken = 0
        self._returned: deque[int] = deque()
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        """Whether there is room for so many more, which are taken then."""
        with self._lock:
            while self._returned:
                self._taken -= self._returned.popleft()
            if self._taken + size > self._room:
                return False
            self._taken += size
            return True

    def give_back(self, size: int) -> None:
        """They are needed no more; never waits, for the garbage collector may say so in the middle of `take`."""
        self._returned.append(size)


class Stale:
    """Keeps and gives answers as bytes, by a key of bytes; the one that was used least lately goes first."""

    def __init__(self, settings: StaleCache, clock: Clock, before: Stale | None = None) -> None:
        self._age = int(settings.stale_cache)
        self.entries = settings.entries
        self.room = int(settings.size)
        self.copies = Copies(self.room)
        self._clock = clock
        self._answers: Answers = before._answers if before else Answers()  # noqa: SLF001 - one of its own kind

    def put(self, key: bytes, answer: bytes) -> None:
        """Keep this answer in the place of the one before."""
        one = self._answers
        with one.lock:
            self._drop(key)
            if len(key) + len(answer) > self.room:
                return
            one.kept[key] = _Kept(self._clock.now(), answer)
            one.size += len(key) + len(answer)
            while len(one.kept) > self.entries or one.size > self.room:
                self._drop(next(iter(one.kept)))

    def get(self, key: bytes) -> tuple[bytes, int] | None:
        """The answer and its age in ns; None when there is none that is young enough."""
        one = self._answers
        with one.lock:
            found = one.kept.get(key)
            if found is None:
                return None
            age = self._clock.now() - found.at
            if age > self._age:
                self._drop(key)
                return None
            one.kept.move_to_end(key)
            return found.answer, age

    def _drop(self, key: bytes) -> None:
        gone = self._answers.kept.pop(key, None)
        if gone is not None:
            self._answers.size -= len(key) + len(gone.answer)
