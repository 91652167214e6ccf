"""Which limits a request meets: worked out once for each route template and method, and for each tool."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from mahavishnu.policies.body import Body
from mahavishnu.policies.timeout import Timeout
from mahavishnu.policy import Limit, Match
from mahavishnu.protocols import BEFORE, Counter, Gate, Store
from mahavishnu.runtime.keys import Key, key_of
from mahavishnu.runtime.limits.cells import Cells
from mahavishnu.runtime.limits.fast_path import FastPath
from mahavishnu.runtime.limits.fields import RateLimitFields
from mahavishnu.runtime.limits.margin import Margin
from mahavishnu.runtime.limits.memory_store import MemoryStore
from mahavishnu.runtime.limits.offenders import Refusals
from mahavishnu.runtime.limits.plan import GateLimit, Plan
from mahavishnu.runtime.limits.rates import RateLimit
from mahavishnu.runtime.limits.size_limit import SizeLimit
from mahavishnu.runtime.limits.time_limit import TimeLimit

_TOOLS = 1000  # that a program may call by name
_WITHOUT_BODY = ("GET", "HEAD", "OPTIONS")  # nearly always
_Named = tuple[str, Limit]
A = TypeVar("A", SizeLimit, TimeLimit)


class Planner:
    """Plans of the limits that are not off; `rates` says which rates hold now, and `forget` is called when they change.

    `limits`, `gates`, `cells` and `margins` are by the limits' names.
    """

    def __init__(
        self,
        limits: Mapping[str, Limit],
        rates: Callable[[], tuple[RateLimit, ...]],
        gates: Mapping[str, Gate],
        cells: Mapping[str, Cells],
        margins: Mapping[str, Margin],
        store: Store,
        refusals: Refusals,
    ) -> None:
        self.plans: dict[tuple[str, str], Plan] = {}
        """Those that have been asked for, by route template and method."""
        self.store = store
        self._tools: dict[tuple[str, str], Plan] = {}
        self._limits = limits
        self._rates = rates
        self._gates = gates
        self._cells = cells
        self._margins = margins
        self._refusals = refusals

    def forget(self) -> None:
        """Other rates hold from now on."""
        self.plans.clear()
        self._tools.clear()

    def plan(self, route: str, method: str) -> Plan:
        """The limits of a route template and a method; both must be bounded sets, for the answer is kept."""
        key = (route, method)
        plan = self.plans.get(key)
        if plan is None:
            plan = self.plans[key] = self._planned(route, method)
        return plan

    def tool_plan(self, tool: str, route: str = "") -> Plan:
        """The rates that calls of a tool meet, from a request on this route; no request meets them."""
        plan = self._tools.get((tool, route))
        if plan is None:
            if len(self._tools) >= _TOOLS:
                self._tools.clear()
            rates = tuple(one for one in self._rates() if one.match is not None and one.match.calls(tool))
            counted, told = _counted(rates, route, tool), _told(rates)
            plan = Plan(("", ""), rates, *counted, told=told, later=self._later(rates))
            self._tools[tool, route] = plan
        return plan

    def _planned(self, route: str, method: str) -> Plan:
        rates = tuple(one for one in self._rates() if _applies(one.match, route, method))
        keys, allowed = _counted(rates, route)
        body, body_trial = self._size_limits(route, method)
        timeout, timeout_trial = self._time_limits(route, method)
        later = self._later(rates)
        return Plan(
            (route, method),
            rates,
            keys,
            allowed,
            self._gate_limits(route, method),
            body,
            timeout,
            _told(rates),
            self._fast_path(rates, keys, later=later),
            plain=timeout is None or (timeout.plain and timeout_trial is None),
            later=later,
            uploads=timeout is not None and method not in _WITHOUT_BODY,
            body_trial=body_trial,
            timeout_trial=timeout_trial,
        )

    def _later(self, rates: Iterable[RateLimit]) -> bool:
        """Whether one of these is kept where the answer comes later."""
        return self.store.waits and any(one.shared for one in rates)

    def _fast_path(
        self, rates: tuple[RateLimit, ...], keys: tuple[Key, ...], *, later: bool
    ) -> FastPath | None:
        """None where these cannot be decided in the usual way, or there is nothing to decide."""
        store = self.store if later else self.store.memory
        alone = all(not one.name.endswith(BEFORE) for one in rates)
        if not (rates and alone and isinstance(store, MemoryStore) and FastPath.fits(rates)):
            return None
        return FastPath(store, rates, keys, self._refusals)

    def _gate_limits(self, route: str, method: str) -> tuple[GateLimit, ...]:
        """The narrowest first: whoever waits for one of a few places holds none of those that all need."""
        return tuple(
            self._gate(name, route, method)
            for name in sorted(self._gates, key=self._narrow, reverse=True)
            if _applies(self._limits[name].match, route, method)
        )

    def _gate(self, name: str, route: str, method: str) -> GateLimit:
        limit: Any = self._limits[name]
        return GateLimit(name, self._gates[name], limit.rank(route, method), self._cells[name])

    def _narrow(self, name: str) -> tuple[int, ...]:
        """Orders gates by how few requests they are for; an adaptive one learns only from who gets past the others."""
        limit = self._limits[name]
        return (*limit.exactness, not getattr(limit, "adaptive", False))

    def _size_limits(self, route: str, method: str) -> tuple[SizeLimit | None, SizeLimit | None]:
        holds, tried = self._of_kind(Body, route, method)
        return self._applied(SizeLimit.of, holds), self._applied(SizeLimit.of, tried)

    def _time_limits(self, route: str, method: str) -> tuple[TimeLimit | None, TimeLimit | None]:
        holds, tried = self._of_kind(Timeout, route, method)
        return self._applied(TimeLimit.of, holds), self._applied(TimeLimit.of, tried)

    def _applied(self, of: Callable[[str, Any, Cells, Margin], A], named: _Named | None) -> A | None:
        return named and of(*named, self._cells[named[0]], self._margins[named[0]])

    def _of_kind(self, kind: type[Limit], route: str, method: str) -> tuple[_Named | None, _Named | None]:
        """The limit that a request is held to, and the one that is tried beside it: each names it most exactly.

        One that observes never takes the place of one that is enforced; it is beside it unless that one is nearer.
        """
        fitting = [
            (name, one)
            for name, one in self._limits.items()
            if isinstance(one, kind) and _applies(one.match, route, method)
        ]
        holds = max((one for one in fitting if one[1].mode == "enforce"), key=_exactness, default=None)
        tried = max((one for one in fitting if one[1].mode == "observe"), key=_exactness, default=None)
        if holds is None or tried is None:
            return holds or tried, None
        return holds, tried if _exactness(tried) >= _exactness(holds) else None


def _told(rates: Iterable[RateLimit]) -> RateLimitFields:
    """What clients are told of these; nobody sees those that only hold on."""
    return RateLimitFields([one for one in rates if not one.name.endswith(BEFORE)])


def _counted(
    rates: Iterable[RateLimit], route: str, tool: str = ""
) -> tuple[tuple[Key, ...], tuple[Counter, ...]]:
    """The keys of these rates' buckets, and the cells of what they let in."""
    return tuple(key_of(one.per, route, tool) for one in rates), tuple(one.cells.allowed for one in rates)


def _applies(match: Match | None, route: str, method: str) -> bool:
    """Whether a policy with this match concerns requests for this route and method."""
    return match is None or match.meets(route, method)


def _exactness(named: _Named) -> tuple[int, ...]:
    return named[1].exactness
