"""What must be known of an objective that nothing is counted for: after how long, and how urgent that is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mahavishnu.burn_rates import SHORTEST
from mahavishnu.policy import Expected, camel
from mahavishnu.promql import highest
from mahavishnu.series import ANY_UP, UP
from mahavishnu.signals import LATELY, Alert, Feed, Severity
from mahavishnu.units import Duration

if TYPE_CHECKING:
    from mahavishnu.policies.slo import Slo

_SILENT, _SILENT_ROUTE = Duration.parse("1h"), Duration.parse("6h")
"""After so long without any request there is no promise to be kept; a route by itself may rest over a night."""
_MISSED = 300
"""At the expected rate so many requests would have come: at a tenth of it, as at night, still 30, and that none of them
does is no chance."""
_MINUTE = Duration.parse("1m")
_SILENT_LEAST, _SILENT_MOST = Duration.parse("5m"), Duration.parse("7d")
_URGENT = Duration.parse("1h")
"""Who says that even so short a silence is none of theirs wants to hear of it at once."""
_URGENCY = {"critical": Severity.P1, "standard": Severity.P2, "experimental": Severity.P3}
_NO_VALUE = Duration.parse("15m")
_LOOKED_BACK = Duration.parse("15m")
"""How far a query looks back; that nothing comes is held for the whole silence, also in a process that began so."""


@dataclass(frozen=True, slots=True)
class SilenceAlert:
    """The alert of one objective that counts nothing, in a service of which so much is expected."""

    name: str
    slo: Slo
    expected: Expected

    @property
    def bound(self) -> Duration | None:
        """How long there may be nothing; None: for ever."""
        slo, traffic = self.slo, self.expected.traffic
        if slo.silent is not None:
            return None if slo.silent == "never" else slo.silent
        if slo.fresh is not None:
            return _NO_VALUE
        if slo.query is not None or traffic is None or slo.match is not None:
            return _SILENT if slo.match is None else _SILENT_ROUTE
        minutes = math.ceil(_MISSED / (traffic.per_second * 60))
        return min(max(Duration(minutes * int(_MINUTE)), _SILENT_LEAST), _SILENT_MOST)

    def all(self) -> Iterator[Alert]:
        """One, unless it may be silent for ever."""
        if (silence := self.bound) is not None:
            yield self._silent(silence)

    def _silent(self, silence: Duration) -> Alert:
        name, of = self.name, self.slo.indicator(self.name)
        seen = "has no value" if self.slo.fresh is not None else f"has counted nothing for {silence}"
        looked = min(max(Duration(silence // 4), SHORTEST), _LOOKED_BACK)
        missing, proof = of.missing(looked), of.silence()
        if self.slo.query is None:  # else a service that comes back would be told to be silent
            missing = missing.and_(highest(ANY_UP.select().over(LATELY, "max_over_time")).equals(1))
            proof = (*proof, Feed(UP.select(), healthy=1, faulty=1))
        return Alert(
            name=f"Slo{camel(name)}NoData",
            severity=self._of_silence(silence),
            expr=missing,
            hold=silence,
            summary=f"SLO {name}: there is nothing to judge it by.",
            meaning=f"The service is scraped, and what this objective is about {seen}.",
            impact=f"{self._lost}, or is counted elsewhere: this objective cannot raise an alert.",
            action=f"{self._search} Where so long a silence is usual, as at night, say so in `slos.{name}.silent`: "
            "a longer time, or `never`.",
            path=("slos", name),
            proof=proof,
            labels=(("slo", name),),
        )

    def _of_silence(self, silence: Duration) -> Severity:
        """A ticket, where nobody has said that even a short one is a fault; else what the tier is worth."""
        traffic = self.expected.traffic if self.slo.query is None and self.slo.match is None else None
        if silence > _URGENT or (self.slo.silent is None and traffic is None):
            return self.slo.ticket
        wanted = _URGENCY[self.expected.tier]
        return min((one for one in self.slo.severities if one >= wanted), default=max(self.slo.severities))

    @property
    def _lost(self) -> str:
        return (
            "It does not happen any more"
            if self.slo.query is not None
            else "None of it reaches the service any more"
        )

    @property
    def _search(self) -> str:
        if self.slo.query is not None:
            return f"Find out what should show `{self.slo.query.age or self.slo.query.total}`, and why it does not."
        return (
            "See whether requests reach the service at all (its name, certificate and ingress), whether a limit "
            "refuses all of them, and whether their route still has its name."
        )
