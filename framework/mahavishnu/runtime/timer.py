"""A timer that belongs to no request, though the first request may have started it."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context

from mahavishnu.protocols import Clock, Handle


class Timer:
    """Calls something after a while; started again, after another while instead.

    It does so in an empty context: what was set for the request that started it is kept neither alive nor at work.
    """

    __slots__ = ("_call", "_clock", "_handle")

    def __init__(self, clock: Clock, call: Callable[[], object]) -> None:
        self._clock = clock
        self._call = call
        self._handle: Handle | None = None

    @property
    def running(self) -> bool:
        """Whether a call is still to come."""
        return self._handle is not None

    def start(self, delay: int) -> None:
        """Call in so many ns."""
        self.stop()
        self._handle = Context().run(self._clock.call_later, delay, self._due)

    def stop(self) -> None:
        """Do not call."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _due(self) -> None:
        self._handle = None
        self._call()
