"""Which store a spec asks for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mahavishnu.errors import MahavishnuError
from mahavishnu.loading.layers import SECRETS
from mahavishnu.protocols import Clock, Meter
from mahavishnu.runtime.limits.memory_store import MemoryStore
from mahavishnu.runtime.secret_values import resolved
from mahavishnu.spec import Spec

if TYPE_CHECKING:
    from mahavishnu.runtime.redis.store import RedisStore

_MISSING = "a shared `store` needs two more packages: pip install 'mahavishnu[redis]'"


def open_store(
    spec: Spec,
    clock: Clock,
    meter: Meter,
    told: Callable[[bool, str], object],
    evicts: Callable[[str], object],
    secrets: Path = SECRETS,
) -> MemoryStore | RedisStore:
    """The store, which connects by itself; raises MahavishnuError for a missing secret, package or bad URL.

    `told` is called when a shared store is found or lost, with the reason; `evicts` with the policy of one that evicts.
    """
    if not spec.shared or not clock.runs:  # in a test's own time no server counts
        return MemoryStore(clock)
    try:
        # Loaded only here: redis-py takes half a second, and who counts in memory need not have it.
        from mahavishnu.runtime.redis.address import address
        from mahavishnu.runtime.redis.store import RedisStore
    except ImportError:
        raise MahavishnuError(_MISSING) from None
    where = address(resolved(spec.store, secrets))
    return RedisStore(where, spec.full_name, clock, meter, told, evicts)
