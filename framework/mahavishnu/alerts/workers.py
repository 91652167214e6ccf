"""What several workers of one service show of themselves, and the alert that some are missing."""

from __future__ import annotations

from mahavishnu.series import WORKER_FAULTS, WORKERS
from mahavishnu.signals import Alert, Feed, Severity, Signal
from mahavishnu.units import Duration


def signals() -> tuple[Signal, ...]:
    """How many there are, and whose series are missing."""
    return WORKERS, WORKER_FAULTS


def alerts(count: int) -> tuple[Alert, ...]:
    """Fewer than the spec asks for, which neither `up` nor a probe that the others answer can tell."""
    shown = WORKERS.select()
    return (
        Alert(
            name="WorkersMissing",
            severity=Severity.P3,
            expr=shown < count,
            hold=Duration.parse("5m"),
            summary=f"$value of the {count} workers of a replica are at work.",
            meaning=f"`service.workers` is {count}. A worker that ends is started anew within seconds; these end again "
            "and again, hang, cannot write to the temporary folder, or were never started.",
            impact="The others serve its requests. What a hanging worker has accepted waits; its gauges are not shown.",
            action="Look into the replica's log for `died`, `workers cannot meet` and `series not said`; compare its "
            "memory with `deploy.resources.memory`: the kernel kills one worker, not all of them.",
            path=("service", "workers"),
            proof=(Feed(shown, healthy=count, faulty=count - 1),),
        ),
    )
