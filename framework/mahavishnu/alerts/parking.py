"""Whether failed calls that must not be lost are kept, and made again."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from mahavishnu.events import CALL_LOST, DEAD_LETTERS_UNREACHABLE
from mahavishnu.policies.dead_letters import Redrive
from mahavishnu.promql import highest, total
from mahavishnu.series import DEAD_LETTERS, DEAD_LETTERS_AGE
from mahavishnu.signals import Across, Alert, Feed, Kind, Label, Severity, Signal, Unit
from mahavishnu.spec import Spec
from mahavishnu.units import Duration

LONG = Duration.parse("1h")
"""So long a loss is told of: whoever is woken by it finds it in the queries of its page, and in the log."""
_FULL_RATIO = Decimal("0.8")

DEAD_LETTERS_PARKED = Signal(
    "mahavishnu_dead_letters_parked_total",
    Kind.COUNTER,
    "Failed calls by what became of them: stored, known (the same key is there already), full or lost (kept nowhere).",
    (Label("dependency"), Label("outcome", ("stored", "known", "full", "lost"))),
    unit=Unit.CALLS,
)
DEAD_LETTERS_REDRIVEN = Signal(
    "mahavishnu_dead_letters_redriven_total",
    Kind.COUNTER,
    "Dead letters that were taken up: done, failed (tried again later), deferred (not called), quarantined, or "
    "unhandled (this process has no code for them).",
    (Label("dependency"), Label("outcome", ("done", "failed", "deferred", "quarantined", "unhandled"))),
    waived="Every end of an attempt is looked at; what is stuck or given up is judged by itself.",
    unit=Unit.LETTERS,
)
DEAD_LETTERS_DROPPED = Signal(
    "mahavishnu_dead_letters_dropped_total",
    Kind.COUNTER,
    "Dead letters that were given up unredriven: expired (retention) or displaced (when_full).",
    (Label("reason", ("expired", "displaced")),),
    unit=Unit.LETTERS,
)
DEAD_LETTERS_FULL = Signal(
    "mahavishnu_dead_letters_full_ratio",
    Kind.GAUGE,
    "How much of the room for dead letters is used, by number or by size, whichever is more.",
    across=Across.MAX,
    unit=Unit.SHARE,
)
DEAD_LETTERS_UP = Signal(
    "mahavishnu_dead_letters_store_up",
    Kind.GAUGE,
    "1 while this process can read and write its dead letters.",
    across=Across.MIN,
    unit=Unit.FLAG,
)


def signals(spec: Spec) -> Iterator[Signal]:
    """The series of the dependencies that park."""
    if spec.parking:
        named = (DEAD_LETTERS, DEAD_LETTERS_AGE, DEAD_LETTERS_PARKED, DEAD_LETTERS_REDRIVEN)
        yield from (one.closed(dependency=spec.parking) for one in named)
        yield from (DEAD_LETTERS_DROPPED, DEAD_LETTERS_FULL, DEAD_LETTERS_UP)


def alerts(spec: Spec) -> Iterator[Alert]:
    """One for each way in which they can hurt."""
    if spec.parking:
        one = spec.parking[0]
        yield _lost(one)
        yield _quarantined(one)
        yield _stuck(one, spec.dead_letters.redrive)
        yield _filling()
        yield _unreachable()


def _lost(one: str) -> Alert:
    unkept = total(DEAD_LETTERS_PARKED.increase(LONG, outcome_re="full|lost"))
    dropped = total(DEAD_LETTERS_DROPPED.increase(LONG))
    return Alert(
        name="DeadLettersLost",
        severity=Severity.P1,
        expr=unkept + dropped > 0,
        hold=Duration.parse("1m"),
        summary=f"Failed calls are lost: $value in the last {LONG} found no place among the dead letters, or were "
        "given up.",
        unit="events",
        meaning=f"In the last {LONG} a call failed for good and could not be kept (`full`, `lost`), or a kept one was "
        f"given up unredriven (`expired`, `displaced`). It clears {LONG} after the last one: what was lost stays lost.",
        impact="Work that somebody asked for will not be done. Callers of `full` and `lost` were told so; those of "
        "`expired` and `displaced` were promised the opposite.",
        action="Heal the dependency. Until then raise dead_letters.entries, dead_letters.size or "
        "retention.dead_letters; the list of dead letters says what is in the way, and does not have what was lost: "
        f"look for `{CALL_LOST}` in the log, which says of each call why it was not kept.",
        path=("dead_letters",),
        proof=(
            Feed(DEAD_LETTERS_PARKED.select(dependency=one, outcome="full"), healthy=0, faulty=60),
            Feed(DEAD_LETTERS_DROPPED.select(reason="expired"), healthy=0, faulty=6),
        ),
    )


def _quarantined(one: str) -> Alert:
    letters = DEAD_LETTERS.lately(state="quarantined")
    return Alert(
        name="DeadLettersQuarantined",
        severity=Severity.P3,
        expr=highest(total(letters, "instance")) > 0,
        hold=Duration.parse("5m"),
        summary="$value dead letters failed every attempt and wait for a person.",
        meaning="They were tried as often as dead_letters.redrive allows, or their dependency said that they are "
        "wrong (4xx).",
        impact="Their work is not done, and nothing tries again by itself.",
        action="The list of dead letters says why, and `dead-letters show` with the id of one says more. Mend that, "
        "then let them try anew; `dead-letters drop` gives one up.",
        path=("dead_letters",),
        proof=(Feed(DEAD_LETTERS.select(dependency=one, state="quarantined"), healthy=0, faulty=3),),
    )


def _stuck(one: str, redrive: Redrive) -> Alert:
    patience = 2 * redrive.patience.seconds
    return Alert(
        name="DeadLettersStuck",
        severity=Severity.P2,
        expr=highest(DEAD_LETTERS_AGE.lately()) > patience,
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
    return Alert(
        name="DeadLettersNearlyFull",
        severity=Severity.P2,
        expr=highest(DEAD_LETTERS_FULL.lately()) > _FULL_RATIO,
        hold=Duration.parse("5m"),
        summary="$value of the room for dead letters is used.",
        unit="ratio",
        meaning="By number (dead_letters.entries) or by size (dead_letters.size).",
        impact="Nothing yet. Once it is full dead_letters.when_full decides what is lost.",
        action="Heal the dependency whose letters these are; raise the bounds where there is room.",
        path=("dead_letters",),
        proof=(Feed(DEAD_LETTERS_FULL.select(), healthy=0, faulty=Decimal("0.95")),),
    )


def _unreachable() -> Alert:
    return Alert(
        name="DeadLettersUnreachable",
        severity=Severity.P2,
        expr=DEAD_LETTERS_UP.lately().equals(0),
        hold=Duration.parse("1m"),
        summary="A process cannot read or write its dead letters.",
        meaning="The last try to take up letters failed: the file's disk, or the server.",
        impact="Calls that fail now are lost, and their callers are told so; kept ones wait.",
        action=f"The service's log says why (`{DEAD_LETTERS_UNREACHABLE}`). Nothing has to be restarted.",
        path=("dead_letters", "store"),
        proof=(Feed(DEAD_LETTERS_UP.select(), healthy=1, faulty=0),),
    )
