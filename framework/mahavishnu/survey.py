"""What is found where files are to be generated: the state of each path, and what becomes of it."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from mahavishnu import __version__
from mahavishnu.artifact import Artifact, header
from mahavishnu.files import folder, lock, notes
from mahavishnu.files.diffs import diff, visible
from mahavishnu.files.lock import LOCK, Lock
from mahavishnu.files.merges import unmerged
from mahavishnu.files.versions import later

_GONE = (
    "nothing makes this page any more; where it has a new name, `git mv` it there, and its notes come along\n"
)
_NO_PLACE = (
    "what is generated here has no place for notes: where your template makes it, let it write `{{ begin }}` and "
    "`{{ end }}`, each in a line of its own\n"
)
_UNMARKED = "a mark around its notes is gone, so that nobody can tell them from the rest: put it back\n"


class Kind(StrEnum):
    """How a file differs from what the spec says."""

    MISSING = "missing"
    """It is not there."""
    STALE = "stale"
    """It is as an earlier run wrote it."""
    ORPHANED = "orphaned"
    """It is as an earlier run wrote it, and nothing makes it any more."""
    EDITED = "edited"
    """It was generated, and somebody has changed it since."""
    FOREIGN = "foreign"
    """It is in the place of one of ours, and no run is known to have written it."""
    NOTED = "noted"
    """What people wrote into it would be lost."""
    CONFLICTED = "conflicted"
    """A merge left its marks in it."""
    UNMERGED = "unmerged"
    """It is as a run wrote it, but that a merge left its marks in what people wrote there."""
    IRREGULAR = "irregular"
    """No regular file: a link, a folder in the place of a file, or a file in the place of a folder."""
    NEWER = "newer"
    """A later version than this one wrote what the lock knows, and would write it otherwise."""
    OLDER = "older"
    """An earlier version than this one did."""
    ENVIRONMENT = "environment"
    """It says that all of it was generated for another environment."""
    BESIDE = "beside"
    """It is in nobody's place, but could be taken for one of ours."""


# What is written over only when somebody says so, and what not even then; the rest hinders nobody.
_ASKS = frozenset({Kind.ENVIRONMENT, Kind.NEWER, Kind.CONFLICTED, Kind.EDITED, Kind.FOREIGN})
_NEVER = frozenset({Kind.NOTED, Kind.IRREGULAR})
_LOADED = (".yml", ".yaml", ".json")  # of a whole folder, by Prometheus, Grafana, `kubectl apply -f`


class Drift(NamedTuple):
    """One file that is not as the spec says: how, which (below the output folder), a diff for people, and its line."""

    kind: Kind
    path: str
    diff: str = ""
    line: int = 0

    @property
    def place(self) -> str:
        """The path, with the line where it is about one."""
        return f"{self.path}:{self.line}" if self.line else self.path


