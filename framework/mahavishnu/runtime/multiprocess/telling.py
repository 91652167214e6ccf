"""A worker tells the others, once a second, what it has counted, and a last time when it ends."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context

from mahavishnu.policy import Clock, Handle
from mahavishnu.runtime.multiprocess.meeting import meet, place
from mahavishnu.runtime.multiprocess.workers import PERIOD, Workers
from mahavishnu.runtime.service import Service
from mahavishnu.runtime.telemetry.cells import alone
from mahavishnu.series import WORKER_FAULTS

_SHARE = 50
"""Telling takes at most one part in so many of the time: who has very much to tell does it less often."""


class Telling:
    """What a process does so that its series are shown by whichever worker is asked; `service` is the one at work."""

    def __init__(self, service: Callable[[], Service], clock: Clock) -> None:
        self._service = service
        self._clock = clock
        self._timer: Handle | None = None
        self.workers: Workers | None = None

    def start(self) -> None:
        """Meet the other workers, and tell them from now on, on the running event loop."""
        if self.workers is None:
            self._meet()
        self._stop_timer()
        self._beat()

    def say(self) -> None:
        """Tell them now."""
        if self.workers is not None:
            self.workers.say(self._service().metrics.snapshot())

    def stop(self) -> None:
        """Leave them; what was told is theirs from now on."""
        self._stop_timer()
        if self.workers is not None:
            self._service().metrics.cells.together = alone
            self.workers.leave()
            self.workers = None

    def _meet(self) -> None:
        service = self._service()
        said = service.spec.service
        if said.workers == 1:
            return
        try:
            folder = place(said.name)
            if folder is None:
                what = f"service.workers is {said.workers}, and nothing tells this process of others"
                help = f"start uvicorn with --workers {said.workers}; those of other servers are not scraped as one"
                service.log.warning("alone", what=what, help=help)
                return
            self._join(Workers(meet(folder, said.name), self._clock.now, *self._faults(), self._unwritten))
        except OSError as fault:
            what = "each worker shows its own series, one after the other"
            help = "the temporary folder (TMPDIR) must be writable, and what is ours in it nobody else's"
            service.log.warning("workers cannot meet", reason=str(fault), what=what, help=help)

    def _join(self, workers: Workers) -> None:
        service = self._service()
        self.workers = workers
        service.metrics.cells.together = workers.shown
        service.know(workers.others())

    def _faults(self) -> tuple[Callable[[], object], Callable[[], object]]:
        meter = self._service().metrics
        unwritten, unread = (meter.counter(WORKER_FAULTS, fault=one) for one in ("unwritten", "unread"))
        return unwritten.inc, unread.inc

    def _unwritten(self, reason: str) -> None:
        self._service().log.error("series not said", reason=reason, help="is the temporary folder full?")

    def _beat(self) -> None:
        if self.workers is None:
            return
        began = self._clock.now()
        self.say()
        self.workers.settle()
        self.workers.pace = max(PERIOD, _SHARE * (self._clock.now() - began))
        # In a context of its own: no request tells, though the first may have started it.
        self._timer = Context().run(self._clock.call_later, self.workers.pace, self._beat)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
