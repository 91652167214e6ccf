"""A worker tells the others, once a second, what it has counted, and a last time when it ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mahavishnu.alerts.workers import WORKER_FAULTS
from mahavishnu.events import SERIES_NOT_SAID, WORKERS_CANNOT_MEET
from mahavishnu.protocols import Clock
from mahavishnu.runtime.multiprocess.meeting import meet, place
from mahavishnu.runtime.multiprocess.private_folder import PrivateFolder
from mahavishnu.runtime.multiprocess.workers import PERIOD, Workers
from mahavishnu.runtime.service import Service
from mahavishnu.runtime.telemetry.cells import alone
from mahavishnu.runtime.timer import Timer
from mahavishnu.spec import Service as Served

_SHARE = 50
"""Publishing takes at most one part in so many of the time: who has very much to tell does it less often."""


class SnapshotPublisher:
    """What a process does so that its series are shown by whichever worker is asked; `service` is the one at work."""

    def __init__(self, service: Callable[[], Service], clock: Clock) -> None:
        self._service = service
        self._clock = clock
        self._timer = Timer(clock, self._beat)
        self._well = True
        self.workers: Workers | None = None

    def start(self) -> None:
        """Meet the other workers, and tell them from now on, on the running event loop."""
        self._timer.stop()
        self._beat()

    def say(self) -> None:
        """Tell them now."""
        if self.workers is not None:
            self.workers.say(self._service().metrics.snapshot())

    def stop(self) -> None:
        """Leave them; what was told is theirs from now on."""
        self._timer.stop()
        if self.workers is not None:
            self._service().metrics.cells.together = alone
            self.workers.leave()
            self.workers = None

    def _meet(self) -> None:
        """Join the others, if there are any; where that cannot be, it is said once, and tried again at each beat."""
        service = self._service()
        try:
            folder = self._place(service.spec.service)
            if folder is not None:
                self._join(meet(folder, service.spec.service.name))
            self._well = True
        except OSError as fault:
            what = "each worker shows its own series, one after the other"
            help = "the temporary folder (TMPDIR) must be writable, and what is ours in it nobody else's"
            if self._well:
                service.log.warning(WORKERS_CANNOT_MEET, reason=str(fault), what=what, help=help)
            self._well = False

    def _place(self, said: Served) -> Path | None:
        folder = place(said.name) if said.workers > 1 else None
        if folder is None and said.workers > 1:
            what = f"service.workers is {said.workers}, and nothing tells this process of others"
            help = (
                f"start uvicorn with --workers {said.workers}; those of other servers are not scraped as one"
            )
            self._service().log.warning("alone", what=what, help=help)
        return folder

    def _join(self, folder: PrivateFolder) -> None:
        service = self._service()
        try:
            workers = Workers(folder, self._clock.now, *self._faults(), self._unwritten)
        except OSError:
            folder.close()
            raise
        self.workers = workers
        service.metrics.cells.together = workers.shown
        service.know(workers.others())

    def _faults(self) -> tuple[Callable[[], object], Callable[[], object]]:
        meter = self._service().metrics
        unwritten, unread = (meter.counter(WORKER_FAULTS, fault=one) for one in ("unwritten", "unread"))
        return unwritten.inc, unread.inc

    def _unwritten(self, reason: str) -> None:
        self._service().log.error(SERIES_NOT_SAID, reason=reason, help="is the temporary folder full?")

    def _beat(self) -> None:
        if self.workers is None:
            self._meet()
        if self.workers is None and self._well:
            return  # there is nobody to meet
        pace = PERIOD if self.workers is None else self._tell(self.workers)
        self._timer.start(pace)

    def _tell(self, workers: Workers) -> int:
        """Say what was counted, and bury who has ended; in how many ns again."""
        began = self._clock.now()
        self.say()
        workers.settle()
        workers.pace = max(PERIOD, _SHARE * (self._clock.now() - began))
        return workers.pace
