"""restic, driven: the commands that are needed, in the forms that every version since 0.14 knows."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from mahavishnu.backup import child
from mahavishnu.backup.patience import UNNAMED, Busy, Locked, Patience, growing
from mahavishnu.backup.ssh import Entry, Opened
from mahavishnu.errors import MahavishnuError
from mahavishnu.snapshots.retention import Snapshot
from mahavishnu.units import SECOND, Duration

FLOOR = (0, 14)
KEEPS_OLDEST = (0, 16)
GET = (
    "restic is not on the PATH, and nothing is backed up without it: `apt-get install restic`, or "
    "https://restic.net (0.14 or newer)"
)
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")
_ID = re.compile(r"[0-9a-f]{64}")
_AGAIN = ", retrying after "
_NO_REPOSITORY = "Is there a repository at the following location?"
_NOTHING = re.compile(r"not exist|n't exist|no such file|not found|\b404\b", re.IGNORECASE)
"""What the stores say where nothing is."""
_HELP: Mapping[str, str] = {
    "config or key": "where several jobs made this repository at once, it is ruined, and what was saved in it is lost: "
    "move its folder away, or name another place in `to`, and let one job make the new one before the others",
    "wrong password": "is `password` the secret that it was made with?",
    "load key": "`ssh.key` is to hold a private key without a passphrase",
    "permission denied (publickey": "does the server's authorized_keys hold the public half of `ssh.key`?",
    "host key is known": "`ssh.known_hosts` lacks the server's key",
    "identification has changed": "the server's key is not that of `ssh.known_hosts`: find out why before you trust it",
    "access key id": "see the secrets of `credentials`",
    "signature we calculated": "see the secrets of `credentials`",
    "access denied": "may the user of `credentials` read, write and delete there?",
    "connection refused": "nobody answers there: is the server up, and the address right?",
    "no such host": "nobody has that name: is the address right?",
    "could not resolve hostname": "nobody has that name: is the address right?",
    "timed out": "nobody answers there: is the server up, and does a firewall let the jobs through?",
}
"""What to do about what restic, and the ssh that it calls, say: the nearer to the cause, the earlier."""
_LOCKED = re.compile(r"already locked (?:exclusively )?by ([^\\\n]+)")
_LOCKED_OUT = 11  # since 0.17, as the next
_ABSENT = 10  # since 0.17; before, every failure is 1
_PARTLY = 3  # there is a snapshot, and it lacks something
_GONE = ": no such file or directory"
_INCOMPLETE = "incomplete"


class NoRestic(MahavishnuError):
    """There is no restic that can be used."""


class ResticFailed(MahavishnuError):
    """restic ended with a failure; its message has no secret in it."""

    def __init__(self, sentence: str, *, code: int = 1, absent: bool = False) -> None:
        super().__init__(sentence)
        self.code, self.absent = code, absent


@dataclass(frozen=True)
class Taken:
    """A snapshot as the repository lists it: what the policy needs, its tags, and the paths in it."""

    snapshot: Snapshot
    tags: tuple[str, ...]
    host: str
    paths: tuple[str, ...]
    original: str = ""
    """The id that it had before its tags were changed."""

    @property
    def id(self) -> str:
        return self.snapshot.id

    @property
    def group(self) -> tuple[str, tuple[str, ...]]:
        """What restic groups by unless it is told otherwise."""
        return self.host, self.paths

    def is_called(self, name: str) -> bool:
        """Whether that is its id, or was, or the beginning of one."""
        return self.id.startswith(name) or self.original.startswith(name)

    def tag(self, name: str) -> str | None:
        """The value of a tag `name=value`."""
        return next((tag.partition("=")[2] for tag in self.tags if tag.startswith(f"{name}=")), None)


class Listed(NamedTuple):
    """Our snapshots, the newest first: those that are whole, and those that lack files; how many nobody understands."""

    taken: list[Taken]
    incomplete: list[Taken]
    odd: int

    @classmethod
    def of(cls, said: Sequence[Taken | None]) -> Listed:
        """Parted. A store that is append-only holds one that was marked also as it was before."""
        known = sorted((one for one in said if one is not None), key=lambda one: -one.snapshot.order)
        lacking = {name for one in known if _INCOMPLETE in one.tags for name in (one.id, one.original)}
        whole = [one for one in known if one.id not in lacking]
        return cls(whole, [one for one in known if one.id in lacking], len(said) - len(known))


class Saved(NamedTuple):
    """A snapshot that was just made: its id, and how many bytes restic has read for it."""

    snapshot: str
    size: int


def _to_nobody(_: str) -> None: ...


_NONE_AT_ALL = Patience("the repository", Duration(0), _to_nobody)


class _Reading:
    """What restic complains of while it reads files; that it tries again is handed on, once."""

    def __init__(self, retries: Callable[[str], bool]) -> None:
        self._retries = retries
        self._told = self._missed = self._gone = False

    def heard(self, complaint: str) -> bool:
        """A file that was deleted before it was read is not missed; since 0.18 restic says nothing of it."""
        self._told = self._told or self._retries(complaint)
        if _object(complaint).get("message_type") == "error":
            gone = _spoken(complaint).endswith(_GONE)
            self._gone |= gone
            self._missed |= not gone
        return False

    @property
    def whole(self) -> bool:
        """Whether nothing but what was deleted could not be read."""
        return self._gone and not self._missed


@dataclass(frozen=True)
class Repository:
    """One repository, with what is needed to open it; `host` and `mark` (a tag) say which snapshots are ours."""

    place: str
    password: str
    credentials: Mapping[str, str]
    cache: Path | None
    """What restic remembers of it on this machine; None: nothing."""
    host: str
    mark: str
    clean: Callable[[str], str] = str
    """A text without any secret of this repository."""
    version: tuple[int, int] = FLOOR
    entry: Entry | None = None
    """What lets restic in where it goes by ssh; else ssh's own files do."""
    retried: Callable[[str], None] = _to_nobody
    """Told why restic tries something again: once for each command, which may go on so for a quarter of an hour."""
    patience: Patience = _NONE_AT_ALL
    """How long each command waits while somebody else has it locked."""

    def __repr__(self) -> str:
        return "Repository(…)"

    def init(self) -> None:
        """Make it; restic refuses where one is."""
        self.call("init")

    def unlock(self) -> None:
        """Remove locks whose process is gone, and no others."""
        self.call("unlock")

    def snapshots(self) -> Listed:
        """Our snapshots."""
        return Listed.of([parsed(one) for one in _objects(self.call("snapshots", "--json", *self._ours()))])

    def save(
        self,
        source: Sequence[str],
        tags: Sequence[str],
        stdin: IO[bytes] | None,
        told: Callable[[float], None],
        least: int = 1,
    ) -> Saved:
        """Make a snapshot of paths or of standard input; raises ResticFailed when any of it is missing.

        Only what was deleted meanwhile is not missed, so long as there are `least` bytes. A snapshot that lacks
        something else is marked.
        """
        found: dict[str, Any] = {}

        def line(text: str) -> bool:
            said = _object(text)
            if said.get("message_type") == "status":
                told(float(said.get("percent_done", 0)))
            if said.get("message_type") == "summary":
                found.update(said)
            return True

        marks = [word for tag in ("mahavishnu", self.mark, *tags) for word in ("--tag", tag)]
        words = ("backup", "--json", "--host", self.host, *marks, *source)
        reading = _Reading(self._retries)
        try:
            self.call(*words, stdin=stdin, on_line=line, on_complaint=reading.heard)
        except ResticFailed as fault:
            if fault.code != _PARTLY or not found:
                raise
            if not reading.whole:
                raise self._marked(str(found["snapshot_id"]), fault) from None
        if not found.get("snapshot_id"):
            raise ResticFailed("restic ended well and made no snapshot")
        saved = Saved(str(found["snapshot_id"]), int(found.get("total_bytes_processed", 0)))
        if saved.size < least:
            few = f"restic has read {saved.size} bytes where at least {least} are to be"
            raise self._marked(saved.snapshot, ResticFailed(f"{few}: the source was changed meanwhile"))
        return saved

    def _marked(self, snapshot: str, fault: ResticFailed) -> ResticFailed:
        try:
            self.call("tag", "--add", _INCOMPLETE, snapshot)
        except (ResticFailed, Busy) as why:
            said = f"{fault}; snapshot {snapshot[:8]} lacks that, and cannot be marked as incomplete: {why}"
        else:
            said = f"{fault}; what it could read is a snapshot that is marked as incomplete"
        return ResticFailed(said)

    def dry_run(self, policy: Sequence[str]) -> tuple[set[str], set[str]]:
        """The ids that restic would keep and remove of ours by a policy; nothing is removed."""
        words = ("forget", "--dry-run", "--json", "--group-by", "host,paths", *self._ours(), *policy)
        groups = _objects(self.call(*words))
        return _ids(groups, "keep"), _ids(groups, "remove")

    def forget(self, ids: Sequence[str]) -> None:
        """Remove these snapshots and no others, then the data that only they had."""
        if not ids or not all(_ID.fullmatch(one) for one in ids):
            raise AssertionError("snapshots are removed by their whole ids only")
        self.call("forget", *ids)
        self.call("prune")

    def check(self, part: str | None) -> None:
        """Check the structure, and read a part of the data (`2/7`), or all; raises ResticFailed for any damage."""
        self.call("check", f"--read-data-subset={part}" if part else "--read-data")

    def restore(self, snapshot: str, target: Path) -> None:
        """Write a snapshot's files below a folder."""
        self.call("restore", snapshot, "--target", str(target))

    def files(self, snapshot: str) -> Iterator[tuple[str, int]]:
        """The path and size of every regular file in a snapshot."""
        for text in self.call("ls", "--json", snapshot).splitlines():
            said = _object(text)
            if said.get("struct_type") == "node" and said.get("type") == "file":
                yield str(said["path"]), int(said.get("size", 0))

    def call(
        self,
        *words: str,
        stdin: IO[bytes] | None = None,
        on_line: Callable[[str], bool] | None = None,
        on_complaint: Callable[[str], bool] | None = None,
    ) -> str:
        """One command; its output. Any exit code but 0 is a failure: what others mean depends on the version.

        Where somebody else has the repository locked it is tried again; raises Busy when that does not end. restic
        takes its lock before it reads `stdin`.
        """
        attempt = partial(self._attempt, words, stdin, on_line, on_complaint or self._retries)
        try:
            return self.patience.tried(attempt, growing())
        except Locked as holder:
            raise Busy(
                f"{self.patience.what} was locked for {self.patience.bound} by {holder}. "
                "End that process; or wait longer, with --wait"
            ) from None

    def _attempt(
        self,
        words: Sequence[str],
        stdin: IO[bytes] | None,
        on_line: Callable[[str], bool] | None,
        on_complaint: Callable[[str], bool],
    ) -> str:
        with ExitStack() as stack:
            paths = [stack.enter_context(child.handed(text)) for text in (self.password, self.place)]
            env = {
                **self.credentials,
                "RESTIC_PASSWORD_FILE": paths[0],
                "RESTIC_REPOSITORY_FILE": paths[1],
                **({"RESTIC_CACHE_DIR": str(self.cache)} if self.cache else {}),
            }
            unremembering = () if self.cache else ("--no-cache",)
            entry = stack.enter_context(self.entry.opened()) if self.entry else Opened()
            done = child.run(
                [program(), *entry.words, *unremembering, *words],
                env,
                handed_paths=paths,
                stdin=stdin,
                on_line=on_line,
                on_complaint=on_complaint,
            )
            if _locked_out(done):
                raise self._locked(done)
            if done.code:
                raise self._failed(words[0], done, entry.said())
        return done.out

    def _locked(self, done: child.Done) -> Locked:
        """By whom; a lock whose process is gone is removed, so that nobody waits for it."""
        with suppress(ResticFailed):
            self.unlock()
        by = _LOCKED.search(done.err)
        return Locked(self.clean(by[1].strip()) if by else UNNAMED)

    def _failed(self, verb: str, done: child.Done, by_ssh: str) -> ResticFailed:
        said = [_spoken(line) for line in self.clean(done.err or done.out).splitlines()]
        why = " ".join(line.strip() for line in (*self.clean(by_ssh).splitlines()[-4:], *said[-4:]))
        causes = f"{by_ssh}{done.err}".lower()
        help_ = next((f"; {text}" for mark, text in _HELP.items() if mark in causes), "")
        # Before 0.17 it asks whether there is a repository whatever it was that kept it from one.
        absent = done.code == _ABSENT if self.version >= (0, 17) else _none_there(done.err) and not help_
        return ResticFailed(
            f"restic {verb} failed ({done.code}): {why}{help_}", code=done.code, absent=absent
        )

    def _retries(self, complaint: str) -> bool:
        tries = _AGAIN in complaint
        if tries:
            self.retried(self.clean(complaint))
        return tries

    def _ours(self) -> tuple[str, ...]:
        return "--host", self.host, "--tag", self.mark


