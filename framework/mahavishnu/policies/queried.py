"""An alert on a query that the spec writes itself, where no word of the format measures what is meant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Self

from pydantic import AfterValidator, Field, PrivateAttr

from mahavishnu.policies._written import Query, not_too_long
from mahavishnu.policy import Policy, camel
from mahavishnu.promql import Expr
from mahavishnu.queries.search import search
from mahavishnu.queries.written import QueryError, Unproved, read
from mahavishnu.signals import AgreementError, Alert, Severity, Signal
from mahavishnu.units import Duration

_LONGEST = Duration.parse("6h")


class Queried(Policy):
    """Raise an alert while a PromQL query over this service's own series answers anything."""

    keyword: ClassVar[str] = "query"

    query: Query
    """A condition in PromQL, like `sum(rate(mahavishnu_limit_decisions_total{outcome="refused"}[5m])) > 3`; its
    series, labels and values must be those of this service. Needs `mahavishnu[promql]`."""
    hold: Annotated[Duration, AfterValidator(not_too_long)] = Field(default=Duration.parse("5m"), alias="for")
    """How long it must last before anyone is told."""
    severity: Severity
    """How fast a person must act."""

    _read: Expr | None = PrivateAttr(None)

    def reading(self, name: str, signals: Mapping[str, Signal]) -> Self:
        """The same alert with its query read; raises QueryError where it asks for what is not there."""
        asked = self.model_copy()
        asked._read = read(self.query, signals)  # noqa: SLF001 (a copy of this one)
        return asked

    def alerts(self, name: str) -> tuple[Alert, ...]:
        if self._read is None:
            raise QueryError("the query of this alert has not been read")
        for one in self._read.selectors():
            if one.window is not None and one.window > _LONGEST:
                raise Unproved(
                    f"`{one}` looks back further than {_LONGEST}, which no test of minutes can prove"
                )
        try:
            proof = search(self._read)
        except AgreementError as fault:
            raise Unproved(f"nothing shows that this query can fire and clear: {fault}") from None
        return (
            Alert(
                name=f"Threshold{camel(name)}",
                severity=self.severity,
                expr=self._read,
                hold=self.hold,
                summary=f"{name} is $value.",
                meaning=f"For {self.hold} this has been so: {self.query}",
                impact="What the spec's own threshold was written for.",
                action=f"Find out why it answers; change alerts.thresholds.{name} if it may.",
                path=("alerts", "thresholds", name),
                proof=proof,
            ),
        )
