"""A rate as the engine applies it: whose bucket a request claims, and the answer in words and numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from mahavishnu.policy import Algorithm, Claim, Decision, Dimension, Limit, Match, Metered, Verdict
from mahavishnu.runtime.fields import QUOTA_EXCEEDED
from mahavishnu.units import Duration, Rate


class Caller(NamedTuple):
    """Who asks, and for what: the bucket of the address, the verified user, the route."""

    address: str
    user: str | None
    route: str

    def part(self, dimension: Dimension) -> str:
        """The caller's name in one dimension; kinds are marked, so that no user can be named like an address."""
        if dimension == "global":
            return ""
        if dimension == "route":
            return f"r:{self.route}"
        if dimension == "ip" or self.user is None:
            return f"i:{self.address}"
        return f"u:{self.user}"


@dataclass(frozen=True, slots=True)
class RateLimit:
    """One rate, with everything that is the same for all its requests worked out."""

    name: str
    match: Match | None
    per: tuple[Dimension, ...]
    algorithm: Algorithm
    cost: int
    enforced: bool
    quota: int
    window: int
    words: str

    @classmethod
    def of(cls, name: str, limit: Limit, metered: Metered) -> RateLimit:
        """From the settings of a limit that counts requests; both arguments are the same object."""
        quota, window = metered.quota()
        enforced = limit.mode == "enforce"
        words = f"limit `{name}` allows {Rate(quota, Duration(window))}"
        algorithm, cost = metered.algorithm_of(), metered.cost
        return cls(name, limit.match, metered.per, algorithm, cost, enforced, quota, window, words)

    def claim(self, caller: Caller) -> Claim:
        """The caller's claim on its bucket."""
        key = "\0".join([caller.part(dimension) for dimension in self.per])
        return Claim(self.name, key, self.algorithm, self.cost, self.enforced)

    def decision(self, verdict: Verdict[Any]) -> Decision:
        """The verdict with the numbers a client is told."""
        return Decision(
            verdict.allowed,
            self.name,
            200 if verdict.allowed else 429,
            QUOTA_EXCEEDED,
            "" if verdict.allowed else self._refusal(verdict),
            verdict.retry_after,
            self.quota,
            self.window if self.enforced else 0,
            verdict.remaining,
            verdict.reset,
        )

    def _refusal(self, verdict: Verdict[Any]) -> str:
        if verdict.retry_after is None:
            return self.words
        return f"{self.words}; retry in {-(-verdict.retry_after // 10**9)} s"
