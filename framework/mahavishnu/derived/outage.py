"""What may get through while the shared store of the limits is lost."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.policies.rate import Rate
from mahavishnu.spec import Spec


def outage(spec: Spec) -> Iterator[str]:
    """One sentence for each rate that all processes share: the most in any of its windows, an outage included.

    `local` starts one more count in each process, beside the one in the store: (processes + 1) times the limit. A
    server that has lost its data counts once more.
    """
    if not spec.shared:
        return
    for name, limit in spec.limits.items():
        if isinstance(limit, Rate) and limit.scope == "fleet" and limit.mode == "enforce":
            yield f"without the store, limit `{name}` ({limit.rate}) {_most(limit, spec.processes)}"


def _most(limit: Rate, processes: int) -> str:
    if limit.on_store_failure == "open":
        return "lets everything through (on_store_failure: open)"
    if limit.on_store_failure == "closed":
        return "lets nothing through: 503 (on_store_failure: closed)"
    count, period = str(limit.rate).split("/")
    counted = "1 process" if processes == 1 else f"{processes} processes"
    most, again = (f"{int(count) * (processes + more):,}/{period}" for more in (1, 2))
    return f"lets up to {most} through: {counted} and the store count apart; {again} if it comes back empty"
