"""One backup of a spec on this machine: its repositories, its places, its hooks, and what is known of it."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Protocol

from mahavishnu.backup import child, evidence
from mahavishnu.backup.evidence import Evidence
from mahavishnu.backup.hiding import hiding
from mahavishnu.backup.patience import Busy, Patience
from mahavishnu.backup.restic import Repository, Taken, version
from mahavishnu.backup.ssh import Entry
from mahavishnu.backup.turns import Turn
from mahavishnu.errors import MahavishnuError
from mahavishnu.ground.environments import called
from mahavishnu.ground.secret_refs import name_of, names_in
from mahavishnu.load import Loaded
from mahavishnu.policies.backup import Backup
from mahavishnu.runtime.secret_values import resolved, secret
from mahavishnu.snapshots.retention import Keep, guaranteed
from mahavishnu.snapshots.series import STEPS
from mahavishnu.snapshots.sftp import server
from mahavishnu.units import SECOND, Duration

SCHEDULED = Duration.parse("12h")
"""So long a step waits for another: through the longest night, and not until it is due again."""
TYPED = Duration.parse("15m")
"""So long a person does who waits for an answer."""
_LOOKING = ("verify", "drill")
"""Steps whose failure says that backups are damaged; who waited for others until he gave up has not seen that."""
AHEAD = 3600
"""A snapshot may be so many seconds ahead of this clock, and no more."""


class Tell(Protocol):
    """Hears what happens: an event, and the facts of it; `progress` comes often, with `done` from 0 to 1."""

    def __call__(self, event: str, **facts: object) -> None: ...


class Failed(MahavishnuError):
    """A step did not succeed; it says what each copy met."""


@dataclass(frozen=True)
class Job:
    """A backup by its name, with everything that its steps need; `now` is the wall clock, seconds since 1970."""

    name: str
    backup: Backup
    keep: Keep | None
    host: str
    home: Path
    state: Path
    tell: Tell
    environment: str | None = None
    """Its snapshots are its own, also where several share a repository."""
    now: Callable[[], float] = time.time
    patience: Duration = SCHEDULED
    """How long it waits until nobody else works on what it needs."""

    @property
    def staging(self) -> Path:
        """Where a source is copied to and a drill restored: emptied before and after each run."""
        return self.state / "scratch" / self.name

    def secret(self, reference: str) -> str:
        """The value behind `${NAME}`; raises MahavishnuError where nothing says it."""
        return secret(name_of(reference))

    @property
    def mark(self) -> str:
        """Its name among those of all environments."""
        return called(self.name, self.environment)

    @property
    def report(self) -> str:
        """The name of what is known of it, also among those of other services."""
        return evidence.about(self.host, self.mark)

    @property
    def none(self) -> str:
        """What is said of a repository where nothing of it can be restored."""
        where = f" in `{self.environment}`" if self.environment else ""
        return f"there is no snapshot of this backup{where} that is whole"

    def repositories(self) -> dict[str, Repository]:
        """Its repositories by the names of the copies; raises NoRestic first."""
        found, password = version(), self.secret(self.backup.password)
        credentials = {name_of(one): self.secret(one) for one in self.backup.credentials}
        cache = self.state / "scratch/.cache"
        made: dict[str, Repository] = {}
        for copy, place in self.backup.places.items():
            told = [secret(name) for name in names_in(place)]
            entry = self._entry(place)
            key = (entry.key,) if entry else ()
            clean = hiding((password, *key, *credentials.values(), *told))
            made[copy] = Repository(
                self._place(place),
                password,
                credentials,
                cache,
                self.host,
                f"backup={self.mark}",
                clean,
                found,
                entry,
                self._retried(copy),
                self._patience(_repository_of(copy)),
            )
        return made

    def repository(self, copy: str) -> Repository:
        """That of one copy; raises Failed with those there are."""
        there = self.repositories()
        if copy not in there:
            raise Failed(f"there is no copy {copy}; there is {', '.join(there)}")
        return there[copy]

    def _retried(self, copy: str) -> Callable[[str], None]:
        return lambda why: self.tell("retrying", copy=copy, why=why)

    def _entry(self, place: str) -> Entry | None:
        ssh, there = self.backup.ssh, server(resolved(place))
        return None if ssh is None or there is None else Entry(there, self.secret(ssh.key), ssh.known_hosts)

    def _place(self, place: str) -> str:
        return resolved(place) if ":" in place else str(self.home / place)

    def known(self) -> Evidence:
        """What is known of it, in this environment and of these repositories."""
        return evidence.among(evidence.read(self.state, self.report), self.backup.places)

    @contextmanager
    def step(self, step: str) -> Generator[Evidence]:
        """Do something alone, with an empty staging folder; how one of `STEPS` ended is written down."""
        with self._turn(f"backup `{self.name}`", self.name).taken(partial(self._signature, step)):
            known = self.known()
            ended: bool | None = False
            try:
                self._empty_staging()
                yield known
                ended = True
            except Busy:
                ended = None if step in _LOOKING else False
                raise
            finally:
                self.sweep()
                self._note(known, step, ended)

    def _note(self, known: Evidence, step: str, ended: bool | None) -> None:
        """Write down how one of `STEPS` ended, and what is known now; None: as before, for it has found nothing."""
        if step in STEPS:
            known.steps |= {} if ended is None else {step: ended}
            self._write(known)

    def _empty_staging(self) -> None:
        try:
            remove(self.staging)
            self.staging.mkdir(mode=0o700, parents=True)
        except OSError as fault:
            what = f"`{self.staging}` cannot be emptied: {fault.strerror} (`{fault.filename}`)"
            raise Failed(what) from None

    def alone(self, step: str, copy: str) -> AbstractContextManager[None]:
        """Work on a repository while no other backup of this spec does: to make it, remove from it or check it."""
        return self._at(copy).taken(partial(self._signature, step))

    def beside(self, step: str, copy: str) -> AbstractContextManager[None]:
        """Work on a repository while others may, who only add to it and read it."""
        return self._at(copy).taken(partial(self._signature, step), beside=True)

    def _at(self, copy: str) -> Turn:
        place = self.backup.places[copy]
        whole = place if ":" in place else str(self.home / place)
        name = f"repository-{hashlib.sha256(whole.encode()).hexdigest()[:16]}"
        return self._turn(_repository_of(copy), name)

    def _turn(self, what: str, name: str) -> Turn:
        return Turn(self.state / f".{name}.lock", self._patience(what))

    def _patience(self, what: str) -> Patience:
        def hears(held_by: str) -> None:
            self.tell("waiting", what=what, at_most=str(self.patience), held_by=held_by)

        return Patience(what, self.patience, hears)

    def _signature(self, step: str) -> str:
        since = datetime.fromtimestamp(self.now(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return f"`{step}` of `{self.mark}` since {since} (process {os.getpid()} on {socket.gethostname()})"

    def _write(self, known: Evidence) -> None:
        for copy, one in known.copies.items():
            one.place = evidence.placed(self.backup.places[copy])
        try:
            evidence.write(self.state, self.report, known)
        except OSError as fault:
            what = f"what happened cannot be written to `{self.state}`: {fault.strerror}"
            raise Failed(what) from None

    def sweep(self) -> None:
        """Remove what this run has left in the staging folder; the next one says why where that cannot be."""
        with suppress(OSError):
            remove(self.staging)

    def hook(self, when: str, outcome: str) -> None:
        """Run a hook, where there is one; raises Failed when it fails."""
        words = self.backup.hooks.before if when == "before" else self.backup.hooks.after
        if words is None:
            return
        try:
            # A pipe would last as long as what the hook leaves behind.
            with Path(os.devnull).open("wb") as nowhere:
                told = {"BACKUP_NAME": self.name, "BACKUP_OUTCOME": outcome}
                done = child.run(words, told, stdout=nowhere)
        except OSError as fault:
            raise Failed(f"the hook `{when}` cannot be run: {fault.strerror}") from None
        if done.code:
            raise Failed(f"the hook `{when}` failed ({done.code}): {' '.join(done.err.split())[-300:]}")

    def take_stock(self, known: Evidence, copy: str, taken: list[Taken]) -> None:
        """Write down how many snapshots a copy has, and how far they reach: one that lies ahead proves nothing."""
        one = known.copy(copy)
        until = self.now() + AHEAD
        times = [at for at in (each.snapshot.order / SECOND for each in taken) if at <= until]
        one.snapshots = len(taken)
        one.newest, one.oldest = (max(times), min(times)) if times else (0, 0)
        one.promise(int(guaranteed(self.keep, self.backup.schedule)) / SECOND if self.keep else 0)

    def still_there(self, known: Evidence, copy: str, taken: list[Taken]) -> None:
        """Raises Failed where there is no whole snapshot, or where the one of the last backup is gone."""
        if not taken:
            raise Failed(self.none)
        last = known.copy(copy).snapshot
        if last and not any(one.is_called(last) for one in taken):
            raise Failed(f"the snapshot of the last backup, {last[:8]}, is gone: somebody has removed it")


def _repository_of(copy: str) -> str:
    return f"the repository of copy {copy}"


def remove(folder: Path) -> None:
    """Remove a folder, if it is there, with all that is in it, also what nobody may write to; raises OSError."""
    for above, names, _ in os.walk(folder):
        for inner in (Path(above, name) for name in names):
            if not inner.is_symlink():
                inner.chmod(0o700)
    with suppress(FileNotFoundError):
        shutil.rmtree(folder)


def job(loaded: Loaded, name: str, tell: Tell, now: Callable[[], float] = time.time) -> Job:
    """The backup of that name; raises MahavishnuError with those there are."""
    spec = loaded.spec
    if name not in spec.backups:
        there = ", ".join(f"`{one}`" for one in spec.backups) or "none in this spec"
        raise MahavishnuError(f"there is no backup `{name}`; there is {there}")
    home = loaded.path.resolve().parent
    state = evidence.folder(loaded.path.resolve())
    keep = spec.keeps(name)
    return Job(name, spec.backups[name], keep, spec.service.name, home, state, tell, spec.environment, now)
