"""How long a request may take until its response starts."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field

from mahavishnu.events import CALL_CUT
from mahavishnu.policy import Limit, camel
from mahavishnu.series import LIMIT_DECISIONS
from mahavishnu.settings import BudgetHeader, listed
from mahavishnu.signals import Alert, Feed, Severity
from mahavishnu.units import Duration

MARGIN = 10_000_000
"""Nanoseconds kept back from a dependency's time, so that the service can still answer without it."""
_LATE_RATIO = Decimal("0.01")
BudgetHeaders = Annotated[
    tuple[BudgetHeader, ...],
    Field(min_length=1, max_length=4),
    BeforeValidator(listed, json_schema_input_type=BudgetHeader | list[BudgetHeader]),
]


class Timeout(Limit):
    """A request whose response has not started by then is cancelled and answered with 504."""

    keyword: ClassVar[str] = "timeout"

    timeout: Duration
    """From the arrival of the request to the start of its response. Where several fit a request, the one that
    names it most exactly holds."""
    inherit: BudgetHeaders = ()
    """Request headers in which callers say how long they still wait: `grpc-timeout` in gRPC's form, names that end
    in `-ms` in milliseconds, all others in seconds. They only ever shorten the time; a request that is ended
    because its caller waits no longer does not count against this limit."""
    idle: Duration | None = None
    """The longest pause between two parts of a response that has started; a slower stream is cut. So is one whose
    client takes that long to read a part, but that does not count against this limit."""

    def number(self) -> float:
        return float(self.timeout.seconds)

    def ends_first(self, timeout: Duration | None) -> bool:
        """Whether a call that has all of a request's time is cut before this timeout of its own."""
        return timeout is None or timeout >= self.timeout - MARGIN

    def alerts(self, name: str) -> tuple[Alert, ...]:
        decisions = LIMIT_DECISIONS.closed(limit=name)
        # A stream that pauses for too long is cut, and counted, only where it is enforced.
        idle = self.idle if self.mode == "enforce" else None
        paused = f", or paused for more than {idle}" if idle else ""
        reading = " though their clients were reading" if idle else ""
        named = f" (`{CALL_CUT}` in the log names it)" if self.mode == "enforce" else ""
        return (
            Alert(
                name=f"Limit{camel(name)}TimingOut",
                severity=Severity.P2,
                expr=self.share(name) > _LATE_RATIO,
                bad=self.denied(name),
                hold=Duration.parse("5m"),
                summary=f"$value of the requests of limit {name} took longer than {self.timeout}{paused}.",
                unit="ratio",
                meaning=f"More than 1% of the requests had no response within {self.timeout}{paused}{reading}.",
                impact=f"Callers wait, and get 504{' or half a response' if paused else ''} in the end."
                if self.mode == "enforce"
                else "Callers wait.",
                action=f"Find what is slow, and what waits for it: a dependency{named}, a lock, the processor.",
                path=("limits", name),
                proof=(
                    Feed(decisions.select(limit=name, outcome="allowed"), healthy=600, faulty=570),
                    Feed(decisions.select(limit=name, outcome=self.denial), healthy=0, faulty=30),
                ),
            ),
        )
