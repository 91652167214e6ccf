"""How long one call to a dependency can take, with all its attempts."""

from __future__ import annotations

from mahavishnu.spec import Dependency
from mahavishnu.units import Duration


def longest_call(dependency: Dependency) -> Duration | None:
    """All attempts at their timeout, each after its wait, with the longest pauses between; None: no end."""
    if dependency.timeout is None:
        return None
    wait = int(dependency.bulkhead.wait or 0) if dependency.bulkhead else 0
    attempts = dependency.retry.attempts if dependency.retry else 1
    total = Duration(attempts * (int(dependency.timeout) + wait) + _pauses(dependency))
    within = dependency.retry.within if dependency.retry else None
    return total if within is None else min(total, max(within, dependency.timeout))


def told(dependency: Dependency) -> str:
    """The same as a sum, for a finding: `3 x 2s + 300ms of pauses`."""
    attempts = dependency.retry.attempts if dependency.retry else 1
    parts = [f"{attempts} x {dependency.timeout}" if attempts > 1 else f"{dependency.timeout}"]
    if dependency.bulkhead and dependency.bulkhead.wait:
        parts.append(f"{Duration(attempts * dependency.bulkhead.wait)} of waiting")
    if pauses := _pauses(dependency):
        parts.append(f"{Duration(pauses)} of pauses")
    return " + ".join(parts)


def _pauses(dependency: Dependency) -> int:
    retry = dependency.retry
    if retry is None:
        return 0
    return sum(min(int(retry.max), int(retry.base) * 2**turn) for turn in range(retry.attempts - 1))
