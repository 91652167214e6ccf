"""The time limit of one request: until its response starts, then between the parts of a stream."""

from __future__ import annotations

from asyncio import current_task

from mahavishnu.runtime.cutoff import Cutoff
from mahavishnu.runtime.engine import Admission, Engine, TimeLimit


class Watch(Cutoff):
    """Ends a request that is too slow, or only counts it when the limit observes; it begins at once.

    `given` is how long its caller waits (ns; None: he has not said): it only ever shortens the time.
    """

    __slots__ = ("_began", "_engine", "_of", "_request", "idle")

    def __init__(
        self, engine: Engine, of: TimeLimit, request: Admission, began: int, given: int | None
    ) -> None:
        # Not by way of `super` and `begin`: this is done for every request.
        self._engine = engine
        self._of = of
        self._request = request
        self._began = began
        self._task = task = current_task()
        self._cancelling = task.cancelling() if task else 0
        self.expired = False
        self.idle = self._timer = None
        self._on_expiry = self._too_late
        limit = of.limit
        if limit.mode != "enforce":
            return
        self.idle = limit.idle
        self._set = engine.clock.deadline
        delay: int = limit.timeout
        if given is not None and given < delay:
            self._set = engine.clock.call_later  # of a length of the caller's choice: not one that recurs
            self._on_expiry = self._given_up
            delay = given
        request.deadline = began + delay
        self._timer = self._set(delay, self._expire)

    def part(self, last: bool) -> None:
        """A part goes out: the first ends the deadline, each but the last starts the idle time anew."""
        self._request.deadline = None  # what is called from here on has its own timeout
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.idle is not None and not last:
            self.restart(self.idle)

    def ended(self, answered: int | None) -> None:
        """The request has ended, and began to answer at that time (ns; None: it did not): count it."""
        self.end(None)
        if self._request.refused is not None:
            return
        of = self._of
        took = (self._engine.clock.now() if answered is None else answered) - self._began
        if took > of.limit.timeout:
            self._engine.too_slow(of.name, of.limit)
            return
        of.kept.value += 1
        left = of.margin.whole - took
        if left < of.margin.mark:
            of.margin.left(left)

    def _given_up(self) -> None:
        """The caller waits no longer: nothing that is done now reaches him."""
        if self._request.deadline is None:  # the response has begun, and this is its idle time
            self._too_late()
        elif self._request.refused is None:
            self._request.refused = self._engine.given_up(self._of.name)

    def _too_late(self) -> None:
        """Whatever the app sends from now on is dropped, also when it holds on against its cancellation."""
        if self._request.refused is None:
            self._request.refused = self._engine.too_slow(self._of.name, self._of.limit)
