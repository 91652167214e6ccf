"""A rate as the engine applies it: whose bucket a request charges, and the answer in words and numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from mahavishnu.policy import CallMatch, Limit
from mahavishnu.protocols import BEFORE, Algorithm, Decision, Metered
from mahavishnu.runtime.limits.cells import Cells
from mahavishnu.runtime.limits.fields import QUOTA_EXCEEDED, REDUCED_CAPACITY
from mahavishnu.runtime.limits.margin import Margin
from mahavishnu.units import Duration, Rate, seconds


class _Nowhere:
    """What is counted here, nobody reads."""

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, amount: float = 1) -> None:
        """Count for nobody."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """One rate, with everything that is the same for all its requests worked out."""

    name: str
    match: CallMatch | None
    algorithm: Algorithm
    cost: int
    enforced: bool
    quota: int
    window: int
    words: str
    cells: Cells
    margin: Margin
    shared: bool = True
    on_store_failure: str = "local"
    per: tuple[str, ...] = ()

    @classmethod
    def of(cls, name: str, limit: Limit, metered: Metered, cells: Cells) -> RateLimit:
        """From the settings of a limit that counts requests; `limit` and `metered` are the same object."""
        quota, window = metered.quota()
        words = f"limit `{name}` allows {Rate(quota, Duration(window))}"
        algorithm, enforced = metered.algorithm_of(), limit.mode == "enforce"
        margin = Margin(algorithm.standing(None, 0)[0], cells.near)
        shared = getattr(limit, "scope", "fleet") == "fleet"
        without = getattr(limit, "on_store_failure", "local")
        return cls(
            *(name, limit.match, algorithm, metered.cost, enforced, quota, window, words, cells, margin),
            shared,
            without,
            metered.per,
        )

    def set_aside(self, name: str) -> RateLimit:
        """The same rate for a while beside the one that took its place: it only refuses."""
        return replace(self, name=name, cells=replace(self.cells, allowed=_Nowhere()))

    def denied(self) -> None:
        """Count a request that did not fit."""
        (self.cells.refused if self.enforced else self.cells.observed).inc()
        self.margin.exceeded()

    def refusal(self, wait: int | None, *, lost: bool) -> Decision:
        """The answer to a request that this rate refuses for so long (ns, None: for ever).

        `lost`: for want of the store, not of quota.
        """
        name = self.name.rstrip(BEFORE)
        if lost:
            detail = f"limit `{name}` is closed while its store cannot be asked"
            return Decision(False, name, 503, REDUCED_CAPACITY, detail, wait)
        detail = self.words if wait is None else f"{self.words}; retry in {seconds(wait)} s"
        # a flood is refused here: in 0.7 us, where `Decision(…)` makes it 0.9
        return tuple.__new__(Decision, (False, name, 429, QUOTA_EXCEEDED, detail, wait, None, None))  # pyright: ignore[reportUnknownMemberType]


def longest(denied: Iterable[Decision]) -> Decision:
    """The refusal that takes longest: who waits for that one is admitted by all. None lasts for ever."""
    return max(denied, key=lambda one: (one.retry_after is None, one.retry_after or 0))
