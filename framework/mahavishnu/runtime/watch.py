"""The time limit of one request: until its response starts, then between the parts of a stream."""

from __future__ import annotations

from mahavishnu.policies.timeout import Timeout
from mahavishnu.policy import Decision
from mahavishnu.runtime.cutoff import Cutoff
from mahavishnu.runtime.service import Service


class Watch:
    """Ends a request that is too slow, or only counts it when the limit observes."""

    def __init__(self, service: Service, named: tuple[str, Timeout], began: int) -> None:
        self._service = service
        self._name, self._limit = named
        self._began = began
        self._started: int | None = None
        self._enforced = self._limit.mode == "enforce"
        self.deadline = began + self._limit.timeout if self._enforced else None
        self.cutoff = Cutoff(service.clock, self._limit.timeout if self._enforced else None)

    def part(self) -> None:
        """A part of the response goes out: the first ends the deadline, each starts the idle time anew."""
        if self._started is None:
            self._started = self._service.clock.now()
        self.cutoff.restart(self._limit.idle if self._enforced else None)

    def expired(self) -> Decision | None:
        """Count the request as refused; the refusal to answer with."""
        return self._service.engine.too_slow(self._name, self._limit)

    def ended(self) -> None:
        """Count a request that ran to its end."""
        started = self._service.clock.now() if self._started is None else self._started
        if started - self._began > self._limit.timeout:
            self.expired()
        else:
            self._service.engine.kept(self._name)
