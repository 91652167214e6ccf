"""The time limit of one request: until its response starts, then between the parts of a stream."""

from __future__ import annotations

from mahavishnu.policies.timeout import Timeout
from mahavishnu.runtime.context import DEADLINE
from mahavishnu.runtime.cutoff import Cutoff
from mahavishnu.runtime.exchange import Exchange
from mahavishnu.runtime.service import Service


class Watch:
    """Ends a request that is too slow, or only counts it when the limit observes."""

    def __init__(self, service: Service, named: tuple[str, Timeout], began: int, exchange: Exchange) -> None:
        self._service = service
        self._name, self._limit = named
        self._began = began
        self._exchange = exchange
        self._started: int | None = None
        enforced = self._limit.mode == "enforce"
        self._idle = self._limit.idle if enforced else None
        self.deadline = began + self._limit.timeout if enforced else None
        self.cutoff = Cutoff(service.clock.deadline, self._limit.timeout if enforced else None, self._expire)
        exchange.on_part = self._part

    def _part(self, last: bool) -> None:
        """A part goes out: the first ends the deadline, each but the last starts the idle time anew."""
        if self._started is None:
            self._started = self._service.clock.now()
            DEADLINE.set(
                None
            )  # in the context of whoever sends: what he calls from here on has its own timeout
        self.cutoff.restart(None if last else self._idle)

    def _expire(self) -> None:
        """Whatever the app sends from now on is dropped, also when it holds on against its cancellation."""
        if self._exchange.pending is None:
            self._exchange.pending = self._service.engine.too_slow(self._name, self._limit)

    def ended(self) -> None:
        """Count a request that ran to its end."""
        started = self._service.clock.now() if self._started is None else self._started
        if started - self._began > self._limit.timeout:
            self._service.engine.too_slow(self._name, self._limit)
        else:
            self._service.engine.kept(self._name)
