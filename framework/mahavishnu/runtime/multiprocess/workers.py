"""The workers of one server: each says what it has counted, and whoever is asked answers for all."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Iterable

from mahavishnu.runtime.multiprocess.private_folder import PrivateFolder
from mahavishnu.runtime.telemetry.snapshot import EMPTY, Snapshot, added, decoded, encoded

PERIOD = 1_000_000_000
"""How often a worker says what it has counted, ns: as much is lost of one that is killed."""
_MISSED = 10
_PAST = "past"
_NAME = re.compile(r"[0-9]+-[0-9a-f]{16}")
_SAID = ".series"
_LOCK = "{}.lock"
_TRIES = 3


class Workers:
    """One of the workers that share a folder, and what it knows of the others.

    Three rules make the sums right. What is shown has been said before, in a file that is replaced as a whole: a
    later answer, whoever gives it, never shows less. A worker lives as long as it holds the file of its name,
    which the kernel sees to: neither a pid that is used again nor kill -9 can mislead. What the dead have
    counted is added to one file, the past, which names those it holds: whatever moment that is interrupted at,
    nothing is counted twice or forgotten.

    `alive` is the descriptor that it lives by. `failed` is called when something cannot be said, and `told` with the
    reason, once; `ignored` is called when what another has said cannot be read.
    """

    def __init__(
        self,
        folder: PrivateFolder,
        now: Callable[[], int],
        failed: Callable[[], object],
        ignored: Callable[[], object],
        told: Callable[[str], object],
    ) -> None:
        self.name = f"{os.getpid()}-{secrets.token_hex(8)}"
        self.pace = PERIOD
        self._folder = folder
        self._now = now
        self._failed, self._ignored, self._told = failed, ignored, told
        self._well = True
        self._said: Snapshot | None = None
        self._read: dict[str, tuple[bytes, Snapshot | None]] = {}
        self.alive = folder.appear(self.name)
        self._tasks: dict[str, int] = {}

    def say(self, own: Snapshot) -> None:
        """Tell the others."""
        said = own._replace(good_until=self._now() + _MISSED * self.pace)
        try:
            self._folder.write(self.name + _SAID, encoded(said))
            for lasting in (self.name, _PAST, *map(_LOCK.format, self._tasks)):
                self._folder.keep(lasting)
        except (OSError, ValueError) as fault:
            self._failed()
            if self._well:
                self._told(f"{type(fault).__name__}: {fault}")
            self._well = False
            return
        self._said, self._well = said, True

    def shown(self, own: Snapshot) -> list[Snapshot]:
        """What all of them have counted, and what those show that live; of the others as of their last word."""
        self.say(own)
        self.settle()
        said = self._said or own
        return [own._replace(counters=said.counters, histograms=said.histograms), *self.others()]

    def others(self) -> list[Snapshot]:
        """What the others have said, those included that have ended."""
        heard, past = self._heard()
        living = (one if self._lives(name, one) else one._replace(gauges=[]) for name, one in heard.items())
        return [past, *living]

    def settle(self) -> None:
        """Add to the past what workers have counted that have ended."""
        try:
            if any(not self._held(name) for name in self._names()):
                held = self._folder.hold(_LOCK.format(_PAST))
                if held is not None:
                    try:
                        self._settle()
                    finally:
                        self._folder.let_go(held)
        except (OSError, ValueError):
            self._failed()

    def leads(self, task: str) -> int | None:
        """Since when (ns since 1970) the workers do what one of them does for all, where this is the one."""
        if task not in self._tasks:
            try:
                held = self._folder.hold(_LOCK.format(task))
            except OSError:
                held = None
            if held is None:
                return None
            self._tasks[task] = held
        return os.fstat(
            self._tasks[task]
        ).st_mtime_ns  # it was made by the first who led, and is never written

    def follow(self, task: str) -> None:
        """Lead no more: whoever asks from now on may."""
        if (held := self._tasks.pop(task, None)) is not None:
            self._folder.let_go(held)

    def leave(self) -> None:
        """End, as far as the others are concerned: nothing may be said after it."""
        for held in (self.alive, *self._tasks.values()):
            self._folder.let_go(held)
        self._folder.close()

    def _settle(self) -> None:
        past = self._get(_PAST) or EMPTY
        names = self._names()
        dead = [name for name in names if not self._held(name)]
        last = [self._last(name) for name in dead if name not in past.ended]
        ended = names.intersection(past.ended).union(dead)
        self._folder.write(_PAST, encoded(added([past, *last])._replace(ended=sorted(ended))))
        for name in dead:
            for file in (f"{name}{_SAID}", f"{name}{_SAID}.new", name):
                self._folder.remove(file)

    def _last(self, name: str) -> Snapshot:
        """The last word of one that has ended; raises OSError where another try may be better."""
        try:
            return decoded(self._folder.read(name + _SAID))
        except FileNotFoundError:
            return EMPTY
        except ValueError:
            self._ignored()
            return EMPTY

    def _heard(self) -> tuple[dict[str, Snapshot], Snapshot]:
        """What was said by workers that are not in the past, and the past: as of one moment."""
        before, heard = self._get(_PAST), dict[str, Snapshot | None]()
        for _ in range(_TRIES):
            heard = {name: self._get(name + _SAID) for name in self._names()}
            past = self._get(_PAST)
            if past is before:
                break
            before = past
        past = before or EMPTY
        known = (_PAST, *(name + _SAID for name in heard))
        self._read = {file: self._read[file] for file in known if file in self._read}
        return {name: said for name, said in heard.items() if said and name not in past.ended}, past

    def _names(self) -> set[str]:
        """The others that have left a trace; as they were known, where the folder cannot be read."""
        try:
            files: Iterable[str] = self._folder.names()
        except OSError:
            files = self._read
        names = {file.removesuffix(_SAID) for file in files}
        return {name for name in names if _NAME.fullmatch(name)} - {self.name}

    def _get(self, file: str) -> Snapshot | None:
        """What a file says; what it said before, where it cannot be read; None when it is gone."""
        written, before = self._read.get(file, (None, None))
        try:
            found = self._folder.read(file)
            if found != written:
                self._read[file] = found, before  # if it is no good, that is counted once
                self._read[file] = found, decoded(found)
        except FileNotFoundError:
            self._read.pop(file, None)
        except (OSError, ValueError):
            self._ignored()
        return self._read.get(file, (None, None))[1]

    def _held(self, name: str) -> bool:
        try:
            return self._folder.held(name)
        except OSError:
            return True  # nobody is declared dead on a doubt

    def _lives(self, name: str, said: Snapshot) -> bool:
        return said.good_until > self._now() and self._held(name)
