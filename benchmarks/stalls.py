"""The longest single decision of the memory store while a million clients come, one after the other."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import NamedTuple

from mahavishnu.algorithms import Gcra
from mahavishnu.clock import SystemClock
from mahavishnu.protocols import Algorithm
from mahavishnu.runtime.limits.memory_store import MemoryStore

CLIENTS = 1_000_000
_HOUR = 3600 * 10**9


class _Hourly(NamedTuple):
    name: str = "per_client"
    algorithm: Algorithm = Gcra(100, _HOUR, 100)
    cost: int = 1
    enforced: bool = True


class Longest(NamedTuple):
    """CPU time in ns: of the longest decision, of the longest in which garbage was collected, of the median."""

    decision: int
    collecting: int
    median: int


def ours(cap: int) -> Longest:
    """With room for so many keys: enough for all, or as few as there is room for by default."""
    store = MemoryStore(SystemClock(), cap)
    rates = (_Hourly(),)
    return _longest(lambda client: store.take(rates, (client,)))


def plain() -> Longest:
    """The same keys in one dict, for comparison: where it grows, all keys are moved at once."""
    found: dict[str, int] = {}

    def put(client: str) -> None:
        found[client] = len(found)

    return _longest(put)


def _longest(decide: Callable[[str], object]) -> Longest:
    """CPU time of this thread: what other processes take from it does not count, page faults do."""
    gc.collect()
    collected: list[str] = []
    gc.callbacks.append(seen := lambda phase, _: collected.append(phase))
    clock, quiet, collecting = time.thread_time_ns, list[int](), [0]
    for number in range(CLIENTS):
        client = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        collected.clear()
        began = clock()
        decide(client)
        (collecting if collected else quiet).append(clock() - began)
    gc.callbacks.remove(seen)
    quiet.sort()
    return Longest(quiet[-1], max(collecting), quiet[len(quiet) // 2])
