"""What is known of a backup: one small file for each, written whole by its jobs and read by the service."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, cast

from mahavishnu.ground import variables

FOLDER = variables.STATE
"""The variable that names the folder; without it `.mahavishnu/backups` beside the spec."""
REMEMBERED = 7
ALL = 0
_LARGEST = 64 * 1024
_TEXTS = ("snapshot", "place")


@dataclass
class Copy:
    """What is known of one repository; times are seconds since 1970, lengths seconds, sizes bytes."""

    first: float | None = None
    """When the first backup that succeeded was begun: another repository may be older."""
    success: float | None = None
    snapshot: str = ""
    duration: float = 0
    sizes: list[int] = field(default_factory=list[int])
    """Of the last backups, the newest last."""
    snapshots: int = 0
    oldest: float = 0
    newest: float = 0
    verified: float | None = None
    """When the last reading of everything was begun."""
    cycle: float | None = None
    """When the reading that is under way was begun."""
    part: int = 1
    """The part that is read next, or `ALL` of them."""
    drilled: float | None = None
    restore: float | None = None
    """How long the last drill took."""
    promised: float | None = None
    """How far back the snapshots are to reach by the retention of the last run."""
    since: float | None = None
    """What is older need not be there: the retention promised less then."""
    place: str = ""
    """Which repository it is, as `placed` says; nothing in an older report."""

    def promise(self, span: float) -> None:
        """Note how far back the snapshots are to reach from now on; what was let go before does not come back."""
        if self.promised is not None and span > self.promised:
            self.since = max(self.since or 0, self.newest - self.promised)
        self.promised = span


@dataclass
class Evidence:
    """What is known of one backup: its copies, and how each step ended last."""

    copies: dict[str, Copy] = field(default_factory=dict[str, Copy])
    steps: dict[str, bool] = field(default_factory=dict[str, bool])

    def copy(self, name: str) -> Copy:
        """What is known of one copy, from now on."""
        return self.copies.setdefault(name, Copy())


def placed(said: str) -> str:
    """What a repository is known by: its place, as the spec says it, hashed."""
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def among(known: Evidence, places: Mapping[str, str]) -> Evidence:
    """What of it is known of the repositories at these places, by the copies that they are now; of others nothing is.

    An older report does not say of which repositories it is: there the copies are what they were.
    """
    by_place = {one.place: one for one in known.copies.values() if one.place}
    copies: dict[str, Copy] = {}
    for copy, said in places.items():
        before = known.copies.get(copy)
        one = by_place.get(placed(said)) or (before if before and not before.place else None)
        if one:
            copies[copy] = replace(one, place=placed(said))
    return Evidence(copies, known.steps)


def about(service: str, called: str) -> str:
    """What a report is about, which is its name: in a shared folder that of another service is another file."""
    return f"{service}.{called}"


def folder(spec: Path | None) -> Path:
    """Where the files lie, for the spec at this path."""
    said = os.environ.get(FOLDER)
    return Path(said) if said else (spec.parent if spec else Path.cwd()) / ".mahavishnu/backups"


def read(place: Path, name: str) -> Evidence:
    """What is known; nothing where there is no file, or one that cannot be understood."""
    try:
        with (place / f"{name}.json").open("rb") as file:
            return parsed(json.loads(file.read(_LARGEST)))
    except (OSError, ValueError, TypeError, AttributeError):
        return Evidence()


def parsed(said: Any) -> Evidence:
    """Evidence from its JSON; raises TypeError, ValueError or AttributeError for what is none."""
    copies = {str(name): Copy(**_checked(one)) for name, one in said["copies"].items()}
    began = _number(said.get("first"))  # as it was written once: of all copies together
    for one in copies.values():
        one.first = one.first or (began if one.success is not None else None)
    steps = {str(step): bool(done) for step, done in said["steps"].items()}
    return Evidence(copies, steps)


def _checked(said: dict[str, Any]) -> dict[str, Any]:
    known = {one.name for one in fields(Copy)}
    if not said.keys() <= known:
        raise ValueError("not one of ours")
    numbers = {name: _number(value) for name, value in said.items() if name not in _TEXTS and name != "sizes"}
    sizes = [int(one) for one in cast("list[Any]", said.get("sizes", []))]
    texts = {name: str(said.get(name, "")) for name in _TEXTS}
    return {**numbers, **texts, "part": int(said.get("part", 1)), "sizes": sizes}


def _number(value: Any) -> float | None:
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    raise ValueError("not a number")


def write(place: Path, name: str, evidence: Evidence) -> None:
    """Put the file in its place, whole, and on the disk; raises OSError and changes nothing when that fails."""
    place.mkdir(parents=True, exist_ok=True)
    new = place / f".{name}.new"
    try:
        with new.open("w", encoding="utf-8") as file:
            json.dump(asdict(evidence), file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(place / f"{name}.json")
    except OSError:
        new.unlink(missing_ok=True)
        raise
