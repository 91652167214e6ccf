"""Service level objectives, and the multi-window multi-burn-rate alerts that guard their error budgets."""

# The four tiers and their maths are those of "The Site Reliability Workbook" (Google, 2018), chapter 5: a tier
# fires when the share of failures exceeds factor x budget over a long window, and still does over a short one. Its
# windows are for 30 days; for another period they are as much longer or shorter, and the factors stay.

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, PrivateAttr, model_validator

from mahavishnu.ground.unfit import unfit
from mahavishnu.policies import _http
from mahavishnu.policies._indicators import PER_MINUTE, Events, Freshness, Indicator, Requests
from mahavishnu.policies._written import Query
from mahavishnu.policy import Expected, Match, Policy, camel
from mahavishnu.promql import Expr, Number, Selector, highest
from mahavishnu.queries.instances import outside
from mahavishnu.queries.written import NoAge, NoEvents, QueryError, read
from mahavishnu.series import ANY_UP, SLO_REQUESTS, UP
from mahavishnu.settings import Count, Settings
from mahavishnu.signals import (
    LATELY,
    AgreementError,
    Alert,
    Feed,
    Kind,
    Label,
    Recording,
    Severity,
    Signal,
    Source,
    Unit,
)
from mahavishnu.units import Duration, Percent, plain

# A rule shows at most so many significant digits of a threshold that has no end.
_DIGITS = Context(prec=12)
_MONTH = Duration.parse("30d")
_SHORTEST = Duration.parse("2m")
"""No window is shorter: eight scrapes of 15 s, so that two that fail do not empty it."""
_SILENT, _SILENT_ROUTE = Duration.parse("1h"), Duration.parse("6h")
"""After so long without any request there is no promise to be kept; a route by itself may rest over a night."""
_MISSED = 300
"""At the expected rate so many requests would have come: at a tenth of it, as at night, still 30, and that none of them
does is no chance."""
_MINUTE = Duration.parse("1m")
_SILENT_LEAST, _SILENT_MOST = Duration.parse("5m"), Duration.parse("7d")
_URGENT = Duration.parse("1h")
"""Who says that even so short a silence is none of theirs wants to hear of it at once."""
_URGENCY = {"critical": Severity.P1, "standard": Severity.P2, "experimental": Severity.P3}
_NO_VALUE = Duration.parse("15m")
_LOOKED_BACK = Duration.parse("15m")
"""How far a query looks back; that nothing comes is held for the whole silence, also in a process that began so."""


@dataclass(frozen=True, slots=True)
class Tier:
    """How fast a budget may burn: `spent` of it within `long`, and still burning within `short`."""

    severity: Severity
    name: str
    long: Duration
    short: Duration
    spent: Fraction

    def within(self, period: Duration) -> Tier:
        """The tier for a period: the same share of its budget, in windows as much longer or shorter as it is."""
        scale = Fraction(int(period), int(_MONTH))
        long, short = (Duration(round(one * scale)) for one in (self.long, self.short))
        return Tier(self.severity, self.name, long, max(short, _SHORTEST), self.spent)


_TIERS = (
    Tier(Severity.P1, "fast", Duration.parse("1h"), Duration.parse("5m"), Fraction(2, 100)),
    Tier(Severity.P2, "medium", Duration.parse("6h"), Duration.parse("30m"), Fraction(5, 100)),
    Tier(Severity.P3, "slow", Duration.parse("1d"), Duration.parse("2h"), Fraction(10, 100)),
    Tier(Severity.P4, "creeping", Duration.parse("3d"), Duration.parse("6h"), Fraction(10, 100)),
)


@dataclass(frozen=True, slots=True)
class Burn:
    """A tier with the numbers of one objective; ratios are exact."""

    tier: Tier
    factor: Fraction
    budget: Fraction

    @property
    def ratio(self) -> Fraction:
        """The share of failures above which it fires: factor x budget."""
        return self.factor * self.budget

    @property
    def threshold(self) -> Decimal:
        """That share as a rule shows it: exact, or to twelve significant digits where it has no end."""
        return decimal(self.ratio)

    @property
    def dead(self) -> bool:
        """Whether it can never fire: not even the failure of every request exceeds the share."""
        return self.ratio >= 1

    @property
    def requests(self) -> int:
        """How many events the long window needs so that a single bad one does not fire it."""
        return math.ceil(1 / self.ratio)


