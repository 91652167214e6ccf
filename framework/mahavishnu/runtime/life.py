"""What a middleware does beside its requests, to the last word: it tells others, pushes, redrives and reloads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from multiprocessing.util import Finalize
from weakref import WeakMethod

from mahavishnu.protocols import Clock
from mahavishnu.runtime.dead_letters.redriver import Redriver
from mahavishnu.runtime.ending import at_exit, hold_back, let_through
from mahavishnu.runtime.garbage import spare_what_is_loaded
from mahavishnu.runtime.multiprocess.crowd import Crowd
from mahavishnu.runtime.multiprocess.publisher import SnapshotPublisher
from mahavishnu.runtime.pushing import Pushing
from mahavishnu.runtime.reload import Reloader
from mahavishnu.runtime.service import Service
from mahavishnu.runtime.signal_handlers import on_signal
from mahavishnu.runtime.telemetry.collector import instance


class Life:
    """Of one middleware, with whichever `service` is at work; `drain` makes it say that it takes no more requests."""

    def __init__(
        self,
        service: Callable[[], Service],
        clock: Clock,
        drain: Callable[[], None],
        reloader: Reloader | None,
    ) -> None:
        self._service = service
        self._drain = drain
        self._reloader = reloader
        self._unheard: Finalize[object] | None = None
        self._crowd = Crowd(service, clock)
        self._pushing = Pushing(service, clock, lambda: self.publisher.workers)
        self.redriver = Redriver(service, clock)
        self.publisher = SnapshotPublisher(service, clock)

    def begin(self) -> None:
        """From now on and on this event loop."""
        service = self._service()
        service.process_state.begun = True
        self.redriver.start()
        self.publisher.start()
        self._crowd.start()
        self._pushing.start()
        if service.tracing is not None:
            service.tracing.start(self._service, instance(worker=self.publisher.workers is not None))
        if self._reloader is not None:
            self._reloader.start()
            on_signal("SIGHUP", self._reloader.ask, alone=True)

    def serve(self) -> None:
        """The app has started, and the server listens from now on."""
        self._crowd.start()
        service = self._service()
        if service.tracing is not None:
            service.tracing.adopt()
        if service.clock.runs:  # in a test's own time apps come and go in one process
            spare_what_is_loaded()

    def leave(self) -> None:
        """The server listens no more."""
        self._crowd.leave()

    async def stop(self) -> None:
        """Begin nothing any more: the server ends."""
        self._service().lag.stop()
        if self._reloader is not None:
            self._reloader.stop()
        await self.redriver.stop()

    async def end(self) -> None:
        """The last word: no request is served any more."""
        if self._unheard is not None:
            self._unheard.cancel()
        self.publisher.say()  # those that have ended are settled by it
        tracing = self._service().tracing
        await asyncio.gather(self._pushing.flush(), *([] if tracing is None else [tracing.flush()]))
        self.publisher.say()  # what came of that
        self.publisher.stop()

    def end_unheard(self) -> None:
        """Drain and say the last word also where no server says that it ends, like that of an app that is mounted."""
        on_signal("SIGTERM", self._asked_to_end)
        if self._service().clock.runs and self._unheard is None:
            last = WeakMethod(self._end_now)
            self._unheard = at_exit(lambda: (end := last()) and end())

    def _asked_to_end(self) -> None:
        self._drain()
        if self._unheard is not None and self._unheard.still_active():
            hold_back("SIGTERM")

    def _end_now(self) -> None:
        self._drain()
        try:
            asyncio.run(self.end())
        finally:
            let_through("SIGTERM")
