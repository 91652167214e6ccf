"""What must be known of an error budget: that it burns too fast, and that it is spent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction
from typing import TYPE_CHECKING

from mahavishnu.burn_rates import Burn
from mahavishnu.policies._indicators import PER_MINUTE, Indicator
from mahavishnu.policies._slo_series import budget_signal, events_signal, ratio_signal
from mahavishnu.policy import camel
from mahavishnu.promql import Expr
from mahavishnu.signals import Alert
from mahavishnu.units import HOUR, Duration, plain

if TYPE_CHECKING:
    from mahavishnu.policies.slo import Slo


@dataclass(frozen=True, slots=True)
class BudgetAlerts:
    """The alerts of one objective's error budget."""

    name: str
    slo: Slo

    def all(self) -> Iterator[Alert]:
        """One for each tier that can fire, and one for a budget that is gone."""
        yield from (self._burning(burn) for burn in self.slo.live())
        yield self._exhausted()

    @property
    def _of(self) -> Indicator:
        return self.slo.indicator(self.name)

    def _burning(self, burn: Burn) -> Alert:
        name, slo, tier, of = self.name, self.slo, burn.tier, self._of
        long, short = (ratio_signal(one, name).select(slo=name) for one in (tier.long, tier.short))
        burning = (long > burn.threshold).and_(short > burn.threshold)
        return Alert(
            name=f"Slo{camel(name)}Burn{tier.severity}",
            severity=tier.severity,
            expr=self._above(slo.waits_for(burn), tier.long, burning),
            summary=f"SLO {name}: $value of the {of.noun} of the last {tier.long} {of.bad}.",
            unit="ratio",
            meaning=f"Over the last {tier.long} and the last {tier.short}, more than {_percent(burn.ratio)} "
            f"of the {of.noun} {of.bad}: {_short(burn.factor)} times what {slo.objective} in {slo.window} allows.",
            impact=f"At {_short(burn.factor)} times the allowed rate the error budget of {slo.window} is "
            f"gone in {self._gone(burn)}; {_percent(tier.spent)} of it went in the last {tier.long}.",
            action=self._action,
            path=("slos", name),
            proof=of.proof(self._traffic()),
            labels=(("slo", name), ("tier", tier.name), ("short", str(tier.short)), ("long", str(tier.long))),
        )

    def _exhausted(self) -> Alert:
        name, slo, of = self.name, self.slo, self._of
        spent = budget_signal(name).select(slo=name) <= 0
        return Alert(
            name=f"Slo{camel(name)}BudgetExhausted",
            severity=slo.ticket,
            expr=self._above(slo.spends_from, slo.period, spent),
            summary=f"SLO {name}: the error budget of {slo.window} is spent; $value of the budget is left.",
            unit="ratio",
            meaning=f"Over the last {slo.window}, more than {_percent(slo.budget)} of the {of.noun} {of.bad}.",
            impact=f"The promise of {slo.objective} is broken until bad times are {slo.window} ago.",
            action="Agree what waits until the budget is back: risky changes first. Nothing mends it but time.",
            path=("slos", name),
            proof=of.proof(self._traffic()),
            labels=(("slo", name),),
        )

    def _above(self, least: int | None, window: Duration, condition: Expr) -> Expr:
        """The condition, on so many requests in a window."""
        if least is None:
            return condition
        return condition.and_(events_signal(window, self.name).select(slo=self.name) >= least)

    @property
    def _action(self) -> str:
        if self.slo.fresh is not None:
            return "Find out what should have renewed it, and why it does not."
        if self.slo.query is not None:
            return "Find the series and the time at which events began to be bad; undo what changed."
        return (
            f"Find the routes and the time at which requests began to {self.slo.failing}; "
            "undo what changed then."
        )

    def _traffic(self) -> int:
        """Events a minute in a proof: enough for every alert to be raised."""
        return max([PER_MINUTE, *(least for _, least in self.slo.waiting())])

    def _gone(self, burn: Burn) -> Duration:
        return Duration(max(1, round(self.slo.period / burn.factor / HOUR)) * HOUR)


def _percent(ratio: Fraction) -> str:
    return f"{_short(ratio * 100)}%"


def _short(number: Fraction) -> str:
    return f"{plain(Context(prec=4).divide(Decimal(number.numerator), Decimal(number.denominator))):f}"
