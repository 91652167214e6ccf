"""The peers' limiters in memory behind one question: is one more request of this client admitted?"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

from benchmarks.app import CLIENTS
from benchmarks.harness import peer

RATE = 100
Ask = Callable[[str], Awaitable[bool]]
"""Whether one more request of this client is admitted, at so many a minute."""


def limits(strategy: str, rate: int = RATE) -> Ask:
    """limits, in memory."""
    library = peer("limits")
    item = library.RateLimitItemPerMinute(rate)
    limiter = getattr(library.strategies, strategy)(library.storage.MemoryStorage())

    async def ask(client: str) -> bool:
        return cast("bool", limiter.hit(item, client))

    return ask


def limits_async(rate: int = RATE) -> Ask:
    """limits' other half, for asyncio, in memory."""
    library = peer("limits.aio")
    item = peer("limits").RateLimitItemPerMinute(rate)
    limiter = library.strategies.FixedWindowRateLimiter(library.storage.MemoryStorage())

    async def ask(client: str) -> bool:
        return cast("bool", await limiter.hit(item, client))

    return ask


def throttled(kind: str, rate: int = RATE) -> Ask:
    """throttled-py, in memory."""
    library = peer("throttled.asyncio")
    # By default it keeps 1,024 clients and forgets the others, whose limit is then off.
    store = library.MemoryStore(options={"MAX_SIZE": 2 * CLIENTS})
    throttle = library.Throttled(using=kind, quota=f"{rate}/m burst {rate}", store=store)

    async def ask(client: str) -> bool:
        return not (await throttle.limit(client)).limited

    return ask


def pyrate(bucket: str, rate: int = RATE) -> Ask:
    """pyrate-limiter, with a bucket for each client."""
    library = peer("pyrate_limiter")
    rates = [library.Rate(rate, library.Duration.MINUTE)]
    limiter = library.Limiter(_per_client(library, lambda: getattr(library, bucket)(rates)))

    async def ask(client: str) -> bool:
        return cast("bool", limiter.try_acquire(client, blocking=False))

    return ask


def _per_client(pyrate: Any, new: Callable[[], Any]) -> Any:
    """A bucket for each client, which its own factory leaves to the user."""

    class Factory(pyrate.BucketFactory):  # type: ignore[misc]
        def __init__(self) -> None:
            self.clock = pyrate.MonotonicClock()
            self.buckets: dict[str, Any] = {}

        def wrap_item(self, name: str, weight: int = 1) -> Any:
            return pyrate.RateItem(name, self.clock.now(), weight=weight)

        def get(self, item: Any) -> Any:
            bucket = self.buckets.get(item.name)
            if bucket is None:
                bucket = self.buckets[item.name] = new()
            return bucket

    return Factory()
