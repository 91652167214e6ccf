"""What may get through while the shared store of the limits is lost."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.policies.rate import Rate
from mahavishnu.spec import Spec


def outage(spec: Spec) -> Iterator[str]:
    """One sentence for each rate that all processes share: the most in any of its periods, an outage included.

    `local` starts one more count in each process, beside the one in the store, and each may let in its burst and what
    refills; a server that has lost its data begins once more.
    """
    if not spec.shared:
        return
    for name, limit in spec.fleet_rates.items():
        if limit.mode == "enforce":
            yield f"without the store, limit `{name}` ({limit.rate}) {_most(limit, spec.processes)}"


def _most(limit: Rate, processes: int) -> str:
    if limit.on_store_failure == "open":
        return "lets everything through (on_store_failure: open)"
    if limit.on_store_failure == "closed":
        return "lets nothing through: 503 (on_store_failure: closed)"
    counted = "1 process" if processes == 1 else f"{processes} processes"
    each, again = limit.peak(), limit.peak(lives=2)
    return (
        f"lets up to {each * (processes + 1):,} through in {limit.rate.period}: {counted} and the store count apart, "
        f"each up to {each:,}; {each * processes + again:,} if it comes back empty"
    )
