"""Whether a process can remember all clients of its limits."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.promql import total
from mahavishnu.protocols import Metered
from mahavishnu.signals import WINDOW, Across, Alert, Feed, Kind, Severity, Signal, Unit
from mahavishnu.spec import Spec

LIMIT_STORE_KEYS = Signal(
    "mahavishnu_limit_store_keys",
    Kind.GAUGE,
    "Clients whose rate state is held in memory.",
    across=Across.SUM,
    waived="The clients held are looked at; what is too many is counted by the store itself, and an alert.",
)
LIMIT_STORE_SHARED = Signal(
    "mahavishnu_limit_store_shared_total",
    Kind.COUNTER,
    "Decisions on a bucket that clients share, because the memory for a limit's clients is full.",
    waived="Asked for where a rate is counted; without one nothing is stored.",
    unit=Unit.REQUESTS,
)


def signals(_: object) -> Iterator[Signal]:
    """How many it remembers, and how many decisions fell on what several share."""
    yield LIMIT_STORE_KEYS
    yield LIMIT_STORE_SHARED


def alerts(spec: Spec) -> Iterator[Alert]:
    """Where any rate is counted: the memory for its clients can be full."""
    if any(isinstance(limit, Metered) and limit.mode != "off" for limit in spec.limits.values()):
        yield Alert(
            name="LimitStoreFull",
            severity=Severity.P3,
            expr=total(LIMIT_STORE_SHARED.rate(WINDOW)) > 0,
            hold=WINDOW,
            summary="The memory for the clients of a limit is full: new ones share what one of them may ask.",
            meaning="A limit has as many clients as a process remembers. Further ones share 1,024 buckets until "
            "others have rested.",
            impact="New clients may be refused for what others ask; those that are known keep their own quota.",
            action="Look at who is refused and at mahavishnu_limit_store_keys: a flood of invented clients has to "
            "be stopped in front of the service; so many true ones need more replicas.",
            path=("limits",),
            proof=(Feed(LIMIT_STORE_SHARED.select(), healthy=0, faulty=60),),
        )
