"""The workers of one server: each says what it has counted, and whoever is asked answers for all."""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from mahavishnu.alerts.workers import WORKER_DEATHS, WORKER_FAULTS
from mahavishnu.runtime.multiprocess.held import Held
from mahavishnu.runtime.multiprocess.private_folder import PrivateFolder
from mahavishnu.runtime.telemetry.snapshot import EMPTY, Snapshot, added, encoded, last_whole
from mahavishnu.units import SECOND

PERIOD = SECOND
"""How often a worker says what it has counted, ns: as much is lost of one that is killed."""
_MISSED = 10
_PAST = "past"
_NAME = re.compile(r"[0-9]+-[0-9a-f]{16}")
_LOCK = "{}.lock"
_TRIES = 3


class Workers:
    """One of the workers that share a folder, and what it knows of the others.

    Four rules make the sums right. What is shown has been said before, in a file of the worker's name: a later
    answer, whoever gives it, never shows less. A worker lives as long as it holds that file, which the kernel sees
    to: neither a pid that is used again nor kill -9 can mislead. Only a file that is there and that nobody holds is
    that of a dead one: a living one whose file somebody has removed is missed until it finds that out, and appears
    again, with all that it has counted. What the dead have counted is added to one file, the past, which names those
    it holds: whatever moment that is interrupted at, nothing is counted twice or forgotten.

    `alive` is the file that it lives by. `failed` is called when something cannot be said, and `told` with the
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
        self._read: dict[str, tuple[list[bytes], Snapshot | None]] = {}
        self.alive = folder.appear(self.name)
        self._tasks: dict[str, tuple[Held, int]] = {}

    def say(self, own: Snapshot) -> None:
        """Tell the others."""
        said = own._replace(good_until=self._now() + _MISSED * self.pace)
        try:
            if self.alive.gone:
                self._appear()
            self._folder.write(self.alive, encoded(said))
            self._said = said
            for lasting in (self.name, _PAST, *map(_LOCK.format, self._tasks)):
                self._folder.keep(lasting)
        except (OSError, ValueError) as fault:
            self._failed()
            if self._well:
                self._told(f"{type(fault).__name__}: {fault}")
            self._well = False
        else:
            self._well = True

    def shown(self, own: Snapshot) -> list[Snapshot]:
        """What all of them have counted, and what those show that live; of the others as of their last word.

        A worker that cannot tell the others shows what it has told them: more would come and go with who is asked.
        """
        self.say(own)
        self.settle()
        return [own if self._well or self._said is None else _frozen(own, self._said), *self.others()]

    def others(self) -> list[Snapshot]:
        """What the others have said, those included that have ended."""
        heard, past = self._heard()
        living = (one if self._lives(name, one) else one._replace(gauges=[]) for name, one in heard.items())
        return [past, *living]

    def settle(self) -> None:
        """Add to the past what workers have counted that have ended, and write it again where it was removed."""
        try:
            known, names = self._get(_PAST), self._names()
            self._remember(names)
            if any(map(self._dead, names)) or (known and self._folder.held(_PAST) is None):
                held = self._folder.hold(_PAST)
                if held is not None:
                    try:
                        self._settle(held)
                    finally:
                        held.let_go()
        except (OSError, ValueError):
            self._failed()

    def leads(self, task: str) -> int | None:
        """Since when (ns since 1970) the workers do what one of them does for all, where this is the one."""
        with suppress(OSError):
            if task in self._tasks and self._tasks[task][0].gone:
                self.follow(task)
            if task not in self._tasks and (held := self._folder.hold(_LOCK.format(task))) is not None:
                self._tasks[task] = held, self._since(task, held)
        return self._tasks[task][1] if task in self._tasks else None

    def follow(self, task: str) -> None:
        """Lead no more: whoever asks from now on may."""
        if task in self._tasks:
            self._tasks.pop(task)[0].let_go()

    def leave(self) -> None:
        """End, as far as the others are concerned: nothing may be said after it."""
        for task in [*self._tasks]:
            self.follow(task)
        if self._said is not None:
            with suppress(OSError, ValueError):
                self._folder.write(self.alive, encoded(self._said._replace(good_until=0)))
        self.alive.let_go()
        self._folder.close()

    def _appear(self) -> None:
        """Show again that this worker lives, where its file was removed, perhaps with the folder."""
        self._folder.again()
        alive = self._folder.appear(self.name)
        self.alive.let_go()
        self.alive = alive

    def _since(self, task: str, held: Held) -> int:
        """When the first one who led began; whoever is the first notes it, if he can."""
        with suppress(OSError, ValueError):
            for said in self._folder.read(_LOCK.format(task)):
                return int(said)
        now = time.time_ns()
        with suppress(OSError):
            self._folder.write(held, str(now).encode())
        return now

    def _settle(self, held: Held) -> None:
        past = self._get(_PAST) or EMPTY
        names = self._names()
        dead = [*filter(self._dead, names)]
        last = [self._last(name) for name in dead if name not in past.ended]
        deaths = sum(one.good_until > 0 for one in last)
        last.append(Snapshot([(WORKER_DEATHS.name, (), deaths)], [], []))
        ended = names.intersection(past.ended).union(dead)
        self._folder.write(held, encoded(added([past, *last])._replace(ended=sorted(ended))))
        for name in dead:
            for file in (f"{name}.new", name):
                self._folder.remove(file)

    def _last(self, name: str) -> Snapshot:
        """The last word of one that has ended; raises OSError where another try may be better."""
        try:
            words = self._folder.read(name)
            return last_whole(words) if words else EMPTY
        except FileNotFoundError:
            return EMPTY
        except ValueError:
            self._ignored()
            return EMPTY

    def _heard(self) -> tuple[dict[str, Snapshot], Snapshot]:
        """What was said by workers that are not in the past, and the past: as of one moment."""
        before, heard = self._get(_PAST), dict[str, Snapshot | None]()
        for _ in range(_TRIES):
            heard = {name: self._get(name) for name in self._names()}
            past = self._get(_PAST)
            if past is before:
                break
            before = past
        past = before or EMPTY
        self._remember(heard)
        return {name: said for name, said in heard.items() if said and name not in past.ended}, past

    def _names(self) -> set[str]:
        """The others that have left a trace; as they were known, where the folder cannot be read."""
        try:
            files: Iterable[str] = self._folder.names()
        except OSError:
            files = self._read
        return {name for name in files if _NAME.fullmatch(name)} - {self.name}

    def _remember(self, names: Iterable[str]) -> None:
        """Forget what others have said: whoever is not there any more is in the past."""
        self._read = {file: self._read[file] for file in (_PAST, *names) if file in self._read}

    def _get(self, file: str) -> Snapshot | None:
        """What a file says; what it said before, where it cannot be read or says nothing; None when it is gone.

        The past is never gone: who knows it writes it again.
        """
        written, before = self._read.get(file, ([], None))
        try:
            found = self._folder.read(file)
            if found and found != written:
                self._read[file] = found, before  # if it is no good, that is counted once
                self._read[file] = found, last_whole(found)
        except FileNotFoundError:
            if file != _PAST:
                self._read.pop(file, None)
        except (OSError, ValueError):
            self._ignored()
        return self._read.get(file, ([], None))[1]

    def _dead(self, name: str) -> bool:
        try:
            return self._folder.held(name) is False
        except OSError:
            return False  # nobody is declared dead on a doubt

    def _lives(self, name: str, said: Snapshot) -> bool:
        return said.good_until > self._now() and not self._dead(name)


def _frozen(own: Snapshot, said: Snapshot) -> Snapshot:
    """What a worker counts and shows that cannot tell the others: as it has told them, but for that it cannot."""
    faults = [one for one in own.counters if one[0] == WORKER_FAULTS.name]
    rest = [one for one in said.counters if one[0] != WORKER_FAULTS.name]
    return own._replace(counters=rest + faults, histograms=said.histograms)
