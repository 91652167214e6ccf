"""The series of a process without the middleware, pushed from a thread with an event loop of its own."""

from __future__ import annotations

import asyncio
import threading

from mahavishnu.runtime.current import current
from mahavishnu.runtime.ending import at_exit
from mahavishnu.runtime.pushing import Pushing
from mahavishnu.runtime.service import Service


def push_alone(service: Service) -> None:
    """Push what a service shows as long as it is the one at work, and a last time when the process ends.

    Raises MahavishnuError where a package is missing.
    """
    pushing = _Alone(lambda: service, service.clock, lambda: None)
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="mahavishnu-push", daemon=True).start()
    loop.call_soon_threadsafe(pushing.start)
    at_exit(lambda: asyncio.run_coroutine_threadsafe(pushing.flush(), loop).result())


class _Alone(Pushing):
    def _leads(self) -> int | None:
        """Where a middleware starts after all, that is the one who pushes."""
        return super()._leads() if current() is self._service() else None
