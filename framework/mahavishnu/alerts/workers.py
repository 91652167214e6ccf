"""What several workers of one service show of themselves, and the alerts that some are missing, or die."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.alerts.restarts import AGAIN, TIMES
from mahavishnu.events import SERIES_NOT_SAID, WORKERS_CANNOT_MEET
from mahavishnu.signals import Across, Alert, Feed, Kind, Label, Severity, Signal, Unit
from mahavishnu.spec import Spec
from mahavishnu.units import Duration

WORKERS = Signal(
    "mahavishnu_workers",
    Kind.GAUGE,
    "Worker processes whose series are in these, and that have lately said them.",
    across=Across.SUM,
)
WORKER_FAULTS = Signal(
    "mahavishnu_worker_series_faults_total",
    Kind.COUNTER,
    "Series of workers that are not in these: unwritten, or written and unread because they are damaged or foreign.",
    (Label("fault", ("unwritten", "unread")),),
    waived="What cannot be read of a worker is left out, and a worker that is missing is an alert.",
    unit=Unit.FAULTS,
)
WORKER_DEATHS = Signal(
    "mahavishnu_worker_deaths_total",
    Kind.COUNTER,
    "Workers that ended without a last word: killed, or crashed. Those that are replaced in good order are none.",
    unit=Unit.DEATHS,
)


def signals(spec: Spec) -> Iterator[Signal]:
    """How many there are, how many have died, and whose series are missing."""
    if spec.service.workers > 1:
        yield from (WORKERS, WORKER_DEATHS, WORKER_FAULTS)


def alerts(spec: Spec) -> Iterator[Alert]:
    """Fewer than the spec asks for, or one that dies again and again: neither `up` nor a probe that the others answer
    can tell."""
    if spec.service.workers > 1:
        yield _dying()
        yield _missing(spec.service.workers)


def _missing(count: int) -> Alert:
    return Alert(
        name="WorkersMissing",
        severity=Severity.P3,
        expr=WORKERS.lately() < count,
        hold=Duration.parse("5m"),
        summary=f"$value of the {count} workers of a replica are at work.",
        meaning=f"`service.workers` is {count}. A worker that ends is started anew within seconds; these end again "
        "and again, hang, cannot write to the temporary folder, or were never started.",
        impact="The others serve its requests. What a hanging worker has accepted waits; its gauges are not shown.",
        action=f"Look into the replica's log for `died`, `{WORKERS_CANNOT_MEET}` and `{SERIES_NOT_SAID}`; compare its "
        "memory with `deploy.resources.memory`: the kernel kills one worker, not all of them.",
        path=("service", "workers"),
        proof=(Feed(WORKERS.select(), healthy=count, faulty=count - 1),),
    )


def _dying() -> Alert:
    """The server lives, and so none of them is missing for long."""
    return Alert(
        name="WorkersDying",
        severity=Severity.P3,
        expr=WORKER_DEATHS.increase(AGAIN) >= TIMES,
        summary=f"$value workers of a replica have died in {AGAIN}.",
        meaning=f"{TIMES} or more of its workers ended within {AGAIN} without a last word: killed by the kernel for "
        "their memory, by the server because they hung, or crashed. Each was started anew.",
        impact="What a worker had begun was lost with it, and is in no SLO: nobody has answered. The others went on.",
        action="Look into the replica's log for what was said before each `died`, and compare its memory with "
        "`deploy.resources.memory`: the kernel kills one worker, not all of them.",
        path=("service", "workers"),
        proof=(Feed(WORKER_DEATHS.select(), healthy=0, faulty=1),),
    )
