"""Calls that failed and must not be lost: where they are kept, when they are made again, and for how long."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from mahavishnu.policies._backoff import not_above
from mahavishnu.settings import Count, Settings
from mahavishnu.store import SHARED, HoldsSecret, leads_to_a_server, no_password
from mahavishnu.units import Duration, Size

FILE = "sqlite:"
_STEP = r"\.?[A-Za-z0-9_-][A-Za-z0-9._-]*"  # of a path; a folder at least, which is the letters' own

LetterStore = Annotated[
    str,
    StringConstraints(pattern=rf"^({FILE}/?({_STEP}/)+{_STEP}|{SHARED})$", max_length=400),
    BeforeValidator(no_password),
    AfterValidator(leads_to_a_server),
    HoldsSecret(),
    Field(examples=["sqlite:data/dead_letters.db", "redis://letters:6379"]),
]


class Redrive(Settings):
    """How often a dead letter is tried again, and after which pauses."""

    attempts: Annotated[int, Field(strict=True, ge=1, le=100)] = 5
    """After so many it is quarantined: it waits for a person."""
    base: Duration = Duration.parse("1m")
    """The longest pause before the first attempt, and half of the one before the second; it doubles every time.
    Each is drawn from its upper half, so that letters do not come all at once."""
    max: Duration = Duration.parse("1h")
    """The ceiling of every pause."""

    @model_validator(mode="after")
    def _rises(self) -> Redrive:
        not_above(self.base, self.max, self)
        return self

    def pause(self, attempt: int) -> int:
        """The ceiling of the pause before this attempt (from 1), ns."""
        return min(int(self.max), int(self.base) << min(attempt - 1, 40))

    @property
    def patience(self) -> Duration:
        """How long all attempts together may wait."""
        return Duration(sum(self.pause(attempt) for attempt in range(1, self.attempts + 1)))


class DeadLetters(Settings):
    """Where failed calls are kept until they are made again."""

    store: LetterStore = "sqlite:.mahavishnu/dead_letters.db"
    """A file of this machine, or a Redis or Valkey server for a whole fleet, which must not forget."""
    redrive: Redrive = Redrive.model_construct()
    """When they are made again."""
    entries: Count = 10_000
    """How many are kept at the most."""
    size: Size = Size.parse("64Mi")
    """How many bytes their payloads may take together."""
    when_full: Literal["refuse", "displace"] = "refuse"
    """`refuse`: the next call fails as if there were no fallback; `displace`: the oldest letter is given up."""

    @property
    def file(self) -> str | None:
        """The path of the file they are in; None on a server."""
        return self.store.removeprefix(FILE) if self.store.startswith(FILE) else None
