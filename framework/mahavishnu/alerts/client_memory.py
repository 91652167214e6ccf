"""Whether a process can remember all clients of its limits."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.promql import total
from mahavishnu.protocols import Metered
from mahavishnu.series import LIMIT_STORE_KEYS, LIMIT_STORE_SHARED
from mahavishnu.signals import WINDOW, Alert, Feed, Severity, Signal
from mahavishnu.spec import Spec


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
