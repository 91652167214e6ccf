"""Alerts on processes that end and are started anew, again and again: too fast for any alert to last that waits."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from mahavishnu.promql import Call, Number, highest
from mahavishnu.series import ANY_UP, UP
from mahavishnu.signals import Across, Alert, Feed, Kind, Recording, Severity, Signal, Unit
from mahavishnu.units import Duration

AGAIN = Duration.parse("30m")
"""Long enough for what Kubernetes starts anew ever more slowly: within the hour it waits five minutes each time."""
TIMES = 3
"""So many are no deployment: that starts each replica once, and on a cluster under another address."""
_ENOUGH = Decimal("0.9")
_TO_AND_FRO = 3
"""Gone and back is twice; once more is what a service does that starts after Prometheus, and is then deployed."""

START = Signal(
    "process_start_time_seconds",
    Kind.GAUGE,
    "Start time of the process since unix epoch in seconds; of several workers, that of the server they belong to.",
    across=Across.MAX,
    unit=Unit.POINT,
)


def recordings() -> tuple[Recording, ...]:
    """Whether anybody answers. None that is known is none that answers: a name service forgets who is dead."""
    return (Recording(ANY_UP, highest(UP.select()).or_(Call("vector", (Number(Decimal(0)),)))),)


def signals(_: object) -> Iterator[Signal]:
    """When each process was started."""
    yield START


def alerts(_: object) -> Iterator[Alert]:
    """A service that is away now and then, and one replica that does not live long."""
    yield _flapping()
    yield _restarting()


def _flapping() -> Alert:
    """One outage is that of `Down`, and over when it is; several belong together, however short each of them is."""
    anybody = ANY_UP.select()
    return Alert(
        name="Flapping",
        severity=Severity.P1,
        expr=(anybody.over(AGAIN, "avg_over_time") < _ENOUGH).and_(
            anybody.over(AGAIN, "changes") > _TO_AND_FRO
        ),
        summary=f"The service goes and comes: in {AGAIN} anybody answered in only $value of Prometheus' scrapes.",
        unit="ratio",
        meaning=f"In the last {AGAIN} no replica answered on its metrics path for more than a tenth of the time, in "
        "two or more outages. Each may have been too short for `Down`.",
        impact="Whoever asked meanwhile got no answer. That is in no SLO: an objective counts what a living process "
        "has answered, and so the error budget may look whole.",
        action="Look into the service's log for how its processes end; compare their memory with "
        "`deploy.resources.memory`, and undo what changed before the first outage.",
        path=("service",),
        proof=(Feed(UP.select(), healthy=1, faulty=0),),
    )


def _restarting() -> Alert:
    """By the replica's address: another one is another replica, as in a deployment of many."""
    return Alert(
        name="Restarting",
        severity=Severity.P3,
        expr=START.select().over(AGAIN, "changes") >= TIMES,
        summary=f"A replica has been started anew $value times in {AGAIN}.",
        meaning=f"The process of the one in the alert's label `instance` has ended {TIMES} or more times in {AGAIN}, "
        "and each time another one has taken its place. A spec that is read anew starts nothing.",
        impact="What it had begun was lost each time, and is in no SLO: nobody has answered. Where there are others, "
        "they served the rest.",
        action="Look into that replica's log (of `kubectl logs` with `--previous`) for how it ends: killed for its "
        "memory (compare it with `deploy.resources.memory`), by a probe that it does not answer in time, or by "
        "an error.",
        path=("service",),
        proof=(Feed(START.select(), healthy=0, faulty=60),),
    )
