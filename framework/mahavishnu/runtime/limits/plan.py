"""The limits that one route and method meet, with all that is the same for its requests worked out."""

from __future__ import annotations

from dataclasses import dataclass, field

from mahavishnu.protocols import Counter, Gate, Histogram
from mahavishnu.runtime.keys import Key
from mahavishnu.runtime.limits.cells import Cells
from mahavishnu.runtime.limits.fast_path import FastPath
from mahavishnu.runtime.limits.fields import NOTHING_TOLD, RateLimitFields
from mahavishnu.runtime.limits.rates import RateLimit
from mahavishnu.runtime.limits.size_limit import SizeLimit
from mahavishnu.runtime.limits.time_limit import TimeLimit


@dataclass(frozen=True, slots=True)
class GateLimit:
    """A concurrency limit as it is applied to one route."""

    name: str
    gate: Gate
    rank: int
    cells: Cells


@dataclass(frozen=True, slots=True)
class Plan:
    """The limits that one route and method meet, what their RateLimit fields say, and their cells of the series.

    `keys` name the buckets of the rates, `allowed` count what they let in; `fast` decides them where nothing is
    special, for requests that nothing else can refuse before the handler runs. `plain`: whether they are held to no
    more than a plain time; `later`: whether one of the rates is kept where the answer comes later; `uploads`: whether
    their time may be spent by a client who sends a body, as their method says. A `trial` only counts, beside the limit
    that holds.
    """

    key: tuple[str, str] = ("", "")
    rates: tuple[RateLimit, ...] = ()
    keys: tuple[Key, ...] = ()
    allowed: tuple[Counter, ...] = ()
    gates: tuple[GateLimit, ...] = ()
    body: SizeLimit | None = None
    timeout: TimeLimit | None = None
    told: RateLimitFields = NOTHING_TOLD
    fast: FastPath | None = None
    plain: bool = False
    later: bool = False
    uploads: bool = False
    body_trial: SizeLimit | None = None
    timeout_trial: TimeLimit | None = None
    cells: dict[int, Histogram] = field(default_factory=dict[int, Histogram])

    def has_room(self) -> bool:
        """Whether each of the gates has a free place now."""
        for one in self.gates:  # noqa: SIM110 - a generator would cost as much again
            if not one.gate.has_room(one.rank):
                return False
        return True
