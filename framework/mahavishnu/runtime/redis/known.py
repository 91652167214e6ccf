"""What a process knows of its server, whichever of its event loops has seen it."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

from mahavishnu.protocols import Clock

AGAIN = 2_000_000_000
"""For how long a server that was lost is taken to be, ns."""


class Known:
    """Whether the server is there, and why not; said once for all loops, in either direction and for a new reason.

    The nodes of a cluster may each have another one, and take turns: of one outage, each is said once.
    """

    def __init__(self, clock: Clock, told: Callable[[bool, str], object]) -> None:
        self._clock, self._told = clock, told
        self._lock = Lock()
        self._told_of: frozenset[str] = frozenset()
        self._again = 0

    def say(self, reason: str) -> None:
        """A loop has found it, or lost it for this reason."""
        with self._lock:
            if reason:
                self._again = self._clock.now() + AGAIN
            if reason in self._told_of:
                return
            self._told_of = self._told_of - {""} | {reason} if reason else frozenset({""})
        self._told(not reason, reason)

    def worth_waiting(self) -> bool:
        """Whether the first calls of a new loop should wait for it: while it is lost, those of one loop in a while."""
        with self._lock:
            now = self._clock.now()
            if self._told_of - {""} and now < self._again:
                return False
            self._again = now + AGAIN
            return True