def _leaves_a_budget(objective: Percent) -> Percent:
    if objective.ratio >= 1:
        raise unfit("an objective of 100% leaves no error budget", "write what is enough, like `99.9%`")
    return objective


class Asked(Settings):
    """Queries of your own, over series that this service shows."""

    total: Query | None = None
    """A counter of all events, like `'mahavishnu_dependency_calls_total{dependency="payment"}'`."""
    bad: Query | None = None
    """The part of them that is bad: a counter too. Of the same series it may count nothing that `total` does not."""
    age: Query | None = None
    """How old something is, in seconds: a gauge, or `time()` minus one that tells a point in time."""


class Slo(Policy):
    """A promise over a rolling window: which share of requests succeeds or, with `under`, is fast enough.

    With `fresh`, in which share of the time something is young enough; with `query`, which share of events of your
    own is good. Requests are those that a living process has answered: what a dead one would have is in no promise.
    Nor is what a rate refuses (429), a body that comes too slowly (408), or what no route takes (4xx).
    """

    keyword: ClassVar[str] = "objective"

    objective: Annotated[Percent, AfterValidator(_leaves_a_budget)]
    """The promised share of good requests."""
    under: Duration | None = None
    """A request is good when it takes no longer than this; without it, when it is not answered with 5xx."""
    fresh: Duration | None = None
    """Time is good while what `query.age` tells is no older than this."""
    query: Asked | None = None
    """What is counted, where it is no HTTP request: `total` and `bad`, or `age`; needs `mahavishnu[promql]`."""
    window: Literal["7d", "28d", "30d", "90d"] = "30d"
    """Over which time the promise is kept."""
    match: Match | None = None
    """Which requests the promise is about."""
    severities: tuple[Severity, ...] = tuple(Severity)
    """Which burn rates raise an alert: P1 the fastest, P4 the slowest; with none at all nothing is raised."""
    min_requests: Count | Literal["auto"] | None = None
    """No alert is raised on fewer requests: in the long window of a burn rate, in the whole one for a budget that is
    spent. `auto`: on so few that a single failed one would raise it."""
    silent: Duration | Literal["never"] | None = None
    """How long there may be nothing to judge it by until an alert is raised: longer than a quiet night. `never`: none
    is raised. Without it, all requests together are missed once `service.traffic` says that it is no chance, in an hour
    where that is not said; those of `match` in six hours."""

    _expected: Expected = PrivateAttr(Expected())
    _read: Indicator | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _one_kind(self) -> Slo:
        asked = self.query or Asked()
        said = {key for key in ("total", "bad", "age") if getattr(asked, key) is not None}
        wanted = ({"age"} if self.fresh else {"total", "bad"}) if self.fresh or self.query else set[str]()
        if said != wanted:
            what, help = (
                "an objective on queries needs `query.total` and `query.bad`",
                "write both, and no `age`",
            )
            if self.fresh is not None:
                what, help = (
                    "`fresh` needs `query.age`",
                    "write the age as `query: {age: ...}`, and nothing else",
                )
            raise unfit(what, help)
        if wanted and (self.under or self.match):
            what = "`under` and `match` are about HTTP requests, and this objective is about a query"
            raise unfit(what, "remove them")
        if self.fresh and self.min_requests:
            what = "`min_requests` counts requests, and `fresh` counts time"
            raise unfit(what, "remove `min_requests`")
        return self

    def expecting(self, expected: Expected) -> Self:
        of_it = self.model_copy()
        of_it._expected = expected  # noqa: SLF001 (a copy of this one)
        return of_it

    def reading(self, name: str, signals: Mapping[str, Signal]) -> Self:
        """The same objective with its queries read; raises QueryError where they ask for what is not there."""
        if self.query is None:
            return self
        asked = self.model_copy()
        asked._read = self._asked(name, self.query, signals)  # noqa: SLF001 (a copy of this one)
        return asked

    @property
    def budget(self) -> Fraction:
        """The share of requests that may fail: 1 - objective."""
        return 1 - Fraction(self.objective.ratio)

    @property
    def period(self) -> Duration:
        """The window as a length of time."""
        return Duration.parse(self.window)

    def indicator(self, name: str) -> Indicator:
        """What is counted."""
        if self.query is None:
            return Requests(name, self._failing)
        if self._read is None:
            raise QueryError("the queries of this objective have not been read")
        return self._read

    def units(self, name: str) -> tuple[Unit, Unit] | None:
        """What all events are that its queries count, and what the bad ones are; None where it counts none."""
        of = self.indicator(name)
        return of.units if isinstance(of, Events) else None

    @property
    def _failing(self) -> str:
        return "fail" if self.under is None else f"take longer than {self.under}"

    def tiers(self) -> tuple[Burn, ...]:
        """Each tier that was asked for, with factor = spent x period / long; dead ones included."""
        tiers = [one.within(self.period) for one in _TIERS if one.severity in self.severities]
        return tuple(
            Burn(one, one.spent * Fraction(int(self.period), int(one.long)), self.budget) for one in tiers
        )

    def waits_for(self, burn: Burn) -> int | None:
        """How many requests its long window must hold before an alert is raised; None: any number."""
        return burn.requests if self.min_requests == "auto" else self.min_requests

    @property
    def spends_from(self) -> int | None:
        """How many requests the whole window must hold before its budget can be spent; None: any number."""
        return int(1 / self.budget) + 1 if self.min_requests == "auto" else self.min_requests

    def signals(self, name: str) -> tuple[Signal, ...]:
        counted = () if self.query is not None else (SLO_REQUESTS.closed(slo=name),)
        return counted if self.under is None else (*counted, _http.with_buckets(self.under.seconds))

    def recordings(self, name: str) -> tuple[Recording, ...]:
        indicator, labels = self.indicator(name), (("slo", name),)
        stale = (indicator.recording(),) if isinstance(indicator, Freshness) else ()
        ratios = [Recording(ratio_signal(one, name), indicator.ratio(one), labels) for one in self._windows()]
        left = Number(Decimal(1)) - ratio_signal(self.period, name).select(slo=name) / decimal(self.budget)
        counted = [
            Recording(events_signal(one, name), events, labels)
            for one in sorted({window for window, _ in self._waiting()})
            if (events := indicator.events(one)) is not None
        ]
        return (*stale, *ratios, *counted, Recording(budget_signal(name), left, labels))

    def bounds(self, name: str) -> tuple[tuple[Signal, Decimal], ...]:
        ratios = ((ratio_signal(window, name), decimal(self.budget)) for window in self._windows())
        events = ((events_signal(window, name), Decimal(least)) for window, least in self._waiting())
        return (*ratios, *events, (budget_signal(name), Decimal(0)))

    def _waiting(self) -> Iterator[tuple[Duration, int]]:
        """The windows that must hold so many requests before an alert is raised on them."""
        if self.severities:
            waits = [(burn.tier.long, self.waits_for(burn)) for burn in self._live()]
            for window, least in (*waits, (self.period, self.spends_from)):
                if least is not None:
                    yield window, least

    def alerts(self, name: str) -> tuple[Alert, ...]:
        if not self.severities:
            return ()
        burns = (self._alert(name, burn) for burn in self._live())
        silence = self._silence
        silent = () if silence is None else (self._silent(name, silence),)
        return (*burns, self._exhausted(name), *silent)

    def _asked(self, name: str, query: Asked, signals: Mapping[str, Signal]) -> Indicator:
        if self.fresh is not None:
            return _proved(Freshness(name, read(query.age or "", signals), self.fresh))
        every, failed = (_counter(text or "", signals) for text in (query.total, query.bad))
        return _part(Events(every, failed))

    def _windows(self) -> list[Duration]:
        return sorted({self.period, *(w for burn in self._live() for w in (burn.tier.long, burn.tier.short))})

    def _live(self) -> tuple[Burn, ...]:
        return tuple(burn for burn in self.tiers() if not burn.dead)

    def _alert(self, name: str, burn: Burn) -> Alert:
        tier, of = burn.tier, self.indicator(name)
        long, short = (ratio_signal(one, name).select(slo=name) for one in (tier.long, tier.short))
        return Alert(
            name=f"Slo{camel(name)}Burn{tier.severity}",
            severity=tier.severity,
            expr=self._guarded(name, burn, (long > burn.threshold).and_(short > burn.threshold)),
            summary=f"SLO {name}: $value of the {of.noun} of the last {tier.long} {of.bad}.",
            unit="ratio",
            meaning=f"Over the last {tier.long} and the last {tier.short}, more than {_percent(burn.ratio)} "
            f"of the {of.noun} {of.bad}: {_short(burn.factor)} times what {self.objective} in {self.window} allows.",
            impact=f"At {_short(burn.factor)} times the allowed rate the error budget of {self.window} is "
            f"gone in {self._gone(burn)}; {_percent(tier.spent)} of it went in the last {tier.long}.",
            action=self._action,
            path=("slos", name),
            proof=of.proof(self._traffic()),
            labels=(("slo", name), ("tier", tier.name), ("short", str(tier.short)), ("long", str(tier.long))),
        )

    def _guarded(self, name: str, burn: Burn, burning: Expr) -> Expr:
        return self._above(self.waits_for(burn), burn.tier.long, name, burning)

    def _above(self, least: int | None, window: Duration, name: str, condition: Expr) -> Expr:
        """The condition, on so many requests in a window."""
        if least is None:
            return condition
        return condition.and_(events_signal(window, name).select(slo=name) >= least)

    def _exhausted(self, name: str) -> Alert:
        of = self.indicator(name)
        return Alert(
            name=f"Slo{camel(name)}BudgetExhausted",
            severity=self._ticket,
            expr=self._above(self.spends_from, self.period, name, budget_signal(name).select(slo=name) <= 0),
            summary=f"SLO {name}: the error budget of {self.window} is spent; $value of the budget is left.",
            unit="ratio",
            meaning=f"Over the last {self.window}, more than {_percent(self.budget)} of the {of.noun} {of.bad}.",
            impact=f"The promise of {self.objective} is broken until bad times are {self.window} ago.",
            action="Agree what waits until the budget is back: risky changes first. Nothing mends it but time.",
            path=("slos", name),
            proof=of.proof(self._traffic()),
            labels=(("slo", name),),
        )

    @property
    def _silence(self) -> Duration | None:
        """How long there may be nothing; None: for ever."""
        traffic = self._expected.traffic
        if self.silent is not None:
            return None if self.silent == "never" else self.silent
        if self.fresh is not None:
            return _NO_VALUE
        if self.query is not None or traffic is None or self.match is not None:
            return _SILENT if self.match is None else _SILENT_ROUTE
        minutes = math.ceil(_MISSED / (traffic.per_second * 60))
        return min(max(Duration(minutes * int(_MINUTE)), _SILENT_LEAST), _SILENT_MOST)

    def _silent(self, name: str, silence: Duration) -> Alert:
        of = self.indicator(name)
        seen = "has no value" if self.fresh is not None else f"has counted nothing for {silence}"
        looked = min(max(Duration(silence // 4), _SHORTEST), _LOOKED_BACK)
        missing, proof = of.missing(looked), of.silence()
        if self.query is None:  # else a service that comes back would be told to be silent
            missing = missing.and_(highest(ANY_UP.select().over(LATELY, "max_over_time")).equals(1))
            proof = (*proof, Feed(UP.select(), healthy=1, faulty=1))
        return Alert(
            name=f"Slo{camel(name)}NoData",
            severity=self._of_silence(silence),
            expr=missing,
            hold=silence,
            summary=f"SLO {name}: there is nothing to judge it by.",
            meaning=f"The service is scraped, and what this objective is about {seen}.",
            impact=f"{self._lost}, or is counted elsewhere: this objective cannot raise an alert.",
            action=f"{self._search} Where so long a silence is usual, as at night, say so in `slos.{name}.silent`: "
            "a longer time, or `never`.",
            path=("slos", name),
            proof=proof,
            labels=(("slo", name),),
        )

    def _of_silence(self, silence: Duration) -> Severity:
        """A ticket, where nobody has said that even a short one is a fault; else what the tier is worth."""
        traffic = self._expected.traffic if self.query is None and self.match is None else None
        if silence > _URGENT or (self.silent is None and traffic is None):
            return self._ticket
        wanted = _URGENCY[self._expected.tier]
        return min((one for one in self.severities if one >= wanted), default=max(self.severities))

    @property
    def _lost(self) -> str:
        return (
            "It does not happen any more"
            if self.query is not None
            else "None of it reaches the service any more"
        )

    @property
    def _search(self) -> str:
        if self.query is not None:
            return f"Find out what should show `{self.query.age or self.query.total}`, and why it does not."
        return (
            "See whether requests reach the service at all (its name, certificate and ingress), whether a limit "
            "refuses all of them, and whether their route still has its name."
        )

    @property
    def _ticket(self) -> Severity:
        """What can wait until tomorrow: P3, or the slowest of the severities asked for."""
        return Severity.P3 if Severity.P3 in self.severities else max(self.severities)

    @property
    def _action(self) -> str:
        if self.fresh is not None:
            return "Find out what should have renewed it, and why it does not."
        what = "requests" if self.query is None else "events"
        return (
            f"Find the {'routes' if self.query is None else 'series'} and the time at which {what} began to "
            + (
                f"{self._failing}; undo what changed then."
                if self.query is None
                else "be bad; undo what changed."
            )
        )

    def _traffic(self) -> int:
        """Events a minute in a proof: enough for every alert to be raised."""
        return max([PER_MINUTE, *(least for _, least in self._waiting())])

    def _gone(self, burn: Burn) -> Duration:
        hour = int(Duration.parse("1h"))
        return Duration(max(1, round(self.period / burn.factor / hour)) * hour)


def _proved(of: Freshness) -> Freshness:
    try:
        of.prove()
    except AgreementError as fault:
        raise NoAge(f"nothing shows that `{of.age}` is an age in seconds: {fault}") from None
    return of


def _part(of: Events) -> Events:
    """Bad events must be among all, as far as what they are events of, and their labels, can say."""
    beyond = outside(of.failed, of.every) if of.alike else None
    if beyond is not None:
        raise QueryError(f"`{of.failed}` is no part of `{of.every}`, which does not count `{beyond}`")
    return of


def _counter(text: str, signals: Mapping[str, Signal]) -> Selector:
    """The counter, or count of a histogram, that a query selects."""
    found = read(text, signals)
    if not isinstance(found, Selector) or found.window is not None:
        raise QueryError(f"`{text}` is more than a selector: its rate is taken over every window")
    if found.signal.kind is Kind.GAUGE:
        raise QueryError(f"{found.series} is a gauge, and events are counted by a counter")
    if found.signal.measured(found.suffix) is Unit.SECONDS:
        raise NoEvents(f"{found.series} adds up seconds, and counts no events")
    if found.suffix == "_bucket" and all(one.label != "le" for one in found.matchers):
        raise NoEvents(f"`{found}` counts an event once for every boundary that it does not exceed")
    return found


def ratio_signal(window: Duration, slo: str) -> Signal:
    """The recorded share of bad requests over a window."""
    text = f"Share of bad requests over {window}, for each SLO."
    return Signal(
        f"slo:sli_error:ratio_rate{window}", Kind.GAUGE, text, (Label("slo", (slo,)),), source=Source.RULE
    )


def events_signal(window: Duration, slo: str) -> Signal:
    """The recorded number of events over a window."""
    text = f"Events of the last {window}, for each SLO that waits for some."
    labels = (Label("slo", (slo,)),)
    return Signal(f"slo:sli_events:increase{window}", Kind.GAUGE, text, labels, source=Source.RULE)


def budget_signal(slo: str) -> Signal:
    """The recorded share of the error budget that is left; below zero when more than all of it is spent."""
    text = "Share of the error budget that is left in its window, for each SLO."
    return Signal(
        "slo:error_budget:remaining_ratio", Kind.GAUGE, text, (Label("slo", (slo,)),), source=Source.RULE
    )


def decimal(value: Fraction) -> Decimal:
    """The number as a rule shows it: exact, or to twelve significant digits where it has no end."""
    return plain(_DIGITS.divide(Decimal(value.numerator), Decimal(value.denominator)))


def _percent(ratio: Fraction) -> str:
    return f"{_short(ratio * 100)}%"


def _short(number: Fraction) -> str:
    return f"{plain(Context(prec=4).divide(Decimal(number.numerator), Decimal(number.denominator))):f}"
