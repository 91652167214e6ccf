"""The receive side of a request whose body is held to one limit, while another one is tried."""

from __future__ import annotations

from collections.abc import Iterable

from mahavishnu.protocols import Clock, Receive
from mahavishnu.runtime.limits.admission import Admission
from mahavishnu.runtime.limits.size_limit import SizeLimit
from mahavishnu.runtime.requests.bounded import Bounded


class BoundedOnTrial(Bounded):
    """As `Bounded`; the limit on `trial`, which only observes, sees every part of the body first."""

    __slots__ = ("_trial",)

    def __init__(
        self, clock: Clock, of: SizeLimit, trial: SizeLimit, request: Admission, receive: Receive
    ) -> None:
        self._trial = Bounded(clock, trial, request, receive)
        super().__init__(clock, of, request, self._trial)

    def announced(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self._trial.announced(headers)
        super().announced(headers)

    def ended(self) -> None:
        self._trial.ended()
        super().ended()
