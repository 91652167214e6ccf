"""The series, pushed to a collector at a steady pace: for processes that nobody can scrape."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import Context
from functools import partial
from random import SystemRandom
from types import ModuleType

from mahavishnu.alerts.pushes import PUSHES
from mahavishnu.errors import MahavishnuError
from mahavishnu.protocols import Clock
from mahavishnu.runtime.multiprocess.workers import Workers
from mahavishnu.runtime.service import Service
from mahavishnu.runtime.telemetry.collector import LAST, Failure, aside, instance
from mahavishnu.runtime.telemetry.snapshot import Number, Observations, added
from mahavishnu.runtime.timer import Timer
from mahavishnu.units import SECOND

_MISSING = "`observability.metrics.otlp` needs one more package: pip install 'mahavishnu[otel]'"
_PATIENCE = 10 * SECOND
_CHANCE = SystemRandom()
_TASK = "push"
_MOST = 5  # last pushes: others that do not end say more for ever


class Pushing:
    """Pushes what `service`, the one at work, shows; of several workers one does it for all, as long as it lives.

    What is pushed are totals: what a failed push held is in the next one too, so nothing is kept for it, and one
    that is due while another is under way is the same one. After a failure it is tried again in one second, then in
    two, four, and so on up to the usual time, or when the collector asks for it; what it would refuse again, or has
    taken in part, is not tried again: the next one is as usual.
    """

    def __init__(
        self,
        service: Callable[[], Service],
        clock: Clock,
        workers: Callable[[], Workers | None],
        wall: Callable[[], int] = time.time_ns,
    ) -> None:
        self._service = service
        self._workers = workers
        self._wall = wall
        self._since = wall()
        otlp = _otlp() if service().spec.observability.metrics.otlp else None
        self._otlp = otlp if clock.runs else None  # a collector knows no test's own time
        self._failures = self._tries = 0
        self._outcome = "ok"
        self._timer = Timer(clock, self._due)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Push from now on, on the running event loop; at a moment of its own, so that replicas do not meet."""
        self.stop()
        if self._otlp is not None:
            self._loop = asyncio.get_running_loop()
            self._leads()
            self._timer.start(int(_CHANCE.uniform(0, self._service().spec.observability.metrics.every)))

    def stop(self) -> None:
        """Push no more by itself."""
        self._timer.stop()
        if self._task is not None:
            self._task.cancel()

    async def flush(self) -> None:
        """Push a last time, once, or give up soon: the process has little time to end.

        Of several workers the one that leads pushes also what others say meanwhile, who end and do not lead.
        """
        self.stop()
        if self._otlp is None:
            return
        try:
            await asyncio.wait_for(self._last(), LAST / SECOND)
        except Exception as fault:  # noqa: BLE001 - whatever it is, the process ends
            self._tell(Failure(type(fault).__name__))

    async def _last(self) -> None:
        heard: set[Number | Observations] | None = None
        for _ in range(_MOST):
            # In this order: who has not been heard here finds that nobody leads, and pushes what he has said himself.
            if (said := self._heard()) == heard or self._leads() is None:
                return
            heard = said
            await self._push()
            self._follow()

    async def _push(self) -> Failure | None:
        """Push now; None where all was taken, or somebody else pushes."""
        since, service = self._leads(), self._service()
        settings = service.spec.observability.metrics
        if self._otlp is None or since is None or settings.otlp is None:
            return None
        body = self._otlp.encoded(
            service.metrics.shown(), self._resource(), self._otlp.Times(since, self._wall())
        )
        timeout = min(_PATIENCE, int(settings.every)) / SECOND
        post = partial(self._otlp.post, settings.otlp, body, timeout)
        failure: Failure | None = await aside(post)
        self._tell(failure)
        return failure

    def _leads(self) -> int | None:
        """Since when is counted, where it is this process that pushes."""
        workers = self._workers()
        return self._since if workers is None else workers.leads(_TASK)

    def _follow(self) -> None:
        if (workers := self._workers()) is not None:
            workers.follow(_TASK)

    def _heard(self) -> set[Number | Observations]:
        """What the other workers have counted together; what else they show changes by itself."""
        workers = self._workers()
        counted = added([] if workers is None else workers.others())
        return {*counted.counters, *counted.histograms}

    def _resource(self) -> Mapping[str, str]:
        # As Prometheus knows a target: its job, and which one of them it is.
        return {
            "service.name": self._service().spec.service.name,
            "service.instance.id": instance(worker=self._workers() is not None),
        }

    def _tell(self, failure: Failure | None) -> None:
        service, before = self._service(), self._outcome
        self._outcome = "ok" if failure is None else "partial" if failure.partial else "failed"
        service.metrics.counter(PUSHES, outcome=self._outcome).inc()
        if failure is None and self._failures:
            service.log.info("series pushed again", failures=self._failures)
        elif failure is not None and self._outcome != before:
            event = "series pushed in part" if failure.partial else "series not pushed"
            service.log.warning(event, reason=failure.reason, to=service.spec.observability.metrics.otlp)
        self._failures = 0 if failure is None else self._failures + 1
        self._tries = 0 if failure is None or failure.final else self._tries + 1

    def _pause(self, failure: Failure | None) -> float:
        every = int(self._service().spec.observability.metrics.every)
        if failure is None:
            return every
        asked = failure.after * SECOND
        if failure.final:
            return max(asked, every)
        return max(asked, _CHANCE.uniform(0.5, 1) * min(every, SECOND << min(self._tries - 1, 20)))

    def _due(self) -> None:
        # By way of the loop: whoever moves a virtual clock may be another thread.
        if self._loop is not None:
            with suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(self._begin, self._loop)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._task = loop.create_task(self._again(), context=Context())

    async def _again(self) -> None:
        try:
            failure = await self._push()
        except Exception as fault:  # noqa: BLE001 - whatever it is, the next one is pushed
            failure = Failure(type(fault).__name__)
            self._tell(failure)
        self._timer.start(int(self._pause(failure)))


def _otlp() -> ModuleType:
    try:
        from mahavishnu.runtime.telemetry import otlp
    except ImportError:
        raise MahavishnuError(_MISSING) from None
    return otlp
