"""A limit of time as it is applied: what who is late is told, and on whom it is blamed."""

from __future__ import annotations

from dataclasses import dataclass

from mahavishnu.policies.timeout import Timeout
from mahavishnu.protocols import Decision
from mahavishnu.runtime import budget
from mahavishnu.runtime.limits.cells import Cells
from mahavishnu.runtime.limits.fields import REDUCED_CAPACITY
from mahavishnu.runtime.limits.margin import Margin


@dataclass(frozen=True, slots=True)
class TimeLimit:
    """`margin.whole` ns at most; `inherit` reads from a request's headers how long its caller waits."""

    name: str
    limit: Timeout
    cells: Cells
    margin: Margin
    inherit: budget.Read | None = None

    @classmethod
    def of(cls, name: str, limit: Timeout, cells: Cells, margin: Margin) -> TimeLimit:
        """From the settings of a limit."""
        return cls(name, limit, cells, margin, budget.reader(limit.inherit) if limit.inherit else None)

    @property
    def plain(self) -> bool:
        """Whether it always gives the same time, and only to the start of the response."""
        return self.limit.mode == "enforce" and self.limit.idle is None and self.inherit is None

    def too_slow(self) -> Decision | None:
        """The refusal of a request whose response did not start in time; None when the limit observes."""
        refusal = Decision(False, self.name, 504, REDUCED_CAPACITY, self._words())
        return self.cells.beyond(self.limit.mode, self.margin, refusal)

    def sent_too_slowly(self) -> Decision:
        """The refusal of a request for whose body its app still waits then.

        It is its client who is slow, so the limit is kept: nothing is wrong with the service.
        """
        self.cells.allowed.inc()
        return Decision(
            False, self.name, 408, detail=f"{self._words()}; the request's body was not here by then"
        )

    def taken_too_slowly(self) -> Decision:
        """The end of a response whose client has not taken a part of it within the idle time: as above."""
        self.cells.allowed.inc()
        detail = f"limit `{self.name}` gives a client {self.limit.idle} to take a part of a response"
        return Decision(False, self.name, 408, detail=detail)

    def given_up(self) -> Decision:
        """The answer to a request whose caller waits no longer: he may have said so for his own reasons.

        It has kept the limit, and is counted as one whose client has gone.
        """
        self.cells.allowed.inc()
        detail = "the time that came with the request is over"
        return Decision(False, self.name, 504, detail=detail, counted=499)

    def _words(self) -> str:
        return f"limit `{self.name}` gives a response {self.limit.timeout} to start"
