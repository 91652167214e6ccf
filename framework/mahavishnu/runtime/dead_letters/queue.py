"""The dead letters of one process: what is kept, how full it is, and how every one of them ends."""

from __future__ import annotations

import json
import random as _random
import sqlite3
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

from mahavishnu.alerts.parking import (
    DEAD_LETTERS_DROPPED,
    DEAD_LETTERS_FULL,
    DEAD_LETTERS_PARKED,
    DEAD_LETTERS_REDRIVEN,
    DEAD_LETTERS_UP,
)
from mahavishnu.errors import MahavishnuError
from mahavishnu.loading.layers import SECRETS
from mahavishnu.policies.dead_letters import DeadLetters
from mahavishnu.protocols import Clock, Counter, Meter
from mahavishnu.runtime.dead_letters.letters import (
    REQUEST,
    Bounds,
    Letter,
    Letters,
    LettersUnreachable,
    Standing,
    Stats,
)
from mahavishnu.runtime.dead_letters.sqlite import IN_MEMORY, OLDEST, SqliteLetters
from mahavishnu.runtime.dead_letters.writer import LetterWriter
from mahavishnu.runtime.secret_values import resolved
from mahavishnu.series import DEAD_LETTERS, DEAD_LETTERS_AGE, LETTER_STATES
from mahavishnu.signals import Signal
from mahavishnu.spec import Spec

_MS = 1_000_000
_OLD = (
    "dead letters in a file need SQLite 3.37, and this Python has {}: take another one, or a redis:// server"
)
_MISSING = "dead letters on a server need two more packages: pip install 'mahavishnu[redis]'"


class Kept(NamedTuple):
    """What became of a call that was to be kept: `stored`, `known` or `full`, the id of its letter, and how many
    others were given up for it."""

    outcome: str
    id: str
    displaced: int = 0


class DeadLetterQueue:
    """Keeps failed calls, and shows how many wait; it outlives the specs that bound it."""

    def __init__(
        self, letters: Letters, *, threaded: bool, random: Callable[[], float] = _random.random
    ) -> None:
        self.writer = LetterWriter(letters, threaded=threaded)
        self.up = True
        self.random = random
        self._stats = Stats({}, 0, 0)

    def become(self, spec: Spec, meter: Meter) -> None:
        """From now on keep letters as this spec says, and count through this meter; it cannot fail."""
        settings = self.settings = spec.dead_letters
        self.parking = spec.parking
        self.keep = int(spec.retention.dead_letters) // _MS
        self.bounds = Bounds(settings.entries, int(settings.size), settings.when_full == "displace")
        counters: dict[tuple[str, str, str], Counter] = {}
        for name in self.parking:
            for signal in (DEAD_LETTERS_PARKED, DEAD_LETTERS_REDRIVEN):
                for outcome in signal.label("outcome").values or ():
                    made = meter.counter(signal, dependency=name, outcome=outcome)
                    counters[signal.name, name, outcome] = made
            for state in LETTER_STATES:
                meter.gauge(DEAD_LETTERS, partial(self._count, name, state), dependency=name, state=state)
            meter.gauge(DEAD_LETTERS_AGE, partial(self._age, name), dependency=name)
        self._counters = counters  # whole, or not yet: other threads count meanwhile
        reasons = DEAD_LETTERS_DROPPED.label("reason").values or ()
        self._dropped = {reason: meter.counter(DEAD_LETTERS_DROPPED, reason=reason) for reason in reasons}
        meter.gauge(DEAD_LETTERS_FULL, self.fullness)
        meter.gauge(DEAD_LETTERS_UP, lambda: float(self.up))

    def park(self, letter: Letter) -> Future[Kept]:
        """Keep a call; the future fails with LettersUnreachable."""
        pause, bounds = self.pause(1), self.bounds

        def put(letters: Letters) -> Kept:
            outcome, name, displaced = letters.put(letter, pause, bounds)
            _same(letter, letters.find(name) if outcome == "known" else None)
            # Who asks twice because the first answer was lost has stored it all the same.
            return Kept("stored" if name == letter.id else outcome, name, displaced)

        future = self.writer.ask(put)
        future.add_done_callback(self._displaced)
        return future

    def pause(self, attempt: int) -> int:
        """A pause before this attempt (from 1), ms: drawn from the upper half, so that letters spread out."""
        ceiling = self.settings.redrive.pause(attempt) // _MS
        return ceiling // 2 + int(self.random() * (ceiling - ceiling // 2))

    def parked(self, dependency: str, outcome: str) -> None:
        """Count a call that was kept, or was not; a call that began before a reload may be none of this spec's."""
        self._counted(DEAD_LETTERS_PARKED, dependency, outcome)

    def redriven(self, dependency: str, outcome: str) -> None:
        """Count a letter that was taken up; as `parked`."""
        self._counted(DEAD_LETTERS_REDRIVEN, dependency, outcome)

    def dropped(self, reason: str, count: int) -> None:
        """Count letters that were given up."""
        self._dropped[reason].inc(count)

    def _counted(self, signal: Signal, dependency: str, outcome: str) -> None:
        counter = self._counters.get((signal.name, dependency, outcome))
        if counter is not None:
            counter.inc()

    def _displaced(self, future: Future[Kept]) -> None:
        """Only now it is certain: what fails leaves all where they were."""
        if not future.cancelled() and future.exception() is None:
            self.dropped("displaced", future.result().displaced)

    def seen(self, stats: Stats) -> None:
        """What there is now."""
        self._stats = stats

    def fullness(self) -> float:
        """How much of the room is used, from 0 to 1."""
        return max(self._stats.entries / self.bounds.entries, self._stats.size / self.bounds.size)

    def _count(self, name: str, state: str) -> float:
        one = self._stats.of.get(name, Standing())
        return one.waiting if state == "waiting" else one.quarantined

    def _age(self, name: str) -> float:
        return self._stats.of.get(name, Standing()).age / 1000


