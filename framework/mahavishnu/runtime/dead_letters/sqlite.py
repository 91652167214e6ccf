"""Dead letters in a SQLite file: one writer's commit after another (WAL), each on the disk before it is said done."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from mahavishnu.runtime.dead_letters.letters import (
    LEFT_BEHIND,
    Bounds,
    Letter,
    LettersSilent,
    LettersUnreachable,
    Put,
    Standing,
    Stats,
)

IN_MEMORY = ":memory:"
OLDEST = (3, 37)
"""The first SQLite that knows STRICT tables; some systems bring an older one."""
_BUSY = 5.0  # seconds that one process waits for another one's commit
_AGAIN = 0.01
_EVERY = 1000  # ms from one emptying of the log to the next
_VERSION = 1
# Its columns are the fields of a Letter, in their order.
_TABLES = """
CREATE TABLE IF NOT EXISTS letters (
  id TEXT PRIMARY KEY, dependency TEXT NOT NULL, operation TEXT NOT NULL, key TEXT NOT NULL, payload BLOB NOT NULL,
  request TEXT NOT NULL, created INTEGER NOT NULL, due INTEGER NOT NULL, attempts INTEGER NOT NULL,
  error TEXT NOT NULL, quarantined INTEGER NOT NULL, token TEXT NOT NULL, UNIQUE (dependency, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS due ON letters (dependency, quarantined, due);
CREATE INDEX IF NOT EXISTS age ON letters (created, dependency, quarantined);
CREATE TABLE IF NOT EXISTS room (one INTEGER PRIMARY KEY CHECK (one = 1), entries INTEGER, size INTEGER) STRICT;
INSERT OR IGNORE INTO room VALUES (1, 0, 0);
CREATE TRIGGER IF NOT EXISTS kept AFTER INSERT ON letters BEGIN
  UPDATE room SET entries = entries + 1, size = size + length(NEW.payload);
END;
CREATE TRIGGER IF NOT EXISTS gone AFTER DELETE ON letters BEGIN
  UPDATE room SET entries = entries - 1, size = size - length(OLD.payload);
END;
PRAGMA user_version = 1;
"""
_INSERT = "INSERT INTO letters VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


class _Connection(sqlite3.Connection):
    """Closed with whoever had it: an app that is dropped and not ended, as in tests, has nothing to warn of."""

    def __del__(self) -> None:
        with suppress(sqlite3.Error):  # it was never opened
            self.close()


class SqliteLetters:
    """Implements `letters.Letters` in one file, readable by its owner alone; `now` is in ms since 1970.

    `counted` is the same without what somebody has set the time by: no letter is given up before it says so, too.
    Used by one thread at a time. Processes of one machine may share the file; the disk must not be a network's.
    """

    batch = 64

    def __init__(self, path: str, now: Callable[[], int], counted: Callable[[], int] | None = None) -> None:
        self._now = now
        self._counted = counted or now
        self._path = path
        self._open: sqlite3.Connection | None = None
        self._process = os.getpid()
        self._parents: sqlite3.Connection | None = None
        self._deleted = True  # by whoever was killed before
        self._emptied = 0

    @contextmanager
    def together(self) -> Generator[None, None, None]:
        """One transaction, so that what is done inside costs one write to the disk."""
        with self._said(LettersSilent):
            base = self.base
            base.execute("BEGIN IMMEDIATE")
        with self._said():
            try:
                yield
                base.execute("COMMIT")
            except BaseException:
                if base.in_transaction:
                    base.execute("ROLLBACK")
                raise
        if self._deleted and abs(self._now() - self._emptied) >= _EVERY:
            self._empty(base)

    def put(self, letter: Letter, pause: int, bounds: Bounds) -> tuple[Put, str, int]:
        with self._said():
            known, freed, lives = self.base.execute(
                "SELECT id, length(payload), NOT quarantined OR operation <> ? FROM letters "
                "WHERE dependency = ? AND key = ?",
                (letter.operation, letter.dependency, letter.key),
            ).fetchone() or ("", 0, False)
            if lives:
                return "known", known, 0
            displaced = self._make_room(letter, bounds, known, freed)
            if displaced is None:
                return "full", "", 0
            self._delete(known)
            now = self._now()
            row = _row(letter, now, now + pause)
            self.base.execute(_INSERT, row)
            return "stored", letter.id, displaced

    def take(self, dependency: str, most: int, lease: int, attempts: int) -> Sequence[Letter]:
        now = self._now()
        with self._said():
            self.base.execute(
                "UPDATE letters SET quarantined = 1, error = iif(token = '', error, ?), token = '' "
                "WHERE dependency = ? AND quarantined = 0 AND due <= ? AND attempts >= ?",
                (LEFT_BEHIND, dependency, now, attempts),
            )
            rows = self.base.execute(
                "UPDATE letters SET due = ?, attempts = attempts + 1, token = ? WHERE id IN (SELECT id FROM letters "
                "WHERE dependency = ? AND quarantined = 0 AND due <= ? ORDER BY due, created LIMIT ?) RETURNING *",
                (now + lease, uuid4().hex, dependency, now, most),
            ).fetchall()
        return sorted((_letter(row) for row in rows), key=lambda one: (one.created, one.id))

    def renew(self, letters: Iterable[Letter], lease: int) -> None:
        due = self._now() + lease
        with self._said():
            self.base.executemany(
                "UPDATE letters SET due = ? WHERE id = ? AND token = ?",
                [(due, one.id, one.token) for one in letters],
            )

    def done(self, letter: Letter) -> None:
        with self._said():
            self._delete(letter.id)

    def back(
        self, letter: Letter, pause: int, error: str, *, attempted: bool, quarantine: bool = False
    ) -> None:
        with self._said():
            self.base.execute(
                "UPDATE letters SET due = ?, error = ?, attempts = attempts - ?, quarantined = ?, token = '' "
                "WHERE id = ? AND token = ?",
                (self._now() + pause, error, int(not attempted), int(quarantine), letter.id, letter.token),
            )

    def prune(self, age: int) -> int:
        with self._said():
            before, self._deleted = min(self._now(), self._counted()) - age, True
            return self.base.execute("DELETE FROM letters WHERE created < ?", (before,)).rowcount

    def stats(self) -> Stats:
        with self._said():
            rows = self.base.execute(
                "SELECT dependency, quarantined, count(*), min(created) FROM letters GROUP BY 1, 2"
            ).fetchall()
            entries, size = self._room()
        of: dict[str, Standing] = {}
        now = self._now()
        for dependency, quarantined, count, oldest in rows:
            one = of.get(dependency, Standing())
            of[dependency] = (
                one._replace(quarantined=count)
                if quarantined
                else one._replace(waiting=count, age=max(0, now - oldest))
            )
        return Stats(of, entries, size)

    def some(self, most: int, dependency: str | None = None) -> Sequence[Letter]:
        with self._said():
            rows = self.base.execute(
                "SELECT * FROM letters WHERE ? IS NULL OR dependency = ? ORDER BY created, id LIMIT ?",
                (dependency, dependency, most),
            ).fetchall()
        return [_letter(row) for row in rows]

    def find(self, name: str) -> Letter | None:
        with self._said():
            row = self.base.execute("SELECT * FROM letters WHERE id = ?", (name,)).fetchone()
        return _letter(row) if row else None

    def redrive(self, ids: Iterable[str]) -> int:
        # One that is being worked on keeps its lease: nothing is done twice because somebody is impatient.
        again = (
            "UPDATE letters SET due = ?, attempts = 0, quarantined = 0, token = '' WHERE id = ? "
            "AND (token = '' OR due <= ?)"
        )
        with self._said():
            now = self._now()
            return sum(self.base.execute(again, (now, one, now)).rowcount for one in ids)

    def drop(self, ids: Iterable[str]) -> int:
        with self._said():
            return sum(self._delete(one) for one in ids)

    def close(self) -> None:
        self._forked()
        base, self._open = self._open, None
        if base is not None:
            if self._deleted:
                self._empty(base)
            base.close()

    @property
    def base(self) -> sqlite3.Connection:
        """The file, opened when it is first needed."""
        self._forked()
        if self._open is None:
            self._open = self._connected()
        return self._open

    def _forked(self) -> None:
        """What the parent of a fork has open is neither used nor closed in it: SQLite allows neither."""
        if self._process != os.getpid():
            self._process, self._parents, self._open = os.getpid(), self._open, None

    def _connected(self) -> sqlite3.Connection:
        if self._path != IN_MEMORY:
            _private(Path(self._path))
        base = sqlite3.connect(
            self._path, timeout=_BUSY, isolation_level=None, check_same_thread=False, factory=_Connection
        )
        try:
            # A commit is on the disk when it returns, so that neither a kill nor a power cut takes it back.
            _write_ahead(base)
            base.execute("PRAGMA synchronous = FULL")
            base.execute("PRAGMA secure_delete = ON")  # what is done leaves nothing readable behind
            version = base.execute("PRAGMA user_version").fetchone()[0]
            if version > _VERSION:
                raise sqlite3.DatabaseError("was written by a newer version")
            if version < _VERSION:
                base.executescript(f"BEGIN IMMEDIATE; {_TABLES} COMMIT;")
        except BaseException:
            base.close()
            raise
        return base

    def _delete(self, name: str) -> int:
        self._deleted = True
        return self.base.execute("DELETE FROM letters WHERE id = ?", (name,)).rowcount

    def _empty(self, base: sqlite3.Connection) -> None:
        """What was deleted is overwritten in the file, and still stands in its log until that is cut off.

        Not while somebody reads or writes: he is not waited for, and the next one tries again.
        """
        self._emptied = self._now()
        with suppress(sqlite3.Error):  # all that was promised is done
            base.execute("PRAGMA busy_timeout = 0")
            try:
                (busy, *_) = base.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                self._deleted = bool(busy)
            finally:
                base.execute(f"PRAGMA busy_timeout = {int(_BUSY * 1000)}")

    def _make_room(self, letter: Letter, bounds: Bounds, known: str, freed: int) -> int | None:
        """How many letters were given up so that this one fits in the place of the one known; None: it does not."""
        if letter.size > bounds.size:
            return None
        gone = 0
        while True:
            entries, size = self._room()
            if entries - bool(known) < bounds.entries and size - freed + letter.size <= bounds.size:
                return gone
            oldest = self.base.execute(
                "SELECT id FROM letters WHERE id <> ? AND (token = '' OR due <= ?) ORDER BY created, id LIMIT 1",
                (known, self._now()),
            ).fetchone()
            if not bounds.displace or oldest is None:
                return None
            self._delete(*oldest)
            gone += 1

    def _room(self) -> tuple[int, int]:
        entries, size = self.base.execute("SELECT entries, size FROM room").fetchone()
        return entries, size

    @contextmanager
    def _said(self, kind: type[LettersUnreachable] = LettersUnreachable) -> Generator[None, None, None]:
        """Faults in words of our own; the file is opened anew the next time."""
        try:
            yield
        except (sqlite3.Error, OSError) as fault:
            if not (self._open and self._open.in_transaction):
                self.close()
            reason = fault.strerror if isinstance(fault, OSError) else str(fault)
            raise kind(f"the dead letters in {self._path}: {reason}") from None


def _write_ahead(base: sqlite3.Connection) -> None:
    """As SQLite would wait for another process, which it does not where the kind of the journal changes."""
    until = time.monotonic() + _BUSY
    while True:
        try:
            base.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as fault:
            if fault.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
        time.sleep(_AGAIN)


def _private(path: Path) -> None:
    """A file, and a folder where it is missing, that nobody else may read: payloads are kept as they are."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))


def _row(one: Letter, created: int, due: int) -> tuple[object, ...]:
    head = (one.id, one.dependency, one.operation, one.key, one.payload, one.request)
    return (*head, created, due, one.attempts, one.error, int(one.quarantined), one.token)


def _letter(row: Sequence[Any]) -> Letter:
    said: dict[str, Any] = dict(zip(Letter.__slots__, row, strict=True))
    said["quarantined"] = bool(said["quarantined"])
    return Letter(**said)