def program() -> str:
    """The path of restic; raises NoRestic."""
    found = shutil.which("restic")
    if found is None:
        raise NoRestic(GET)
    return found


def version() -> tuple[int, int]:
    """Major and minor of the restic that is here; raises NoRestic when it is none, or too old."""
    said = child.run([program(), "version"], {}).out
    match = re.match(r"restic (\d+)\.(\d+)", said)
    found = (int(match[1]), int(match[2])) if match else (0, 0)
    if found < FLOOR:
        raise NoRestic(f"this restic is too old ({said.strip() or 'of no version'}); {GET}")
    return found


def parsed(said: Mapping[str, Any]) -> Taken | None:
    """A snapshot from restic's JSON; None where it has no id or no time that can be understood."""
    match = _TIME.fullmatch(str(said.get("time")))
    name = str(said.get("id"))
    if match is None or not _ID.fullmatch(name):
        return None
    try:
        at = datetime.fromisoformat(match[1] + match[3].replace("Z", "+00:00"))
        order = int(at.timestamp()) * SECOND + int((match[2] or "").ljust(9, "0"))
    except (ValueError, OverflowError):
        return None
    listed = (tuple(map(str, cast("list[Any]", said.get(key) or []))) for key in ("tags", "paths"))
    tags, paths = listed
    return Taken(
        Snapshot(name, at, order), tags, str(said.get("hostname", "")), paths, str(said.get("original", ""))
    )


