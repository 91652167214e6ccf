"""The time limit of one request: until its response starts, then between the parts of a stream."""

from __future__ import annotations

from mahavishnu.policies.timeout import Timeout
from mahavishnu.runtime.cutoff import Cutoff
from mahavishnu.runtime.engine import Admission, Engine


class Watch(Cutoff):
    """Ends a request that is too slow, or only counts it when the limit observes.

    `given` is how long its caller waits (ns; None: he has not said): it only ever shortens the time.
    """

    __slots__ = ("_began", "_engine", "_limit", "_name", "_request", "idle")

    def __init__(
        self, engine: Engine, named: tuple[str, Timeout], request: Admission, began: int, given: int | None
    ) -> None:
        name, limit = named
        # Not by way of `super`: this is done for every request.
        self._task = self._timer = None
        self.expired = False
        self._engine = engine
        self._request = request
        self._name = name
        self._limit = limit
        self._began = began
        self._set = engine.clock.deadline
        self._on_expiry = self._too_late
        self.idle = self._delay = None
        if limit.mode == "enforce":
            self.idle = limit.idle
            self._delay = limit.timeout
            if given is not None and given < limit.timeout:
                self._set = engine.clock.call_later  # of a length of the caller's choice: not one that recurs
                self._delay = given
                self._on_expiry = self._given_up
            request.deadline = began + self._delay

    def part(self, last: bool) -> None:
        """A part goes out: the first ends the deadline, each but the last starts the idle time anew."""
        self._request.deadline = None  # what is called from here on has its own timeout
        self.stop()
        if self.idle is not None and not last:
            self.restart(self.idle)

    def ended(self, answered: int | None) -> None:
        """The request has ended, and began to answer at that time (ns; None: it did not): count it."""
        self.end(None)
        if self._request.refused is not None:
            return
        started = self._engine.clock.now() if answered is None else answered
        if started - self._began > self._limit.timeout:
            self._engine.too_slow(self._name, self._limit)
        else:
            self._engine.kept(self._name, started - self._began)

    def _given_up(self) -> None:
        """The caller waits no longer: nothing that is done now reaches him."""
        if self._request.deadline is None:  # the response has begun, and this is its idle time
            self._too_late()
        elif self._request.refused is None:
            self._request.refused = self._engine.given_up(self._name)

    def _too_late(self) -> None:
        """Whatever the app sends from now on is dropped, also when it holds on against its cancellation."""
        if self._request.refused is None:
            self._request.refused = self._engine.too_slow(self._name, self._limit)
