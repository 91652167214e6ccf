"""What an objective counts: which events there are and which of them are bad, each a query over any window."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Protocol

from mahavishnu.promql import BOOL, Aggregate, Binary, Expr, Number, Selector, absent, highest, total
from mahavishnu.queries.instances import example, meets
from mahavishnu.queries.search import misdated, shows
from mahavishnu.series import SLO_REQUESTS
from mahavishnu.signals import AgreementError, Feed, Kind, Label, Recording, Signal, Source, Unit
from mahavishnu.units import Duration

PER_MINUTE = 600


class Indicator(Protocol):
    """What is promised: `bad` completes "the requests of the last 1h …", `noun` names the events."""

    @property
    def noun(self) -> str: ...
    @property
    def bad(self) -> str: ...
    def ratio(self, window: Duration) -> Expr:
        """The share of bad events over a window; nothing where there were none."""
        ...

    def events(self, window: Duration) -> Expr | None:
        """How many there were over a window; None: time itself is counted."""
        ...

    def missing(self, window: Duration) -> Expr:
        """True while nothing was counted for the whole window."""
        ...

    def proof(self, events: int) -> tuple[Feed, ...]:
        """Series of so many events a minute, from all good to all bad."""
        ...

    def silence(self) -> tuple[Feed, ...]:
        """Series that are there, and then stand still or are gone."""
        ...


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests, as the process itself counts them for an objective: from the first one on, good and bad."""

    slo: str
    bad: str
    noun: str = "requests"

    def ratio(self, window: Duration) -> Expr:
        counted = self._counted
        return total(counted.rate(window, slo=self.slo, outcome="bad")) / (
            total(counted.rate(window, slo=self.slo)) > 0
        )

    def events(self, window: Duration) -> Expr:
        return total(self._counted.increase(window, slo=self.slo))

    def missing(self, window: Duration) -> Expr:
        return absent(self.events(window) > 0)

    def proof(self, events: int) -> tuple[Feed, ...]:
        good, bad = (self._counted.select(slo=self.slo, outcome=one) for one in ("good", "bad"))
        return Feed(good, healthy=events, faulty=0), Feed(bad, healthy=0, faulty=events)

    def silence(self) -> tuple[Feed, ...]:
        return (replace(self.proof(PER_MINUTE)[0], faulty=0),)

    @property
    def _counted(self) -> Signal:
        return SLO_REQUESTS.closed(slo=self.slo)


@dataclass(frozen=True, slots=True)
class Events:
    """What a query of the spec counts, and which part of it another one calls bad."""

    every: Selector
    failed: Selector
    noun: str = "events"
    bad: str = "are bad"

    @property
    def units(self) -> tuple[Unit, Unit]:
        """What all events are, and what the bad ones are."""
        every, failed = (one.signal.measured(one.suffix) for one in (self.every, self.failed))
        return every, failed

    @property
    def alike(self) -> bool:
        """Whether both count the same, so that some of the ones may be the others."""
        every, failed = self.units
        return every is failed

    def ratio(self, window: Duration) -> Expr:
        failed, every = (total(one.over(window, "rate")) for one in (self.failed, self.every))
        return failed.or_(Number(Decimal(0)) * every) / (every > 0)

    def events(self, window: Duration) -> Expr:
        return total(self.every.over(window, "increase"))

    def missing(self, window: Duration) -> Expr:
        return absent(self.events(window) > 0)

    def proof(self, events: int) -> tuple[Feed, ...]:
        bad = example(self.failed)
        within = meets(self.every, bad)
        good = example(self.every, avoid=self.failed if within else None)
        return (
            Feed(good, healthy=events, faulty=0 if within else events),
            Feed(bad, healthy=0, faulty=events),
        )

    def silence(self) -> tuple[Feed, ...]:
        return (Feed(example(self.every), healthy=PER_MINUTE, faulty=0),)


@dataclass(frozen=True, slots=True)
class Freshness:
    """Time, bad while something is older than promised."""

    slo: str
    age: Expr
    fresh: Duration
    noun: str = "time"

    @property
    def bad(self) -> str:
        return f"it is older than {self.fresh}"

    @property
    def stale(self) -> Signal:
        """1 while it is too old, else 0: recorded, so that a window is an average of it."""
        text = "1 while what an SLO watches is older than it promises, else 0."
        return Signal(
            "slo:sli_error:stale", Kind.GAUGE, text, (Label("slo", (self.slo,)),), source=Source.RULE
        )

    def prove(self) -> None:
        """Raise AgreementError where its query tells no age in seconds, by which its proof would hold."""
        (feed,) = self.proof(0)
        told = feed.series.signal
        if told.unit not in (Unit.POINT, Unit.AGE):
            raise AgreementError(f"{told.name} is {told.unit}")
        if any(isinstance(node, Aggregate) and node.op == "sum" for node in self.age.walk()):
            raise AgreementError("ages are added up, of which each replica tells one")
        if not shows(highest(self.age) > self.fresh.seconds, (feed,)):
            never = f"it exceeds {self.fresh} too early, or not at all"
            raise AgreementError(misdated(self.age) or never)

    def recording(self) -> Recording:
        """The rule that records it."""
        late = Binary(f">{BOOL}", highest(self.age), Number(self.fresh.seconds))
        return Recording(self.stale, late, (("slo", self.slo),))

    def ratio(self, window: Duration) -> Expr:
        return self.stale.select(slo=self.slo).over(window, "avg_over_time")

    def events(self, window: Duration) -> None:
        return None

    def missing(self, window: Duration) -> Expr:
        del window
        return absent(self.stale.select(slo=self.slo))

    def proof(self, events: int) -> tuple[Feed, ...]:
        del events
        (feed,) = self.silence()
        return (replace(feed, faulty=2 * self.fresh.seconds),)

    def silence(self) -> tuple[Feed, ...]:
        watched = tuple(self.age.selectors())
        if len(watched) != 1 or watched[0].signal.kind is not Kind.GAUGE or watched[0].window is not None:
            raise AgreementError(f"an age is told by one gauge as it is now, and not by `{self.age}`")
        return (Feed(example(watched[0]), healthy=self.fresh.seconds / 2, faulty=None),)
