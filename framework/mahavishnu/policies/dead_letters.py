"""Calls that failed and must not be lost: where they are kept, when they are made again, and for how long."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from mahavishnu.policy import Count, Policy, Settings
from mahavishnu.promql import highest, total
from mahavishnu.series import (
    DEAD_LETTERS,
    DEAD_LETTERS_AGE,
    DEAD_LETTERS_DROPPED,
    DEAD_LETTERS_FULL,
    DEAD_LETTERS_PARKED,
    DEAD_LETTERS_REDRIVEN,
    DEAD_LETTERS_UP,
)
from mahavishnu.signals import Alert, Feed, Severity, Signal
from mahavishnu.store import SHARED, HoldsSecret, leads_to_a_server, no_password
from mahavishnu.units import Duration, Size

FILE = "sqlite:"
_STEP = r"\.?[A-Za-z0-9_-][A-Za-z0-9._-]*"  # of a path; a folder at least, which is the letters' own
_WINDOW = Duration.parse("5m")
_FULL_RATIO = Decimal("0.8")

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

    def pause(self, attempt: int) -> int:
        """The ceiling of the pause before this attempt (from 1), ns."""
        return min(int(self.max), int(self.base) << min(attempt - 1, 40))

    @property
    def patience(self) -> Duration:
        """How long all attempts together may wait."""
        return Duration(sum(self.pause(attempt) for attempt in range(1, self.attempts + 1)))


class DeadLetters(Policy):
    """Where failed calls are kept until they are made again."""

    keyword: ClassVar[str] = "dead_letters"

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

    def shown(self, parking: tuple[str, ...]) -> tuple[Signal, ...]:
        """The series of the dependencies that park."""
        named = (DEAD_LETTERS, DEAD_LETTERS_AGE, DEAD_LETTERS_PARKED, DEAD_LETTERS_REDRIVEN)
        every = (DEAD_LETTERS_DROPPED, DEAD_LETTERS_FULL, DEAD_LETTERS_UP)
        return (*(one.closed(dependency=parking) for one in named), *every)

    def raised(self, parking: tuple[str, ...]) -> tuple[Alert, ...]:
        """One alert for each way in which they can hurt."""
        return (
            _lost(parking[0]),
            _quarantined(parking[0]),
            _stuck(parking[0], self.redrive),
            _filling(),
            _unreachable(),
        )


def _lost(one: str) -> Alert:
    unkept = total(DEAD_LETTERS_PARKED.rate(_WINDOW, outcome_re="full|lost"))
    dropped = total(DEAD_LETTERS_DROPPED.rate(_WINDOW))
    return Alert(
        name="DeadLettersLost",
        severity=Severity.P1,
        expr=unkept + dropped > 0,
        hold=Duration.parse("1m"),
        summary="Failed calls are lost: $value a second find no place among the dead letters, or are given up.",
        meaning="A call failed for good and could not be kept (`full`, `lost`), or a kept one was given up "
        "unredriven (`expired`, `displaced`).",
        impact="Work that somebody asked for will not be done. Callers of `full` and `lost` were told so; those of "
        "`expired` and `displaced` were promised the opposite.",
        action="Heal the dependency. Until then raise dead_letters.entries, dead_letters.size or "
        "retention.dead_letters; `mahavishnu dead-letters list` says what is in the way.",
        path=("dead_letters",),
        proof=(
            Feed(DEAD_LETTERS_PARKED.select(dependency=one, outcome="full"), healthy=0, faulty=60),
            Feed(DEAD_LETTERS_DROPPED.select(reason="expired"), healthy=0, faulty=6),
        ),
    )


def _quarantined(one: str) -> Alert:
    letters = DEAD_LETTERS.select(state="quarantined")
    return Alert(
        name="DeadLettersQuarantined",
        severity=Severity.P3,
        expr=highest(total(letters, "instance")) > 0,
        hold=Duration.parse("5m"),
        summary="$value dead letters failed every attempt and wait for a person.",
        meaning="They were tried as often as dead_letters.redrive allows, or their dependency said that they are "
        "wrong (4xx).",
        impact="Their work is not done, and nothing tries again by itself.",
        action="`mahavishnu dead-letters list` and `show` say why. Once that is mended `mahavishnu dead-letters "
        "redrive` lets them try anew; `drop` gives one up.",
        path=("dead_letters",),
        proof=(Feed(DEAD_LETTERS.select(dependency=one, state="quarantined"), healthy=0, faulty=3),),
    )


def _stuck(one: str, redrive: Redrive) -> Alert:
    patience = 2 * redrive.patience.seconds
    return Alert(
        name="DeadLettersStuck",
        severity=Severity.P2,
        expr=highest(DEAD_LETTERS_AGE.select()) > patience,
        hold=Duration.parse("5m"),
        summary="The oldest dead letter has waited for $value.",
        unit="seconds",
        meaning="That is twice as long as all its attempts may take: the dependency's breaker stays open, or no "
        "process has the code that made the call.",
        impact="Work that was promised is late.",
        action="Look at the breaker of the dependency, and at mahavishnu_dead_letters_redriven_total: `unhandled` "
        "means that a function or client was renamed or removed, or is not yet at work.",
        path=("dead_letters", "redrive"),
        proof=(Feed(DEAD_LETTERS_AGE.select(dependency=one), healthy=0, faulty=2 * patience),),
    )


def _filling() -> Alert:
    full = DEAD_LETTERS_FULL.select()
    return Alert(
        name="DeadLettersNearlyFull",
        severity=Severity.P2,
        expr=highest(full) > _FULL_RATIO,
        hold=Duration.parse("5m"),
        summary="$value of the room for dead letters is used.",
        unit="ratio",
        meaning="By number (dead_letters.entries) or by size (dead_letters.size).",
        impact="Nothing yet. Once it is full dead_letters.when_full decides what is lost.",
        action="Heal the dependency whose letters these are; raise the bounds where there is room.",
        path=("dead_letters",),
        proof=(Feed(full, healthy=0, faulty=Decimal("0.95")),),
    )


def _unreachable() -> Alert:
    up = DEAD_LETTERS_UP.select()
    return Alert(
        name="DeadLettersUnreachable",
        severity=Severity.P2,
        expr=up.equals(0),
        hold=Duration.parse("1m"),
        summary="A process cannot read or write its dead letters.",
        meaning="The last try to take up letters failed: the file's disk, or the server.",
        impact="Calls that fail now are lost, and their callers are told so; kept ones wait.",
        action="The service's log says why (`dead letters unreachable`). Nothing has to be restarted.",
        path=("dead_letters", "store"),
        proof=(Feed(up, healthy=1, faulty=0),),
    )
