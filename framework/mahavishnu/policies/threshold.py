"""An alert on a condition that the spec writes itself: `memory > 90%`."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, ClassVar, NamedTuple

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from mahavishnu.ground.unfit import unfit
from mahavishnu.policies import _http
from mahavishnu.policies._written import not_too_long
from mahavishnu.policy import Policy, camel
from mahavishnu.promql import Binary, Expr, Operand, Selector, highest, operand, quantile, total
from mahavishnu.series import (
    BREAKER_CALLS,
    CPU,
    CPU_LIMIT,
    DEAD_LETTERS,
    DEAD_LETTERS_AGE,
    DEPENDENCY_CALLS,
    HTTP_DURATION,
    LIMIT_DECISIONS,
    LIMIT_QUEUED,
    LIMIT_UTILISATION,
    MEMORY,
    MEMORY_LIMIT,
)
from mahavishnu.signals import WINDOW, Alert, Feed, Severity, Signal
from mahavishnu.snapshots.series import BACKUP_AGE
from mahavishnu.units import Duration, Percent, Quantity, Size

_PER_MINUTE = 600
_BAD_PER_MINUTE = 20
"""So many bad ones at its bound are enough for a share to be judged in any minute."""
_NAME = r"[a-z][a-z0-9]*(_[a-z0-9]+)*"


class Levels(NamedTuple):
    """A value below a bound and one above it: between them an alert begins."""

    below: Decimal
    above: Decimal


# A series with its value below and its value above the bound.
Proof = tuple[tuple[Selector, Decimal, Decimal], ...]


class Reading(NamedTuple):
    """What a condition measures: the query, its unit, the series that prove it at given levels; of a share, the rate of
    what is bad."""

    measured: Expr
    unit: str
    proof: Callable[[Levels], Proof]
    bad: Expr | None = None


class Number(int, Quantity):
    """A count of things, written `10`."""

    form = "a count"
    pattern = r"[0-9]{1,9}"
    examples = ("10",)

    @classmethod
    def parse(cls, text: str) -> Number:
        return cls(text)


Bound = Percent | Size | Duration | Number


@dataclass(frozen=True)
class Condition(Quantity):
    """`<signal> <comparison> <value>`: a measured value, and the bound beyond which somebody must know.

    `section` and `name` say what of the spec it measures (`limits`, `per_client`); None: the service itself.
    """

    signal: str
    comparison: str
    bound: Bound

    form: ClassVar[str] = "a condition: <signal> <comparison> <value>"
    pattern: ClassVar[str] = (
        rf"\s*(memory|cpu|error_rate|latency\.p(50|95|99)|limits\.{_NAME}\.(refused|utilisation)"
        rf"|dependencies\.{_NAME}\.(failures|slow)|queue\.{_NAME}|backups\.{_NAME}\.age|dead_letters\.(depth|age))"
        r"\s*(>=|>|<=|<)\s*[0-9][0-9A-Za-z.]*%?\s*"
    )
    examples: ClassVar[tuple[str, ...]] = (
        "memory > 90%",
        "latency.p95 > 800ms",
        "limits.per_client.refused > 5%",
    )

    @classmethod
    def parse(cls, text: str) -> Condition:
        match = re.fullmatch(r"\s*([\w.]+)\s*(>=|>|<=|<)\s*(\S+)\s*", text)
        if match is None:
            raise cls._refusal(text)
        signal, comparison, value = match.groups()
        return cls(signal, comparison, _bound(signal, comparison, value))

    @classmethod
    def _validate(cls, value: object) -> Condition:
        said = re.match(r"\s*([\w.]+)", value) if isinstance(value, str) else None
        try:
            return super()._validate(value)
        except PydanticCustomError as fault:
            known: dict[str, str] = dict(fault.context or {})
            help = _advice(said[1], str(value)) if said else ""
            raise unfit(known["what"], help or known["help"]) from None

    @property
    def section(self) -> str | None:
        """The section of the spec whose entry `name` is measured: `limits`, `dependencies`, `backups`, or None."""
        first = self.signal.split(".", maxsplit=1)[0]
        sections = ("limits", "dependencies", "backups")
        return "limits" if first == "queue" else first if first in sections else None

    @property
    def name(self) -> str | None:
        """The limit, dependency or backup that is measured, None where it is the service."""
        return self.signal.split(".")[1] if self.section else None

    @property
    def aspect(self) -> str:
        """What of it is measured: `refused`, `utilisation`, `failures`, `slow`, `queue`, `age`, `p95`, `memory` …"""
        parts = self.signal.split(".")
        return parts[0] if parts[0] == "queue" else parts[-1]

    def __str__(self) -> str:
        return f"{self.signal} {self.comparison} {self.bound}"


class Threshold(Policy):
    """Raise an alert when a measured value stays beyond a bound."""

    keyword: ClassVar[str] = "when"
    when: Condition
    """`<signal> <comparison> <value>`. A share of requests or calls waits for ten bad ones in an hour."""
    hold: Annotated[Duration, AfterValidator(not_too_long)] = Field(default=Duration.parse("5m"), alias="for")
    """How long it must last before anyone is told."""
    severity: Severity
    """How fast a person must act."""

    def signals(self, name: str) -> tuple[Signal, ...]:
        if isinstance(self.when.bound, Duration) and self.when.signal.startswith("latency."):
            return (_http.with_buckets(self.when.bound.seconds, _above(self.when.bound)),)
        return ()

    def alerts(self, name: str) -> tuple[Alert, ...]:
        when, reading = self.when, _reading(self.when)
        upward = when.comparison in (">", ">=")
        feeds = reading.proof(_levels(when.bound))
        return (
            Alert(
                name=f"Threshold{camel(name)}",
                severity=self.severity,
                expr=Binary(when.comparison, reading.measured, operand(_number(when.bound))),
                bad=reading.bad,
                hold=self.hold,
                summary=f"{when.signal} is $value; the bound is {when.comparison} {when.bound}.",
                unit=reading.unit,
                meaning=f"{when} has held for {self.hold}.",
                impact="What the spec's own threshold was written for.",
                action=f"Find out why {when.signal} is so; change alerts.thresholds.{name} if it may be.",
                path=("alerts", "thresholds", name),
                proof=tuple(Feed(one, *((low, high) if upward else (high, low))) for one, low, high in feeds),
            ),
        )


def _bound(signal: str, comparison: str, text: str) -> Bound:
    kinds = _kinds(signal)
    if not kinds:
        raise ValueError(f"`{signal}` is nothing that can be measured")
    for kind in kinds:
        if re.fullmatch(kind.pattern, text):
            bound = kind.parse(text)
            if always := _CONSTANT.get((str(bound), comparison)):
                raise ValueError(f"`{signal} {comparison} {text}` is {always} true")
            if comparison in ("<", "<=") and _well(signal, bound):
                raise ValueError(f"`{signal} {comparison} {text}` is true whenever all is well")
            return bound
    raise ValueError(f"`{text}` is not {' or '.join(kind.form for kind in kinds)}")


def _well(signal: str, bound: Bound) -> bool:
    """Whether less is nothing to tell anybody: of all that goes wrong, and of what is used unless it is little."""
    if signal.rpartition(".")[2] not in _USED:
        return True
    return isinstance(bound, Percent) and bound.ratio >= _MUCH


_USED = (
    "memory",
    "cpu",
    "utilisation",
)  # of which somebody may want to know that it is idle, or has loaded nothing
_MUCH = Decimal("0.7")
_CONSTANT = {("100%", ">"): "never", ("100%", "<="): "always", ("0", "<"): "never", ("0", ">="): "always"}
_SIGNALS: Mapping[str, tuple[type[Bound], ...]] = {
    "memory": (Percent, Size),
    "cpu": (Percent,),
    "error_rate": (Percent,),
    "latency.p50": (Duration,),
    "latency.p95": (Duration,),
    "latency.p99": (Duration,),
    "limits.<name>.refused": (Percent,),
    "limits.<name>.utilisation": (Percent,),
    "dependencies.<name>.failures": (Percent,),
    "dependencies.<name>.slow": (Percent,),
    "queue.<name>": (Number,),
    "backups.<name>.age": (Duration,),
    "dead_letters.depth": (Number,),
    "dead_letters.age": (Duration,),
}


_WHOLE = ("latency", "dead_letters")  # of which there is one, so that no name follows


def _kinds(signal: str) -> tuple[type[Bound], ...]:
    parts = signal.split(".")
    if len(parts) > 1 and parts[0] not in _WHOLE and re.fullmatch(_NAME, parts[1]):
        parts[1] = "<name>"
    return _SIGNALS.get(".".join(parts), ())


def _advice(said: str, text: str) -> str | None:
    """How to say it: with a signal that exists, and a value of its unit."""
    if kinds := _kinds(said):
        value = _meant(said, kinds[0], text)
        few = ", or as a `query` if too little is what you mean" if "<" in text and value in text else ""
        return f"write it like `{said} > {value}`{few}"
    parts = said.split(".")
    plain = ".".join([parts[0], "<name>", *parts[2:]]) if len(parts) > 1 and parts[0] not in _WHOLE else said
    close = difflib.get_close_matches(plain, _SIGNALS, n=1, cutoff=0.7)
    meant = close[0].replace("<name>", parts[1] if len(parts) > 1 else "<name>") if close else said
    return f"did you mean `{meant}`?" if meant != said else None


def _meant(signal: str, kind: type[Bound], text: str) -> str:
    """The value that is written there, as far as it can be a bound; else an example."""
    found = re.search(r"[<>]=?\s*(([0-9]+(\.[0-9]+)?)\s*\S*)\s*$", text)
    written = re.sub(r"\s", "", found[1]) if found else ""
    with_unit = kind.fix((float if found[3] else int)(found[2])) if found and not _fits(kind, written) else ""
    share = "90%" if signal.rpartition(".")[2] in _USED else "5%"
    return next(one for one in (written, with_unit, share, *kind.examples) if _can_be(signal, one))


def _fits(kind: type[Bound], written: str) -> bool:
    return re.fullmatch(kind.pattern, written) is not None


def _can_be(signal: str, value: str) -> bool:
    try:
        _bound(signal, ">", value)
    except ValueError:
        return False
    return True


def _number(bound: Bound) -> Operand:
    if isinstance(bound, Percent):
        return bound.ratio
    return bound.seconds if isinstance(bound, Duration) else int(bound)


def _levels(bound: Bound) -> Levels:
    if isinstance(bound, Percent):
        return Levels(bound.ratio / 2, (1 + bound.ratio) / 2)
    number = bound.seconds if isinstance(bound, Duration) else Decimal(int(bound))
    return Levels(number / 2, 2 * number + 1)


def _above(bound: Duration) -> Decimal:
    """The next bucket boundary: a quantile beyond the last one could not be told from it."""
    return min((le for le in HTTP_DURATION.buckets if le > bound.seconds), default=2 * bound.seconds)


def _reading(when: Condition) -> Reading:
    if when.signal == "memory":
        return _memory(when)
    if when.signal.startswith("latency."):
        return _latency(when)
    return _READINGS[when.aspect](when.name or "")


def _memory(when: Condition) -> Reading:
    if isinstance(when.bound, Size):
        return Reading(MEMORY.lately(), "bytes", _gauge(MEMORY.select()))
    return _fraction(MEMORY, MEMORY_LIMIT, Decimal(2**29))


def _latency(when: Condition) -> Reading:
    assert isinstance(when.bound, Duration)  # noqa: S101 (the parser saw to it)
    bound, above = when.bound.seconds, _above(when.bound)
    durations = _http.with_buckets(bound, above)
    one = {"http_request_method": "GET", "http_route": "/", "http_response_status_code": "200"}
    all_, none = Decimal(_PER_MINUTE), Decimal(0)

    def proof(_: Levels) -> Proof:
        return (
            (durations.part("_bucket", le=durations.boundary(bound), **one), all_, none),
            (durations.part("_bucket", le=durations.boundary(above), **one), all_, all_),
            (durations.part("_bucket", le="+Inf", **one), all_, all_),
            (durations.part("_count", **one), all_, all_),
        )

    share = Decimal(when.aspect.removeprefix("p")) / 100
    slower = total(durations.count_rate(WINDOW)) - total(durations.bucket_rate(WINDOW, bound))
    return Reading(quantile(share, total(durations.bucket_rate(WINDOW), "le")), "seconds", proof, slower)


def _cpu(_: str) -> Reading:
    cores = Decimal("0.5")

    def proof(at: Levels) -> Proof:
        per_minute = cores * 60
        # Off the bound itself, where the rounding of a rate would decide.
        above = at.above if at.above < 1 else Decimal("1.1")
        return (
            (CPU.select(), per_minute * at.below, per_minute * above),
            (CPU_LIMIT.select(), cores, cores),
        )

    return Reading(CPU.rate(WINDOW) / CPU_LIMIT.lately(), "ratio", proof)


def _errors(_: str) -> Reading:
    one = {"http_request_method": "GET", "http_route": "/"}
    ok = HTTP_DURATION.part("_count", **one, http_response_status_code="200")
    failed = HTTP_DURATION.part("_count", **one, http_response_status_code="500")
    return Reading(_http.error_ratio(WINDOW), "ratio", _split(failed, ok), _http.errors(WINDOW))


def _refused(name: str) -> Reading:
    # `observed` is what an observing limit would have refused; of the two only one ever moves.
    over = total(LIMIT_DECISIONS.rate(WINDOW, limit=name, outcome_re="refused|observed"))
    parts = [LIMIT_DECISIONS.select(limit=name, outcome=outcome) for outcome in ("refused", "allowed")]
    return Reading(over / total(LIMIT_DECISIONS.rate(WINDOW, limit=name)), "ratio", _split(*parts), over)


def _utilisation(name: str) -> Reading:
    used = LIMIT_UTILISATION.lately(limit=name)
    return Reading(used, "ratio", _gauge(LIMIT_UTILISATION.select(limit=name)))


def _failures(name: str) -> Reading:
    failed = total(DEPENDENCY_CALLS.rate(WINDOW, dependency=name, outcome_re="failure|timeout"))
    made = total(DEPENDENCY_CALLS.rate(WINDOW, dependency=name, outcome_re="success|failure|timeout"))
    parts = [DEPENDENCY_CALLS.select(dependency=name, outcome=outcome) for outcome in ("failure", "success")]
    return Reading(failed / made, "ratio", _split(*parts), failed)


def _slow(name: str) -> Reading:
    slow = total(BREAKER_CALLS.rate(WINDOW, dependency=name, speed="slow"))
    every = total(BREAKER_CALLS.rate(WINDOW, dependency=name))
    parts = [BREAKER_CALLS.select(dependency=name, speed=speed) for speed in ("slow", "fast")]
    return Reading(slow / every, "ratio", _split(*parts), slow)


def _queue(name: str) -> Reading:
    waiting = LIMIT_QUEUED.lately(limit=name)
    return Reading(waiting, "count", _gauge(LIMIT_QUEUED.select(limit=name)))


def _depth(_: str) -> Reading:
    # Every process that shares a store says the same of it: the highest, not the sum.
    every = highest(total(DEAD_LETTERS.lately(), "instance"))
    return Reading(every, "count", _gauge(DEAD_LETTERS.select(state="waiting")))


def _age(backup: str) -> Reading:
    """Of the last backup of that name; of the oldest dead letter where no name is said."""
    if not backup:
        return Reading(highest(DEAD_LETTERS_AGE.lately()), "seconds", _gauge(DEAD_LETTERS_AGE.select()))
    age = BACKUP_AGE.lately(backup=backup)
    return Reading(highest(age), "seconds", _gauge(BACKUP_AGE.select(backup=backup, copy="1")))


def _fraction(used: Signal, limit: Signal, level: Decimal) -> Reading:
    def proof(at: Levels) -> Proof:
        return ((used.select(), level * at.below, level * at.above), (limit.select(), level, level))

    return Reading(used.lately() / limit.lately(), "ratio", proof)


def _gauge(series: Selector) -> Callable[[Levels], Proof]:
    def proof(at: Levels) -> Proof:
        return ((series, at.below, at.above),)

    return proof


def _split(bad: Selector, good: Selector) -> Callable[[Levels], Proof]:
    """Two counters that share the same traffic, the first taking the levels' part of it."""

    def proof(at: Levels) -> Proof:
        every = max(_PER_MINUTE, math.ceil(_BAD_PER_MINUTE / (2 * at.below)))
        return (
            (bad, every * at.below, every * at.above),
            (good, every * (1 - at.below), every * (1 - at.above)),
        )

    return proof


_READINGS: Mapping[str, Callable[[str], Reading]] = {
    "cpu": _cpu,
    "error_rate": _errors,
    "refused": _refused,
    "utilisation": _utilisation,
    "failures": _failures,
    "slow": _slow,
    "queue": _queue,
    "depth": _depth,
    "age": _age,
}
