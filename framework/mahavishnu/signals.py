"""A series the service shows, said once: the runtime moves it, and the rules ask for it, through the same value."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import StrEnum

from mahavishnu.errors import Path
from mahavishnu.promql import Call, Expr, Matcher, Selector
from mahavishnu.units import Duration

WINDOW = Duration.parse("5m")
"""Over what alerts and panels look at growth, where nothing asks for another window."""
LATELY = Duration.parse("2m")
"""How old the last scrape is at the most."""
_MATCHER_SUFFIXES = {"": "=", "_not": "!=", "_re": "=~", "_not_re": "!~"}


class Kind(StrEnum):
    """The type of a series, as Prometheus knows it."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Across(StrEnum):
    """What a gauge is of several workers that answer as one service: counters and histograms are added up."""

    SUM = "sum"
    MAX = "max"
    MIN = "min"


class Unit(StrEnum):
    """What the value of a series is; of what grows, what it counts: two of one unit may be parts of each other."""

    NUMBER = "a number"
    POINT = "a point in time"
    AGE = "an age"
    SECONDS = "a time in seconds"
    SHARE = "a share"
    FLAG = "0 or 1"
    ONE = "always 1"
    BYTES = "a size in bytes"
    CORES = "processor cores"
    REQUESTS = "requests"
    CONNECTIONS = "connections"
    CALLS = "calls to dependencies"
    TRANSITIONS = "turns of a breaker"
    LETTERS = "dead letters"
    STORE_CALLS = "calls to the store of limits"
    LOOKS = "looks at the event loop"
    RELOADS = "readings of the spec"
    FAULTS = "faults of workers' series"
    DEATHS = "deaths of workers"
    PUSHES = "pushes"
    SPANS = "spans"


class Source(StrEnum):
    """Who makes the series: the process, Prometheus while scraping, or a recording rule."""

    RUNTIME = "runtime"
    SCRAPE = "scrape"
    RULE = "rule"


class Severity(StrEnum):
    """How fast a person must act: P1 now, P2 within the hour, P3 today, P4 this week."""

    P1 = "P1"
    P2 = "P2"
    P3 = "P3"
    P4 = "P4"


class AgreementError(Exception):
    """A query asks for a series, label or value that the runtime does not show: a bug of this package."""


