"""What each worker process has for itself, and what that is in a replica and in the fleet."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.policies.concurrency import Concurrency
from mahavishnu.policies.rate import Rate
from mahavishnu.spec import Spec


def shares(spec: Spec) -> Iterator[str]:
    """One sentence for each number that a replica has as many times as it has workers."""
    if spec.service.workers == 1:
        return
    for name, limit in spec.limits.items():
        if isinstance(limit, Rate) and limit.scope == "process" and limit.mode != "off":
            yield f"limit `{name}` counts in each worker: in {limit.rate.period} {_times(spec, limit.peak())}"
        elif isinstance(limit, Concurrency) and limit.mode != "off":
            most = limit.most if limit.adaptive else int(limit.concurrency)
            yield f"limit `{name}` has its places in each worker: {_times(spec, most)}"
    for name, dependency in spec.dependencies.items():
        if dependency.bulkhead is not None:
            places = dependency.bulkhead.concurrency
            yield f"the bulkhead of `{name}` has its places in each worker: {_times(spec, places)}"


def _times(spec: Spec, number: int) -> str:
    replica, fleet = number * spec.service.workers, number * spec.processes
    most = spec.deploy.replicas.max
    in_all = f", {fleet:,} in {most} replicas" if most > 1 else ""
    return f"up to {replica:,} in a replica{in_all}"
