"""How large a request body may be, and how slowly it may come."""

from __future__ import annotations

from decimal import Decimal
from typing import ClassVar

from mahavishnu.policy import Limit, camel
from mahavishnu.series import LIMIT_DECISIONS
from mahavishnu.signals import Alert, Feed, Severity
from mahavishnu.units import Duration, Size, Throughput

_WINDOW = Duration.parse("30m")
_REFUSED_RATIO = Decimal("0.05")


class Body(Limit):
    """A request body larger than this is refused with 413, before it is read where its length is announced.

    One that comes too slowly is refused with 408.
    """

    keyword: ClassVar[str] = "body"

    body: Size
    """The largest body that is read. Where several fit a request, the one that names it most exactly holds."""
    within: Duration | None = None
    """How long the app may have to wait for the whole of it."""
    min_rate: Throughput | None = None
    """How much of it must come in each second on the average, give or take what comes in 5s."""

    @property
    def timed(self) -> bool:
        """Whether it matters how slowly a body comes."""
        return self.within is not None or self.min_rate is not None

    def number(self) -> float:
        return self.body

    def beyond(self) -> str:
        """What a body is refused for, in words."""
        said = [f"of more than {self.body}"]
        if self.within is not None:
            said.append(f"that takes longer than {self.within}")
        if self.min_rate is not None:
            said.append(f"that comes at less than {self.min_rate}")
        return " or ".join(said)

    def alerts(self, name: str) -> tuple[Alert, ...]:
        decisions = LIMIT_DECISIONS.closed(limit=name)
        return (
            Alert(
                name=f"Limit{camel(name)}TooLarge",
                severity=Severity.P4,
                expr=self.share(name, _WINDOW) > _REFUSED_RATIO,
                bad=self.denied(name, _WINDOW),
                # No longer a window than it waits, so that no single body can raise it.
                hold=_WINDOW,
                summary=f"$value of the requests of limit {name} have a body {self.beyond()}.",
                unit="ratio",
                meaning=f"More than 5% of the requests under limit {name} have a body {self.beyond()}.",
                impact="What these callers send is not accepted." if self.mode == "enforce" else "None yet.",
                action=f"Find out who sends them; relax limits.{name} if they are right.",
                path=("limits", name),
                proof=(
                    Feed(decisions.select(limit=name, outcome="allowed"), healthy=600, faulty=540),
                    Feed(decisions.select(limit=name, outcome=self.denial), healthy=0, faulty=60),
                ),
            ),
        )
