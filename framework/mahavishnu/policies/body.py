"""How large a request body may be."""

from __future__ import annotations

from decimal import Decimal
from typing import ClassVar

from mahavishnu.policy import Limit, camel
from mahavishnu.promql import total
from mahavishnu.series import LIMIT_DECISIONS
from mahavishnu.signals import Alert, Feed, Severity
from mahavishnu.units import Duration, Size

_WINDOW = Duration.parse("30m")
_REFUSED_RATIO = Decimal("0.05")


class Body(Limit):
    """A request body larger than this is refused with 413, before it is read where its length is announced."""

    keyword: ClassVar[str] = "body"

    body: Size
    """The largest body that is read."""

    def number(self) -> float:
        return self.body

    def alerts(self, name: str) -> tuple[Alert, ...]:
        decisions = LIMIT_DECISIONS.closed(limit=name)
        refused = total(decisions.rate(_WINDOW, limit=name, outcome=self.denial))
        return (
            Alert(
                name=f"Limit{camel(name)}TooLarge",
                severity=Severity.P4,
                expr=refused / total(decisions.rate(_WINDOW, limit=name)) > _REFUSED_RATIO,
                hold=Duration.parse("15m"),
                summary=f"$value of the requests of limit {name} have a body of more than {self.body}.",
                unit="ratio",
                meaning=f"More than 5% of the requests under limit {name} are larger than {self.body}.",
                impact="What these callers send is not accepted." if self.mode == "enforce" else "None yet.",
                action=f"Find out who sends them; raise limits.{name}.body if they are right.",
                path=("limits", name),
                proof=(
                    Feed(decisions.select(limit=name, outcome="allowed"), healthy=600, faulty=540),
                    Feed(decisions.select(limit=name, outcome=self.denial), healthy=0, faulty=60),
                ),
            ),
        )
