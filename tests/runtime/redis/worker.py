"""One process of a fleet: asks the shared store when told to, and says how often it was let through.

Run as a program: `<url> <skew in seconds>`; each line of its input is `<algorithm> <limit> <requests> <run>`.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Callable

from mahavishnu.alerts.shared_store import STORE_CALLS, STORE_DURATION, STORE_UP
from mahavishnu.algorithms import Gcra, SlidingLog, SlidingWindow
from mahavishnu.clock import SystemClock
from mahavishnu.protocols import Algorithm, Taken
from mahavishnu.runtime.redis.address import address
from mahavishnu.runtime.redis.store import RedisStore
from mahavishnu.runtime.telemetry.metrics import Metrics
from tests.metering import value
from tests.runtime.redis.servers import Charged

# So long that nothing refills while a run lasts, whatever a second more or less.
PERIOD = 3_650 * 86_400 * 10**9
ALGORITHMS: dict[str, Callable[[int], Algorithm]] = {
    "gcra": lambda count: Gcra(count, PERIOD, count),
    "sliding_window": lambda count: SlidingWindow(count, PERIOD),
    "sliding_log": lambda count: SlidingLog(count, PERIOD),
}


class Skewed(SystemClock):
    """A host's clock that is off, and jumps: each look at it says something else."""

    def __init__(self, skew: float) -> None:
        super().__init__()
        self.skew = round(skew * 10**9)

    def now(self) -> int:
        return super().now() + random.choice([-1, 0, 1]) * self.skew


def skew_the_host(seconds: float) -> None:
    """From now on everybody in this process who asks for the date hears another one."""
    true, true_ns = time.time, time.time_ns
    time.time = lambda: true() + seconds
    time.time_ns = lambda: true_ns() + round(seconds * 10**9)


async def _take(store: RedisStore, charges: tuple[Charged, ...], key: str) -> Taken:
    """One request, in one of the next turns of the event loop, so that the processes' requests mix."""
    for _ in range(random.randrange(40)):
        await asyncio.sleep(0)
    return await store.take(charges, [key])


async def work(url: str, skew: float) -> None:
    """Answer every line with `<admitted> <calls that the store did not answer>`."""
    metrics = Metrics({one.name: one for one in (STORE_CALLS, STORE_DURATION, STORE_UP)})
    store = RedisStore(address(url), "fleet", Skewed(skew), metrics)
    while not store.up():  # noqa: ASYNC110  nothing tells
        await asyncio.sleep(0.01)
    _say("ready")
    while line := await asyncio.to_thread(sys.stdin.readline):
        kind, limit, requests, run = line.split()
        charges = (Charged(kind, ALGORITHMS[kind](int(limit))),)
        asked = [_take(store, charges, run) for _ in range(int(requests))]
        admitted = sum([taken.admitted for taken in await asyncio.gather(*asked)])
        lost = [value(metrics, STORE_CALLS.name, outcome=one) for one in ("error", "timeout", "skipped")]
        _say(f"{admitted} {int(sum(lost))}")
    store.close()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    said = float(sys.argv[2])
    skew_the_host(said)
    asyncio.run(work(sys.argv[1], said))
