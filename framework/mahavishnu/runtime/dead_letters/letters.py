"""A dead letter, and what keeps it: one interface for a file and for a server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from mahavishnu.errors import MahavishnuError

LEFT_BEHIND = "the process ended, or lost its lease, while the call was made again"
"""The error of a letter that used up its last attempt so."""
REQUEST = "http request"
"""What letters of requests name in the place of the code that made them."""
Put = Literal["stored", "known", "full"]


class LettersUnreachable(MahavishnuError):
    """The dead letters cannot be read or written; the message says why, and never what is in them."""


class LettersSilent(LettersUnreachable):
    """They cannot be asked at all: whoever asks now waits as long, and in vain."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A failed call that is kept to be made again. Times are milliseconds since 1970.

    `operation` names the code that made it, `key` is its idempotency key, `payload` all that is needed to make it
    again, `request` the id of the request it belonged to. `token` is the lease under which it was taken up.
    """

    id: str
    dependency: str
    operation: str
    key: str
    payload: bytes
    request: str = ""
    created: int = 0
    due: int = 0
    attempts: int = 0
    error: str = ""
    quarantined: bool = False
    token: str = ""

    @property
    def size(self) -> int:
        """What it counts towards `dead_letters.size`, bytes."""
        return len(self.payload)


class Standing(NamedTuple):
    """How many letters of one dependency wait and are quarantined, and how old the oldest is that waits (ms)."""

    waiting: int = 0
    quarantined: int = 0
    age: int = 0


class Stats(NamedTuple):
    """What there is: for each dependency, and all payloads together."""

    of: Mapping[str, Standing]
    entries: int
    size: int


class Bounds(NamedTuple):
    """How much is kept, and what happens to the next one."""

    entries: int
    size: int
    displace: bool


class Letters(Protocol):
    """Where letters are kept. Every method is one step that happens whole or not at all, whoever is killed when.

    `batch` is how many steps may share one `together`. Pauses, leases and ages are in ms.

    To take a letter up is to lease it: its `attempts` grow and nobody else gets it before `lease` ms have passed, so
    what a killed process had taken up comes back by itself. Each raises LettersUnreachable.
    """

    @property
    def batch(self) -> int: ...
    def together(self) -> AbstractContextManager[object]:
        """Every other step belongs inside: what is done there becomes durable in one go."""
        ...

    def put(self, letter: Letter, pause: int, bounds: Bounds) -> tuple[Put, str, int]:
        """Keep a letter, due after the pause: what came of it, its id, and how many others were displaced.

        `known` is one whose key has a letter that will be made again, or is another operation's. A quarantined one
        would not be: the new letter takes its place.
        """
        ...

    def take(self, dependency: str, most: int, lease: int, attempts: int) -> Sequence[Letter]:
        """Lease letters that are due, the longest due first; one that has no attempt left is quarantined instead."""
        ...

    def renew(self, letters: Iterable[Letter], lease: int) -> None:
        """They are still being worked on."""
        ...

    def done(self, letter: Letter) -> None:
        """Its work is done: it is gone, even where its lease had run out."""
        ...

    def back(
        self, letter: Letter, pause: int, error: str, *, attempted: bool, quarantine: bool = False
    ) -> None:
        """Put a leased letter back, due after the pause; without effect when the lease is another's by now."""
        ...

    def prune(self, age: int) -> int:
        """Give up what is older than this; how many."""
        ...

    def stats(self) -> Stats: ...
    def some(self, most: int, dependency: str | None = None) -> Sequence[Letter]:
        """The oldest letters."""
        ...

    def find(self, name: str) -> Letter | None: ...
    def redrive(self, ids: Iterable[str]) -> int:
        """Make letters due at once, with all their attempts before them; how many of them there were."""
        ...

    def drop(self, ids: Iterable[str]) -> int:
        """Give letters up; how many of them there were."""
        ...

    def close(self) -> None: ...