class Survey(NamedTuple):
    """The folder as it should be, as it is (None: no regular file), and the digests of now and of earlier runs.

    `elsewhere` are those of files that were not looked at; `before` is the version that wrote the lock, if it says so,
    `environment` the one that all of this is for, and `held` the one that the lock is for (None: it does not say).
    """

    wanted: Mapping[str, bytes]
    found: Mapping[str, bytes | None]
    digests: Mapping[str, str]
    known: Mapping[str, AbstractSet[str]]
    spec_hash: str
    elsewhere: Mapping[str, AbstractSet[str]]
    beside: tuple[str, ...]
    before: str
    environment: str = ""
    held: str | None = None

    @classmethod
    def of(
        cls,
        out: Path,
        artifacts: Iterable[Artifact],
        spec_hash: str,
        only: Container[str] | None,
        environment: str = "",
    ) -> Survey:
        """Look at the folder; with `only`, not at what is outside the folders of these names."""
        fresh = {one.path: one.text.encode() for one in artifacts}
        before = lock.read(folder.scan(out, [LOCK]).files.get(LOCK))
        every = before.digests.items()
        known = {path: one for path, one in every if only is None or path.split("/")[0] in only}
        elsewhere = {path: one for path, one in every if path not in known}
        found, others = folder.scan(out, {LOCK, *fresh, *known})
        wanted = {
            path: notes.carried(page, notes.written(found.get(path) or b"")) for path, page in fresh.items()
        }
        digests = {path: lock.digest(content) for path, content in wanted.items()}
        beside = tuple(sorted(_confusable(out, others, {*fresh, *known})))
        last = (before.version, environment, before.environment)
        return cls(wanted, found, digests, known, spec_hash, elsewhere, beside, *last)

    def paths(self) -> set[str]:
        return {LOCK, *self.wanted, *self.known}

    def changed(self) -> tuple[str, ...]:
        return tuple(sorted(path for path, content in self.wanted.items() if self.found.get(path) != content))

    def removed(self) -> tuple[str, ...]:
        return tuple(sorted(path for path in self.known if path in self.found and path not in self.wanted))

    def drifts(self) -> tuple[Drift, ...]:
        """Everything that is not as it should be, the lock last; of another environment's folder, that it is one."""
        return self._of_another_environment() or self._every_drift()

    def _every_drift(self) -> tuple[Drift, ...]:
        paths = sorted({*self.wanted, *self.found} - {LOCK})
        drifts = [one for path in paths if (one := self._drift(path))]
        return (*drifts, *self._beside(), *self._drift_of_lock())

    def obstacles(self, *, force: bool) -> tuple[Drift, ...]:
        """What may not be overwritten: edits and foreign files; by force still what is no regular file, and notes."""
        kinds = _NEVER if force else _NEVER | _ASKS
        drifts = self._every_drift() if force else self.drifts()
        found = tuple(one for one in drifts if one.kind in kinds)
        # A lock with the marks of a merge says why files are not known, and is written anew where all of them are.
        return found if any(one.path != LOCK or one.kind is not Kind.CONFLICTED for one in found) else ()

    def left(self) -> tuple[Drift, ...]:
        """What is still to be told of when everything has been written."""
        pages = ((path, unmerged(page)) for path, page in sorted(self.wanted.items()))
        notes_of = (Drift(Kind.UNMERGED, path, line=marks.line) for path, marks in pages if marks)
        return (*notes_of, *self._beside())

    def other_version(self) -> str:
        """The version whose files this one writes anew; nothing where it is the same, or a part is left as it is."""
        differs = any(one.kind in (Kind.NEWER, Kind.OLDER) for one in self._drift_of_lock())
        return self.before if differs and not self.elsewhere else ""

    def _of_another_environment(self) -> tuple[Drift, ...]:
        if self.held in (None, self.environment):
            return ()
        told = f"generated for {_world(self.held)}, and this is for {_world(self.environment)}\n"
        return (Drift(Kind.ENVIRONMENT, LOCK, told),)

    def _beside(self) -> tuple[Drift, ...]:
        return tuple(Drift(Kind.BESIDE, path) for path in self.beside)

    def rounds(self) -> list[list[folder.Step]]:
        """What is to be written, each round on the disk before the next one."""
        changes = [folder.Step(path, self.wanted[path]) for path in self.changed()]
        changes += [folder.Step(path, None) for path in self.removed()]
        if not changes and self.found.get(LOCK) == self.lock():
            return []
        both, last = folder.Step(LOCK, self._lock_of_both()), folder.Step(LOCK, self.lock())
        # Where there was nothing to remember, as in a first run, the two locks say the same.
        return [[both], changes, *([[last]] if last != both else [])]

    def lock(self) -> bytes:
        """The lock of a finished run: one digest for each file."""
        return self._lock(self._final(), self._version())

    def _lock_of_both(self) -> bytes:
        """The lock of a run under way: every digest that a file of ours may have, before or after."""
        both = {path: set(digests) for path, digests in self.known.items()}
        for path, digest in self.digests.items():
            both.setdefault(path, set()).add(digest)
        return self._lock(both, self._version())

    def _final(self) -> Mapping[str, AbstractSet[str]]:
        return {path: {digest} for path, digest in self.digests.items()}

    def _version(self) -> str:
        """This version; the one before where this one writes the same, or has not looked at everything."""
        same = self.elsewhere or self._lock(self._final(), self.before) == self.found.get(LOCK)
        return self.before if self.before and same else __version__

    def _lock(self, files: Mapping[str, AbstractSet[str]], version: str) -> bytes:
        return Lock({**self.elsewhere, **files}, self.spec_hash, version, self.environment).text()

    def _drift(self, path: str) -> Drift | None:
        if path not in self.found:
            return Drift(Kind.MISSING, path)
        found, wanted = self.found[path], self.wanted.get(path)
        if found is None:
            return Drift(Kind.IRREGULAR, path)
        if lost := self._lost(path, found, wanted):
            return Drift(Kind.NOTED, path, lost)
        marks = unmerged(found)
        if found == wanted or self._generated(path, found):
            if marks:  # in the notes, then
                return Drift(Kind.UNMERGED, path, line=marks.line)
            return self._ours(path, found, wanted)
        if marks:
            return Drift(Kind.CONFLICTED, path, line=marks.line)
        kind = Kind.EDITED if path in self.known else Kind.FOREIGN
        return Drift(kind, path, diff(path, wanted or b"", found))

    def _ours(self, path: str, found: bytes, wanted: bytes | None) -> Drift | None:
        """What becomes of a file that is as a run wrote it."""
        if found == wanted:
            return None
        if wanted is None:
            return Drift(Kind.ORPHANED, path)
        return Drift(Kind.STALE, path, diff(path, found, wanted))

    def _generated(self, path: str, found: bytes) -> bool:
        """Whether a file is as a run wrote it: there, or, where one of ours goes, elsewhere, as after `git mv`."""
        places = (path,) if path not in self.wanted else self.known
        digest = lock.digest(found)
        return any(digest in self.known.get(place, ()) for place in places)

    def _lost(self, path: str, found: bytes, wanted: bytes | None) -> str:
        """Why what people wrote into a page would be lost, and their words; nothing where it would not be."""
        words = notes.written(found).strip()
        if wanted is not None and notes.placed(wanted):
            told = bool(found.strip()) and not notes.placed(found) and not self._generated(path, found)
            return _UNMARKED if told else ""
        why = _GONE if wanted is None else _NO_PLACE
        return "".join(f"{line}\n" for line in (why.rstrip(), *visible(words + b"\n"))) if words else ""

    def _drift_of_lock(self) -> tuple[Drift, ...]:
        if LOCK not in self.found:
            return (Drift(Kind.MISSING, LOCK),)
        found = self.found[LOCK]
        if found is None:
            return (Drift(Kind.IRREGULAR, LOCK),)
        if marks := unmerged(found):
            return (Drift(Kind.CONFLICTED, LOCK, line=marks.line),)
        if found == self.lock():
            return ()
        told = f"generated by {self.before}, and this is {__version__}\n"
        if later(self.before, __version__):
            return (Drift(Kind.NEWER, LOCK, told),)
        return (
            Drift(Kind.OLDER, LOCK, told) if later(__version__, self.before) else Drift(Kind.STALE, LOCK),
        )


def _world(environment: str | None) -> str:
    return f"the environment `{environment}`" if environment else "no environment"


def _confusable(out: Path, beside: Iterable[str], ours: AbstractSet[str]) -> Iterator[str]:
    """Files that somebody could take for ours: who loads the whole folder, or a person, since they say so themselves.

    What is hidden is nobody's business, and what editors and merges leave has an ending that nobody loads.
    """
    loaded = {path.rpartition("/")[0] for path in ours if path.endswith(_LOADED)}
    for path in beside:
        place, _, name = path.rpartition("/")
        if name.startswith("."):
            continue
        start = header(path).encode()
        if (place in loaded and name.endswith(_LOADED)) or (start and folder.begins(out, path, start)):
            yield path
