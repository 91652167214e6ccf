"""A process with a dependency at work, on a virtual clock."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import mahavishnu
from mahavishnu.policies.breaker import BreakerGuard
from mahavishnu.policies.bulkhead import BulkheadGuard
from mahavishnu.protocols import Site
from mahavishnu.runtime.calls.call import entered
from mahavishnu.runtime.calls.dependency import build_dependencies
from mahavishnu.runtime.context import HERE, Request
from mahavishnu.runtime.current import forget, use
from mahavishnu.runtime.keys import Caller
from mahavishnu.runtime.service import Service
from mahavishnu.spec import Spec
from mahavishnu.testing import VirtualClock
from tests.metering import value

SECOND = 10**9
ALL: dict[str, Any] = {
    "timeout": "2s",
    "retry": {"attempts": 3, "base": "100ms"},
    "breaker": {"failure_rate": "50%", "min_calls": 100, "open_for": "30s", "probes": 3},
    "bulkhead": {"concurrency": 4, "wait": "1s"},
}


def all_but(**changes: Any) -> dict[str, Any]:
    """Every policy, with some said otherwise."""
    return {**ALL, **changes}


@contextmanager
def serving(request_id: str = "", *, deadline: int | None = None) -> Generator[Request, None, None]:
    """As if a request of this id and deadline (ns) were being served."""
    request = Request(request_id, Caller("203.0.113.1"))
    request.deadline = deadline
    token = HERE.set(entered(request))
    try:
        yield request
    finally:
        HERE.reset(token)


class World:
    """A process with a spec at work: its clock, its series, its dependencies."""

    def __init__(
        self,
        *,
        auto: bool = True,
        others: dict[str, Any] | None = None,
        also: dict[str, Any] | None = None,
        draw: float = 0.5,
        **stripe: Any,
    ) -> None:
        said = {
            **(also or {}),
            "mahavishnu": 1,
            "service": {"name": "shop", "app": "shop:app"},
            "dependencies": {"stripe": stripe or ALL, **(others or {})},
        }
        self.clock = VirtualClock(auto=auto)
        spec = Spec.model_validate(said)
        self.service = service = Service(spec, self.clock)
        service.dependencies = build_dependencies(
            spec, Site("stripe", self.clock, service.metrics, random=lambda: draw)
        )
        service.stand_by()
        forget()
        use(self.service)
        self.stripe = mahavishnu.dependency("stripe")

    def guard(self, kind: type[Any], name: str = "stripe") -> Any:
        return next(one for one in self.service.dependencies[name].guards if isinstance(one, kind))

    @property
    def guardian(self) -> Any:
        """What guards every call."""
        return self.service.dependencies["stripe"]

    @property
    def breaker(self) -> BreakerGuard:
        found: BreakerGuard = self.guard(BreakerGuard)
        return found

    @property
    def bulkhead(self) -> BulkheadGuard:
        found: BulkheadGuard = self.guard(BulkheadGuard)
        return found

    def calls(self, outcome: str, name: str = "stripe") -> float:
        series = "mahavishnu_dependency_calls_total"
        return value(self.service.metrics, series, dependency=name, outcome=outcome)

    def retries(self, outcome: str) -> float:
        return value(self.service.metrics, "mahavishnu_retries_total", outcome=outcome)

    def fallbacks(self, kind: str, outcome: str) -> float:
        series = "mahavishnu_dependency_fallbacks_total"
        return value(self.service.metrics, series, dependency="stripe", fallback=kind, outcome=outcome)

    def judged(self) -> float:
        return value(self.service.metrics, "mahavishnu_breaker_calls_total", dependency="stripe")

    def at_rest(self) -> bool:
        """Whether nothing is held, waited for or timed any more."""
        return (self.bulkhead.in_flight, self.bulkhead.waiting, self.clock.timers) == (0, 0, 0)
