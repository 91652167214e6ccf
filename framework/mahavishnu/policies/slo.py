"""Service level objectives, and the multi-window multi-burn-rate alerts that guard their error budgets.

The four tiers and their maths are those of "The Site Reliability Workbook" (Google, 2018), chapter 5: a tier
fires when the share of failures exceeds factor x budget over a long window, and still does over a short one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from mahavishnu.policies import _http
from mahavishnu.policy import Match, Policy, camel
from mahavishnu.promql import Expr, Number, total
from mahavishnu.series import HTTP_DURATION
from mahavishnu.signals import Alert, Feed, Kind, Label, Recording, Severity, Signal, Source
from mahavishnu.units import Duration, Percent, plain

# A rule shows at most so many significant digits of a threshold that has no end.
_DIGITS = Context(prec=12)
_PER_MINUTE = 600


@dataclass(frozen=True, slots=True)
class Tier:
    """How fast a budget may burn: `spent` of it within `long`, and still burning within `short`."""

    severity: Severity
    name: str
    long: Duration
    short: Duration
    spent: Fraction


TIERS = (
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
        """How many requests the long window needs so that a single failed one does not fire it."""
        return math.ceil(1 / self.ratio)


def _leaves_a_budget(objective: Percent) -> Percent:
    if objective.ratio >= 1:
        context = {
            "what": "an objective of 100% leaves no error budget",
            "help": "write what is enough, like `99.9%`",
        }
        raise PydanticCustomError("policy", "{what}", context)
    return objective


class Slo(Policy):
    """A promise over a rolling window: which share of requests succeeds or, with `under`, is fast enough."""

    keyword: ClassVar[str] = "objective"
    later: ClassVar[frozenset[str]] = frozenset({"query"})

    objective: Annotated[Percent, AfterValidator(_leaves_a_budget)]
    """The promised share of good requests."""
    under: Duration | None = None
    """A request is good when it takes no longer than this; without it, when it is not answered with 5xx."""
    window: Literal["7d", "28d", "30d", "90d"] = "30d"
    """Over which time the promise is kept."""
    match: Match | None = None
    """Which requests the promise is about."""
    severities: tuple[Severity, ...] = tuple(Severity)
    """Which burn rates raise an alert: P1 the fastest, P4 the slowest."""

    @property
    def budget(self) -> Fraction:
        """The share of requests that may fail: 1 - objective."""
        return 1 - Fraction(self.objective.ratio)

    @property
    def period(self) -> Duration:
        """The window as a length of time."""
        return Duration.parse(self.window)

    def tiers(self) -> tuple[Burn, ...]:
        """Each tier that was asked for, with factor = spent x window / long; dead ones included."""
        return tuple(
            Burn(tier, tier.spent * Fraction(int(self.period), int(tier.long)), self.budget)
            for tier in TIERS
            if tier.severity in self.severities
        )

    def signals(self, name: str) -> tuple[Signal, ...]:  # noqa: ARG002 (every policy is asked with its name)
        return (self._durations(),)

    def recordings(self, name: str) -> tuple[Recording, ...]:
        labels = (("slo", name),)
        ratios = [
            Recording(ratio_signal(window, name), self._ratio(window), labels) for window in self._windows()
        ]
        left = Number(Decimal(1)) - ratio_signal(self.period, name).select(slo=name) / decimal(self.budget)
        return (*ratios, Recording(budget_signal(name), left, labels))

    def bounds(self, name: str) -> tuple[tuple[Signal, Decimal], ...]:
        ratios = ((ratio_signal(window, name), decimal(self.budget)) for window in self._windows())
        return (*ratios, (budget_signal(name), Decimal(0)))

    def alerts(self, name: str) -> tuple[Alert, ...]:
        return tuple(self._alert(name, burn) for burn in self._live())

    def _windows(self) -> list[Duration]:
        return sorted({self.period, *(w for burn in self._live() for w in (burn.tier.long, burn.tier.short))})

    def _live(self) -> tuple[Burn, ...]:
        return tuple(burn for burn in self.tiers() if not burn.dead)

    def _durations(self) -> Signal:
        return HTTP_DURATION if self.under is None else _http.with_buckets(self.under.seconds)

    def _ratio(self, window: Duration) -> Expr:
        where = _http.matchers(self.match)
        if self.under is None:
            return _http.error_ratio(window, where)
        durations = self._durations()
        fast = total(durations.bucket_rate(window, self.under.seconds, **where))
        return Number(Decimal(1)) - fast / (total(durations.count_rate(window, **where)) > 0)

    def _alert(self, name: str, burn: Burn) -> Alert:
        tier, bad = burn.tier, "fail" if self.under is None else f"take longer than {self.under}"
        ratios = [ratio_signal(window, name).select(slo=name) for window in (tier.long, tier.short)]
        return Alert(
            name=f"Slo{camel(name)}Burn{tier.severity}",
            severity=tier.severity,
            expr=(ratios[0] > burn.threshold).and_(ratios[1] > burn.threshold),
            summary=f"SLO {name}: $value of the requests of the last {tier.long} {bad}.",
            unit="ratio",
            meaning=f"Over the last {tier.long} and the last {tier.short}, more than {_percent(burn.ratio)} "
            f"of the requests {bad}: {_short(burn.factor)} times what {self.objective} in {self.window} allows.",
            impact=f"At {_short(burn.factor)} times the allowed rate the error budget of {self.window} is "
            f"gone in {self._exhausted(burn)}; {_percent(tier.spent)} of it went in the last {tier.long}.",
            action=f"Find the routes and the time at which requests began to {bad}; undo what changed then.",
            path=("slos", name),
            proof=self._proof(),
            labels=(("slo", name), ("tier", tier.name), ("short", str(tier.short)), ("long", str(tier.long))),
        )

    def _exhausted(self, burn: Burn) -> Duration:
        hour = int(Duration.parse("1h"))
        return Duration(max(1, round(self.period / burn.factor / hour)) * hour)

    def _proof(self) -> tuple[Feed, ...]:
        labels = _http.sample(self.match)
        ok, failed = (dict(labels, http_response_status_code=code) for code in ("200", "500"))
        durations, every = self._durations(), _PER_MINUTE
        if self.under is None:
            return (
                Feed(durations.part("_count", **ok), healthy=every, faulty=0),
                Feed(durations.part("_count", **failed), healthy=0, faulty=every),
            )
        fast = durations.part("_bucket", le=durations.boundary(self.under.seconds), **ok)
        return (
            Feed(fast, healthy=every, faulty=0),
            Feed(durations.part("_count", **ok), healthy=every, faulty=every),
        )


def ratio_signal(window: Duration, slo: str) -> Signal:
    """The recorded share of bad requests over a window."""
    text = f"Share of bad requests over {window}, for each SLO."
    return Signal(
        f"slo:sli_error:ratio_rate{window}", Kind.GAUGE, text, (Label("slo", (slo,)),), source=Source.RULE
    )


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
