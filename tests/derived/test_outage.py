"""What `check` says may get through is the most that can: an engine for each process, and whoever takes all he can."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from mahavishnu.checks import Facts, effective_limit
from mahavishnu.contract import contract
from mahavishnu.derived.outage import outage
from mahavishnu.derived.shares import shares
from mahavishnu.policies.rate import Rate
from mahavishnu.runtime.keys import Caller
from mahavishnu.runtime.limits.admission import Admission
from mahavishnu.runtime.limits.engine import Engine
from mahavishnu.runtime.limits.memory_store import MemoryStore
from mahavishnu.runtime.telemetry.metrics import Metrics
from mahavishnu.spec import Spec
from mahavishnu.testing import VirtualClock
from tests.runtime.asgi_client import spec_of

CLIENT = Caller("203.0.113.1")
RATES: Sequence[dict[str, Any]] = (
    {"rate": "12/minute"},
    {"rate": "12/minute", "cost": 5},
    {"rate": "12/minute", "burst": 200},
    {"rate": "12/minute", "burst": 200, "cost": 7},
    {"rate": "60/minute", "burst": 3},
    {"rate": "60/minute", "burst": 3, "cost": 2},
    {"rate": "1/10s"},
    {"rate": "12/15m", "algorithm": "sliding_window"},
    {"rate": "12/minute", "algorithm": "sliding_window", "cost": 5},
    {"rate": "1/minute", "algorithm": "sliding_window"},
    {"rate": "12/minute", "algorithm": "sliding_log"},
    {"rate": "12/minute", "algorithm": "sliding_log", "cost": 5},
)
MOMENTS = 240
"""In which whoever takes all he can comes, within a period."""


class Counts:
    """All that counts for a spec: each process, and first of all the store where there is one, which counts as they do.

    The store comes and goes as it suits whoever asks: at each moment he gets what it lets in, and what they do.
    """

    def __init__(self, spec: Spec, clock: VirtualClock) -> None:
        self._contract, self._clock = contract(spec), clock
        self._engines = [self._engine() for _ in range(spec.processes + spec.shared)]

    def empty(self) -> None:
        """The store has lost its data."""
        self._engines[0] = self._engine()

    async def drained(self) -> int:
        """How many requests of one client are let in at this moment."""
        return sum([await self._all_of(one) for one in self._engines])

    def _engine(self) -> Engine:
        return Engine(self._contract, self._clock, Metrics(self._contract.signals), MemoryStore(self._clock))

    async def _all_of(self, engine: Engine) -> int:
        admitted = 0
        while True:
            admission = Admission("", CLIENT, engine.planner.plan("/", "GET"), self._clock.now())
            await engine.admit(admission)
            if admission.refused is not None:
                return admitted
            admitted += 1


def fleet_of(limit: dict[str, Any], *, store: bool, workers: int = 2, replicas: int = 2) -> Spec:
    """Several processes under this limit."""
    sections = {"store": "redis://cache:6379"} if store else {}
    return spec_of(
        limits={"a": limit},
        service={"name": "shop", "app": "shop.main:app", "workers": workers},
        deploy={"replicas": {"max": replicas}, "resources": {"cpu": "2000m"}},
        **sections,
    )


async def taken(spec: Spec, *, emptied: bool = False) -> int:
    """The most that one client gets in a period; it begins as two windows meet, where a window lets in most."""
    rate = spec.limits["a"]
    assert isinstance(rate, Rate)
    step = int(rate.rate.period) // MOMENTS
    clock = VirtualClock(int(rate.rate.period) - step)
    counts = Counts(spec, clock)
    admitted = await counts.drained() if emptied else 0
    if emptied:
        counts.empty()
    for _ in range(MOMENTS):
        admitted += await counts.drained()
        clock.advance(step)
    return admitted


def numbers(text: str) -> Iterator[int]:
    """Those of a sentence that stand before `through`, `get`, `in`, or after a semicolon."""
    for found in re.findall(
        r"(?:up to |, |; )([\d,]+)(?= through| get| in a replica| in \d+ replicas| if)", text
    ):
        yield int(found.replace(",", ""))


@pytest.mark.parametrize("limit", RATES, ids=str)
@pytest.mark.parametrize("processes", [(1, 1), (2, 2)], ids=["one", "four"])
async def test_no_more_gets_through_without_the_store_than_is_said(
    limit: dict[str, Any], processes: tuple[int, int]
) -> None:
    """The store comes and goes as it suits a client who takes all he can; each count is short by one at the most."""
    workers, replicas = processes
    spec = fleet_of(limit, store=True, workers=workers, replicas=replicas)
    (sentence,) = outage(spec)
    most, again = numbers(sentence)
    counts = spec.processes + 1

    assert most - counts <= await taken(spec) <= most
    assert again - counts - 1 <= await taken(spec, emptied=True) <= again


@pytest.mark.parametrize("limit", RATES, ids=str)
async def test_no_more_gets_through_without_a_store_than_is_said(limit: dict[str, Any]) -> None:
    """MV201, of processes that share nothing."""
    spec = fleet_of(limit, store=False)
    (problem,) = effective_limit.check(Facts(spec))
    (most,) = numbers(problem.what)

    assert most - spec.processes <= await taken(spec) <= most


@pytest.mark.parametrize("limit", RATES, ids=str)
async def test_workers_let_in_no_more_than_is_said(limit: dict[str, Any]) -> None:
    """All those of a replica, and all there are."""
    own = {**limit, "scope": "process"}
    spec = fleet_of(own, store=False)
    (sentence,) = shares(spec)
    replica, fleet = numbers(sentence)

    assert replica - 2 <= await taken(fleet_of(own, store=False, replicas=1)) <= replica
    assert fleet - 4 <= await taken(spec) <= fleet
