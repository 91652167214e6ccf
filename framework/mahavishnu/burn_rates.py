"""How fast error budgets may burn: four tiers, and their numbers for one objective."""

# The four tiers and their maths are those of "The Site Reliability Workbook" (Google, 2018), chapter 5: a tier
# fires when the share of failures exceeds factor x budget over a long window, and still does over a short one. Its
# windows are for 30 days; for another period they are as much longer or shorter, and the factors stay.

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction

from mahavishnu.signals import Severity
from mahavishnu.units import Duration, plain

# A rule shows at most so many significant digits of a threshold that has no end.
_DIGITS = Context(prec=12)
_MONTH = Duration.parse("30d")
SHORTEST = Duration.parse("2m")
"""No window is shorter: eight scrapes of 15 s, so that two that fail do not empty it."""


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
        return Tier(self.severity, self.name, long, max(short, SHORTEST), self.spent)


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


def burns(period: Duration, budget: Fraction, severities: Collection[Severity]) -> tuple[Burn, ...]:
    """Each tier of these severities, with factor = spent x period / long; dead ones included."""
    tiers = [one.within(period) for one in _TIERS if one.severity in severities]
    return tuple(Burn(one, one.spent * Fraction(int(period), int(one.long)), budget) for one in tiers)


def decimal(value: Fraction) -> Decimal:
    """The number as a rule shows it: exact, or to twelve significant digits where it has no end."""
    return plain(_DIGITS.divide(Decimal(value.numerator), Decimal(value.denominator)))
