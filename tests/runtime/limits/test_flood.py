"""A flood of spoofed clients: nobody who was there before loses or gains by it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from mahavishnu.algorithms import Gcra
from mahavishnu.protocols import Algorithm
from mahavishnu.runtime.limits.memory_store import MemoryStore
from mahavishnu.runtime.process import usage
from mahavishnu.testing import VirtualClock
from tests.figures import figure

LIMIT, HOUR = 5, 3600 * 10**9


class Hourly(NamedTuple):
    """Five an hour for each key."""

    name: str = "per_client"
    algorithm: Algorithm = Gcra(LIMIT, HOUR, LIMIT)
    cost: int = 1
    enforced: bool = True


class Flood:
    """A store that is flooded, an attacker who has used up his budget, and clients that have used two of five."""

    def __init__(self, cap: int, established: int) -> None:
        self.store = MemoryStore(VirtualClock(10**15), cap)
        self.established = [f"198.51.{one >> 8}.{one & 255}" for one in range(established)]
        self.admitted("203.0.113.66", LIMIT)
        for one in self.established:
            self.admitted(one, 2)

    def admitted(self, key: str, requests: int) -> int:
        """How many of so many requests are let in."""
        return sum(self.store.take((Hourly(),), (key,)).admitted for _ in range(requests))

    def spoofed(self, keys: int) -> int:
        """One request of each of so many new keys; what the attacker gets meanwhile, asking again and again."""
        extra = 0
        for one in range(keys):
            self.admitted(f"10.{one >> 16}.{one >> 8 & 255}.{one & 255}", 1)
            if one % 1000 == 0:
                extra += self.admitted("203.0.113.66", 1)
        return extra

    def left(self) -> set[int]:
        """What each established client can still do; all of them the same, if nobody was touched."""
        return {self.admitted(one, LIMIT) for one in self.established}


@pytest.mark.parametrize("keys", [50, 500, 5_000])
def test_established_clients_keep_their_budget(keys: int) -> None:
    """Below, at and far above the cap: the attacker gets nothing, everybody else exactly what is left."""
    flood = Flood(cap=400, established=100)
    assert (flood.spoofed(keys), flood.left()) == (0, {LIMIT - 2})


@pytest.mark.proof
def test_a_million_spoofed_keys() -> None:
    """At the cap of 100,000: memory, the limited attacker, and 1,000 established clients.

    In a process of its own: one that others have already grown would have room for anything.
    """
    keys = 1_000_000
    ran = subprocess.run(
        [sys.executable, "-m", "tests.runtime.limits.test_flood", str(keys)],
        cwd=Path(__file__).resolve().parents[3],
        capture_output=True,
        text=True,
        check=True,
    )
    extra, left, grown = json.loads(ran.stdout)
    figure(f"memory for {keys:,} spoofed keys at a cap of 100,000", "< 64 MB", f"{grown:.0f} MB")
    figure("extra admissions of a limited attacker during the flood", 0, extra)
    figure("budgets of 1,000 established clients after it", "all 3 of 5", " or ".join(map(str, left)))
    assert (extra, left) == (0, [LIMIT - 2])
    assert 1 < grown < 64


def _measured(keys: int) -> tuple[int, list[int], float]:
    """What the attacker got, what the others have left, and by how many MB the process has grown."""
    flood = Flood(cap=100_000, established=1_000)
    before = usage().memory
    extra = flood.spoofed(keys)
    grown = (usage().memory - before) / 2**20
    return extra, sorted(flood.left()), grown


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_measured(int(sys.argv[1]))))
