"""How many requests in how much time."""

from __future__ import annotations

from decimal import Decimal
from typing import ClassVar, Literal

from pydantic import model_validator

from mahavishnu import units
from mahavishnu.algorithms import Gcra, SlidingLog, SlidingWindow
from mahavishnu.ground.unfit import unfit
from mahavishnu.policy import Limit, Per, camel
from mahavishnu.promql import total
from mahavishnu.protocols import Algorithm
from mahavishnu.series import LIMIT_DECISIONS, LIMIT_NEAR
from mahavishnu.settings import Count
from mahavishnu.signals import WINDOW, Alert, Feed, Severity
from mahavishnu.units import Duration

_REFUSED_RATIO = Decimal("0.05")
_NEAR_RATIO = Decimal("0.2")
_ENOUGH = 10
_LONGEST_LOG = 1000
_LONGEST = 2 * Duration.parse("3650d")  # up to there the scripts of a shared store are exact


class Rate(Limit):
    """At most so many requests in a period, for each client, address, user, route, or for all together."""

    keyword: ClassVar[str] = "rate"

    rate: units.Rate
    """How many requests in how much time."""
    burst: Count | None = None
    """How many may come at once; the whole count when absent. Only for `gcra`."""
    per: Per = ("client",)
    """Whose requests are counted together; several names make one bucket per combination.

    `client` is the verified user, else the API key, else the address; `ip` an IPv4 address or an IPv6 /64;
    `network` its /24 or /48; `user`, `api_key` and `session` whom the app has verified, else the address;
    `header:<name>` what a trusted proxy writes there; `tool` the tool that is called.
    """
    algorithm: Literal["gcra", "sliding_window", "sliding_log"] = "gcra"
    """`gcra` refills evenly; `sliding_window` weighs two counters; `sliding_log` is exact, for small counts."""
    cost: Count = 1
    """How much of the quota one request takes."""
    scope: Literal["fleet", "process"] = "fleet"
    """Whether the number holds for all processes together or for each one alone."""
    on_store_failure: Literal["local", "open", "closed"] = "local"
    """While the shared store is lost: count in each process, let everything through, or refuse with 503."""

    @model_validator(mode="after")
    def _fits(self) -> Rate:
        if "tool" in self.per and (self.match is None or self.match.tool is None):
            raise unfit(
                "`per: tool` counts calls of tools, and this limit applies to requests",
                'add `match: {tool: "*"}`, or use `per: route`',
            )
        if self.burst is not None and self.algorithm != "gcra":
            raise unfit(
                f"`burst` has no meaning for {self.algorithm}", "remove `burst`, or use `algorithm: gcra`"
            )
        if self.algorithm == "sliding_log" and self.rate.count > _LONGEST_LOG:
            raise unfit(
                f"sliding_log keeps {self.rate.count} times per client; at most {_LONGEST_LOG} are allowed",
                "use `algorithm: sliding_window`",
            )
        if self.scope == "process" and "on_store_failure" in self.model_fields_set:
            raise unfit(
                "`on_store_failure` has no meaning for what each process counts by itself",
                "remove it, or write `scope: fleet`",
            )
        if self.algorithm_of().horizon > _LONGEST:
            raise unfit(
                f"{self.rate} takes more than ten years to be whole again",
                "use a shorter period, or a smaller `burst`",
            )
        if self.cost > (self.burst or self.rate.count):
            raise unfit(
                f"a request costs {self.cost}, more than can ever be admitted",
                "lower `cost`, or raise the rate",
            )
        return self

    def algorithm_of(self) -> Algorithm:
        """The state machine that enforces this rate."""
        if self.algorithm == "gcra":
            return Gcra(self.rate.count, self.rate.period, self.burst or self.rate.count)
        kind = SlidingWindow if self.algorithm == "sliding_window" else SlidingLog
        return kind(self.rate.count, self.rate.period)

    def peak(self, lives: int = 1) -> int:
        """The most requests that one count admits in any period, a burst included; it begins anew `lives` - 1 times."""
        return self.algorithm_of().peak(self.cost, lives)

    def quota(self) -> tuple[int, int]:
        """The count and its window in nanoseconds."""
        return self.rate.count, int(self.rate.period)

    def number(self) -> float:
        return self.rate.count

    def alerts(self, name: str) -> tuple[Alert, ...]:
        # Who may ask but a few times has nearly used it up with the last of them: that says nothing.
        enough = (self.burst or self.rate.count) // self.cost >= _ENOUGH
        return (self._refusing(name), *((self._nearly(name),) if enough else ()))

    @property
    def _are(self) -> str:
        return "are" if self.mode == "enforce" else "would be"

    @property
    def _status(self) -> str:
        lost = self.scope == "fleet" and self.on_store_failure == "closed"
        return "429, or with 503 while the store cannot be asked" if lost else "429"

    def _refusing(self, name: str) -> Alert:
        decisions = LIMIT_DECISIONS.closed(limit=name)
        refuses = "would refuse" if self.mode == "observe" else "refuses"
        return Alert(
            name=f"Limit{camel(name)}Refusing",
            severity=Severity.P3,
            expr=self.share(name) > _REFUSED_RATIO,
            bad=self.denied(name),
            hold=Duration.parse("10m"),
            summary=f"Limit {name} ({self.rate}) {refuses} $value of its requests.",
            unit="ratio",
            meaning=f"More than 5% of the requests for limit {name} {self._are} refused with {self._status}.",
            impact="Some callers are turned away: one that misbehaves, or many that outgrew the limit."
            if self.mode == "enforce"
            else "None yet (observe): nobody is turned away.",
            action=f"Find out who that is; raise limits.{name}.rate if they are right, else leave it.",
            path=("limits", name),
            proof=(
                Feed(decisions.select(limit=name, outcome="allowed"), healthy=600, faulty=540),
                Feed(decisions.select(limit=name, outcome=self.denial), healthy=0, faulty=60),
            ),
        )

    def _nearly(self, name: str) -> Alert:
        near = total(LIMIT_NEAR.rate(WINDOW, limit=name))
        whom = "everybody" if self.per == ("global",) else "its client"
        allowed = LIMIT_DECISIONS.select(limit=name, outcome="allowed")
        return Alert(
            name=f"Limit{camel(name)}NearlyExhausted",
            severity=Severity.P4,
            expr=near / total(LIMIT_DECISIONS.rate(WINDOW, limit=name, outcome="allowed")) > _NEAR_RATIO,
            bad=near,
            hold=Duration.parse("20m"),
            summary=f"$value of what limit {name} ({self.rate}) lets in leaves {whom} hardly anything.",
            unit="ratio",
            meaning=f"More than 20% of the requests that limit {name} admits leave less than a tenth of the quota.",
            impact=f"None yet; these callers {self._are} refused as soon as they ask a little more.",
            action=f"Find out who they are; raise limits.{name}.rate before they need it, or ask them to slow down.",
            path=("limits", name),
            proof=(
                Feed(allowed, healthy=600, faulty=600),
                Feed(LIMIT_NEAR.select(limit=name), healthy=0, faulty=300),
            ),
        )