def _same(letter: Letter, known: Letter | None) -> None:
    """Raise where it is not the same call that is known by this key: then this one would never be made."""
    if known is not None and _asked(known) != _asked(letter):
        what = f"dead letter {known.id} has the same key, and is another call, of `{known.operation}`"
        raise LettersUnreachable(f"{what}: let the key tell the calls of a dependency apart")


def _asked(letter: Letter) -> tuple[str, Mapping[str, object]]:
    """What is to be done; a request's headers are none of it, for some are others with every try."""
    said: Mapping[str, object] = json.loads(letter.payload)
    headers = {"headers"} if letter.operation == REQUEST else set[str]()
    return letter.operation, {name: value for name, value in said.items() if name not in headers}


class _State(Protocol):
    """What outlives specs."""

    dead_letters: DeadLetterQueue | None


def queue_of(
    spec: Spec, clock: Clock, meter: Meter, wall: Callable[[], float], state: _State
) -> DeadLetterQueue | None:
    """The process's queue, where the spec parks anything; one of a spec before still has to `become` this one's.

    On a clock that stands still, as tests have, letters are in memory, and nothing is left to a thread.
    """
    if not spec.parking:
        return None
    if state.dead_letters is None:
        state.dead_letters = DeadLetterQueue(_letters(spec, clock, wall), threaded=clock.runs)
        state.dead_letters.become(spec, meter)
    return state.dead_letters


def letters_of(
    spec: Spec, now: Callable[[], int], counted: Callable[[], int] | None = None, secrets: Path = SECRETS
) -> Letters:
    """Where the spec's letters are kept; raises MahavishnuError for a missing secret, package or bad URL."""
    settings: DeadLetters = spec.dead_letters
    if settings.file is not None:
        if sqlite3.sqlite_version_info < OLDEST:
            raise MahavishnuError(_OLD.format(sqlite3.sqlite_version))
        return SqliteLetters(settings.file, now, counted)
    try:
        from mahavishnu.runtime.dead_letters.redis import RedisLetters
    except ImportError:
        raise MahavishnuError(_MISSING) from None
    return RedisLetters(resolved(settings.store, secrets), spec.full_name)


def _letters(spec: Spec, clock: Clock, wall: Callable[[], float]) -> Letters:
    began = int(wall() * 1000) - clock.now() // _MS

    def counted() -> int:
        return began + clock.now() // _MS

    if not clock.runs:
        return SqliteLetters(IN_MEMORY, counted)
    # Leases are by the time of day, the same for all processes, whenever they started; if somebody sets it, they
    # end early or late once. What is given up is lost for good, so that no step of the time may do it.
    return letters_of(spec, lambda: int(wall() * 1000), counted)
