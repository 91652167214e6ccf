"""Whether Prometheus reaches the replicas of a service, and any of them at all."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from mahavishnu.series import ANY_UP, UP
from mahavishnu.signals import WINDOW, Alert, Feed, Severity, Signal
from mahavishnu.units import Duration

_HALF = Decimal("0.5")


def signals(_: object) -> Iterator[Signal]:
    """What Prometheus says itself of each scrape."""
    yield UP


def alerts(_: object) -> Iterator[Alert]:
    """Nobody answers, or one replica does not."""
    yield _down()
    yield _replica_down()


def _down() -> Alert:
    """None answers: this alert silences all others of the service, which a replica that is well may have to raise."""
    return Alert(
        name="Down",
        severity=Severity.P1,
        expr=ANY_UP.select().equals(0),
        hold=Duration.parse("2m"),
        summary="Prometheus cannot scrape the service.",
        meaning="No replica is known, or none answers on its metrics path.",
        impact="The service may be down; every other alert is blind meanwhile.",
        action="Look at the service's processes and its log; then at Prometheus' page of targets.",
        path=("service",),
        proof=(Feed(UP.select(), healthy=1, faulty=0),),
    )


def _replica_down() -> Alert:
    """Where others answer, they do its work and raise their alerts.

    It is averaged, because one that answers now and then is no better than one that never does.
    """
    return Alert(
        name="ReplicaDown",
        severity=Severity.P3,
        expr=UP.select().over(WINDOW, "avg_over_time") <= _HALF,
        hold=WINDOW,
        summary="Prometheus reaches a replica in $value of its scrapes.",
        unit="ratio",
        meaning="The one in the alert's label `instance` is known, and does not answer on its metrics path, or not in "
        "time.",
        impact="The others serve its requests, where there are others. Alerts on it are blind while it does not "
        "answer.",
        action="Look at that replica's process and its log; then at Prometheus' page of targets.",
        path=("service",),
        proof=(Feed(UP.select(), healthy=1, faulty=0),),
    )
