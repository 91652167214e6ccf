"""Service level objectives: what is promised, what is counted for it, and how much may fail."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, PrivateAttr, model_validator

from mahavishnu.burn_rates import Burn, burns, decimal
from mahavishnu.ground.unfit import unfit
from mahavishnu.policies import _http
from mahavishnu.policies._indicators import Events, Freshness, Indicator, Requests
from mahavishnu.policies._slo_budget import BudgetAlerts
from mahavishnu.policies._slo_queries import Asked, indicated
from mahavishnu.policies._slo_series import budget_signal, events_signal, ratio_signal
from mahavishnu.policies._slo_silence import SilenceAlert
from mahavishnu.policy import Expected, Match, Policy
from mahavishnu.promql import Number
from mahavishnu.queries.written import QueryError
from mahavishnu.series import SLO_REQUESTS
from mahavishnu.settings import Count
from mahavishnu.signals import Alert, Recording, Severity, Signal, Unit
from mahavishnu.units import Duration, Percent


def _leaves_a_budget(objective: Percent) -> Percent:
    if objective.ratio >= 1:
        raise unfit("an objective of 100% leaves no error budget", "write what is enough, like `99.9%`")
    return objective


class Slo(Policy):
    """A promise over a rolling window: which share of requests succeeds or, with `under`, is fast enough.

    With `fresh`, in which share of the time something is young enough; with `query`, which share of events of your
    own is good. Requests are those that a living process has answered: what a dead one would have is in no promise.
    Nor is what a rate refuses (429), a body that comes too slowly (408), what no route takes (4xx), or what is answered
    without the app: a preflight, a body that announces too much (413).
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
        asked._read = indicated(name, self.query, self.fresh, signals)  # noqa: SLF001 (a copy of this one)
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
            return Requests(name, self.failing)
        if self._read is None:
            raise QueryError("the queries of this objective have not been read")
        return self._read

    def units(self, name: str) -> tuple[Unit, Unit] | None:
        """What all events are that its queries count, and what the bad ones are; None where it counts none."""
        of = self.indicator(name)
        return of.units if isinstance(of, Events) else None

    @property
    def failing(self) -> str:
        """What bad requests do."""
        return "fail" if self.under is None else f"take longer than {self.under}"

    @property
    def ticket(self) -> Severity:
        """What can wait until tomorrow: P3, or the slowest of the severities asked for."""
        return Severity.P3 if Severity.P3 in self.severities else max(self.severities)

    def tiers(self) -> tuple[Burn, ...]:
        """Each tier that was asked for; dead ones included."""
        return burns(self.period, self.budget, self.severities)

    def live(self) -> tuple[Burn, ...]:
        """Those that can fire."""
        return tuple(burn for burn in self.tiers() if not burn.dead)

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
            for one in sorted({window for window, _ in self.waiting()})
            if (events := indicator.events(one)) is not None
        ]
        return (*stale, *ratios, *counted, Recording(budget_signal(name), left, labels))

    def bounds(self, name: str) -> tuple[tuple[Signal, Decimal], ...]:
        ratios = ((ratio_signal(window, name), decimal(self.budget)) for window in self._windows())
        events = ((events_signal(window, name), Decimal(least)) for window, least in self.waiting())
        return (*ratios, *events, (budget_signal(name), Decimal(0)))

    def waiting(self) -> Iterator[tuple[Duration, int]]:
        """The windows that must hold so many requests before an alert is raised on them."""
        if self.severities:
            waits = [(burn.tier.long, self.waits_for(burn)) for burn in self.live()]
            for window, least in (*waits, (self.period, self.spends_from)):
                if least is not None:
                    yield window, least

    def alerts(self, name: str) -> tuple[Alert, ...]:
        if not self.severities:
            return ()
        return (*BudgetAlerts(name, self).all(), *SilenceAlert(name, self, self._expected).all())

    def _windows(self) -> list[Duration]:
        return sorted({self.period, *(w for burn in self.live() for w in (burn.tier.long, burn.tier.short))})