def _ids(groups: Sequence[Mapping[str, Any]], key: str) -> set[str]:
    listed = (cast("list[Mapping[str, Any]]", group.get(key) or []) for group in groups)
    return {str(one["id"]) for of_group in listed for one in of_group}


def _locked_out(done: child.Done) -> bool:
    return done.code == _LOCKED_OUT or bool(done.code and _LOCKED.search(done.err))


def _none_there(complaint: str) -> bool:
    """Before 0.17 it asks whether there is a repository whatever it was that kept it from one: that comes first."""
    why, asked, _ = complaint.partition(_NO_REPOSITORY)
    return bool(asked and _NOTHING.search(why))


def _spoken(line: str) -> str:
    """What a line says: of files in JSON, and since 0.17 of anything, where a command answers in it."""
    said = _object(line)
    fault = said.get("error")
    inner: Mapping[str, Any] = cast("Mapping[str, Any]", fault) if isinstance(fault, dict) else {}
    if isinstance(number := inner.get("Err"), int):
        return f"{inner.get('Op')} {inner.get('Path')}: {os.strerror(number).lower()}"
    return str(said.get("message") or inner.get("message") or line)


def _objects(text: str) -> list[Mapping[str, Any]]:
    """A list; restic writes nothing, or null, for an empty one."""
    return cast("list[Mapping[str, Any]]", json.loads(text or "[]") or [])


def _object(text: str) -> Mapping[str, Any]:
    try:
        said = json.loads(text)
    except ValueError:
        return {}
    return cast("Mapping[str, Any]", said) if isinstance(said, dict) else {}