@dataclass(frozen=True, slots=True)
class Label:
    """A label's name and the values it can take; None where the runtime bounds them otherwise."""

    name: str
    values: tuple[str, ...] | None = None
    known: frozenset[str] = field(init=False, repr=False, compare=False)
    """Those values, to look one of thousands up among them."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "known", frozenset(self.values or ()))


@dataclass(frozen=True, slots=True)
class Signal:
    """A series: its exposed name (counters with `_total`), kind, help, labels, and buckets in seconds.

    `waived` says why no rule asks for it, where none does; `across` is what a gauge of the runtime must say: what
    several workers show together. `of_all` is a label and a value that such a gauge shows only if every worker
    has it; any other value is shown if one worker has it. `unit` is what its value is; of what grows, what it
    counts. `reported`: a gauge of what jobs write down, which is there once they have; all others of the runtime are
    from the start.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[Label, ...] = ()
    buckets: tuple[Decimal, ...] = ()
    source: Source = Source.RUNTIME
    waived: str = ""
    across: Across | None = None
    of_all: tuple[str, str] | None = None
    unit: Unit = Unit.NUMBER
    reported: bool = False

    def __hash__(self) -> int:
        return hash(self.name)  # its labels may have thousands of values

    @property
    def bounds(self) -> tuple[float, ...]:
        """The bucket boundaries as numbers."""
        return tuple(map(float, self.buckets))

    @property
    def parts(self) -> tuple[str, ...]:
        """What the names of its samples end with, after its own."""
        return ("_bucket", "_count", "_sum") if self.kind is Kind.HISTOGRAM else ("",)

    def measured(self, part: str) -> Unit:
        """What the value of one of its parts is."""
        return Unit.SECONDS if part == "_sum" else self.unit

    def label(self, name: str) -> Label:
        """The label of that name; raises AgreementError when the series has none."""
        for label in self.labels:
            if label.name == name:
                return label
        raise AgreementError(f"series {self.name} has no label {name}")

    def closed(self, **values: str | tuple[str, ...]) -> Signal:
        """The same series with the values of some labels fixed."""
        fixed = {name: (value,) if isinstance(value, str) else tuple(value) for name, value in values.items()}
        for name in fixed:
            self.label(name)
        return replace(
            self, labels=tuple(replace(lb, values=fixed.get(lb.name, lb.values)) for lb in self.labels)
        )

    def select(self, **matchers: str) -> Selector:
        """The current value; a matcher is `label=…`, `label_not=…`, `label_re=…` or `label_not_re=…`."""
        return self._selector("", matchers)

    def lately(self, **matchers: str) -> Call:
        """The value when last scraped, two minutes ago at the most: a scrape that fails leaves none behind, and with an
        instant value every alert on it would wait for its `for` anew."""
        return self.select(**matchers).over(LATELY, "last_over_time")

    def part(self, suffix: str, **matchers: str) -> Selector:
        """The current value of a histogram's part: `_bucket` (with its label `le`), `_count` or `_sum`."""
        return self._selector(suffix, matchers)

    def rate(self, window: Duration, **matchers: str) -> Expr:
        """Growth per second of a counter over the window."""
        return self._grown("rate", "", window, matchers)

    def increase(self, window: Duration, **matchers: str) -> Expr:
        """Growth of a counter over the window."""
        return self._grown("increase", "", window, matchers)

    def count_rate(self, window: Duration, **matchers: str) -> Expr:
        """Observations per second of a histogram over the window."""
        return self._grown("rate", "_count", window, matchers)

    def bucket_rate(self, window: Duration, le: Decimal | None = None, **matchers: str) -> Expr:
        """Observations per second at or below the boundary `le` (all boundaries when None)."""
        bounds = {} if le is None else {"le": self.boundary(le)}
        return self._grown("rate", "_bucket", window, {**matchers, **bounds})

    def boundary(self, le: Decimal) -> str:
        """The text of a bucket boundary as the exposition writes it; raises AgreementError if it is none."""
        if le not in self.buckets:
            raise AgreementError(f"{le} is no bucket boundary of {self.name}")
        return boundary_text(le)

    def _grown(self, function: str, suffix: str, window: Duration, matchers: Mapping[str, str]) -> Call:
        wanted = Kind.HISTOGRAM if suffix else Kind.COUNTER
        if self.kind is not wanted:
            raise AgreementError(f"{function} of {self.name}{suffix}: {self.name} is a {self.kind}")
        return self._selector(suffix, matchers).over(window, function)

    def _selector(self, suffix: str, matchers: Mapping[str, str]) -> Selector:
        return Selector(self, suffix, tuple(self._matcher(key, value) for key, value in matchers.items()))

    def _matcher(self, key: str, value: str) -> Matcher:
        names = {label.name for label in self.labels} | (
            {"le"} if self.kind is Kind.HISTOGRAM else set[str]()
        )
        for suffix, op in _MATCHER_SUFFIXES.items():
            name = key.removesuffix(suffix) if suffix else key
            if name in names and name + suffix == key:
                self.check_value(name, op, value)
                return Matcher(name, op, value)
        raise AgreementError(f"series {self.name} has no label {key}")

    def check_value(self, name: str, op: str, value: str) -> None:
        """Raise AgreementError when no value of the label can fulfil the matcher."""
        label = Label(name) if name == "le" else self.label(name)
        if label.values is None:
            return
        fits = re.compile(value).fullmatch if op.endswith("~") else None
        if not (any(map(fits, label.values)) if fits else value in label.known):
            raise AgreementError(f"label {name} of {self.name} never has the value {value}")


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording rule: a query whose result becomes a series of its own, with fixed labels."""

    signal: Signal
    expr: Expr
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Feed:
    """How one series moves in an alert's test, when all is well and when the fault is there.

    For a counter or a histogram's part: growth per minute; for a gauge: its level, or where it tells a point in time,
    how many seconds that lies back. None: no such series. Where the alert counts `changes`, the fault is that the
    series goes to and fro between both.
    """

    series: Selector
    healthy: Decimal | int | None
    faulty: Decimal | int | None

    @property
    def since(self) -> bool:
        """Whether its levels are how many seconds a point in time lies back."""
        return self.series.signal.unit is Unit.POINT


@dataclass(frozen=True, slots=True)
class Alert:
    """A condition a person must know of, the numbers behind it, what to do, and how to prove that it works.

    `name` is CamelCase without the service's name; `hold` is Prometheus' `for`; `summary` is one plain
    sentence in which `$value` stands for the measured value, written as `unit` says
    (ratio | seconds | bytes | count | events); `path` is the place of the spec that asked for it. `bad`: where its
    condition is a share of events, the rate of those that are bad; a handful of them raises nothing.
    """

    name: str
    severity: Severity
    expr: Expr
    summary: str
    path: Path
    proof: tuple[Feed, ...]
    hold: Duration | None = None
    unit: str = "count"
    meaning: str = ""
    impact: str = ""
    action: str = ""
    labels: tuple[tuple[str, str], ...] = field(default=())
    bad: Expr | None = None


def boundary_text(le: Decimal) -> str:
    """A bucket boundary as Prometheus' Python exposition writes it: `0.5`, `1.0`, `10.0`."""
    return str(float(le))


def exposed(signals: Iterable[Signal]) -> dict[str, Signal]:
    """The series by the names that their samples have: a histogram by those of its parts."""
    return {one.name + part: one for one in signals for part in one.parts}
