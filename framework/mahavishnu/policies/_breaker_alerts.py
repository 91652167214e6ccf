"""What must be known of a breaker: that it is open, and that it does not come to rest."""

from __future__ import annotations

from dataclasses import dataclass

from mahavishnu.errors import Path
from mahavishnu.events import BREAKER_OPENED, CALL_FAILED
from mahavishnu.policy import camel
from mahavishnu.promql import highest, lowest, total
from mahavishnu.series import BREAKER_STATE, BREAKER_TRANSITIONS
from mahavishnu.signals import WINDOW, Alert, Feed, Severity
from mahavishnu.units import Duration

_SHORTEST = Duration.parse("30m")
"""The shortest time over which its turns are counted."""
_OFTEN = 5
_TURNS = _OFTEN + 1
_LONGEST = Duration.parse("1d")
"""Where that many turns take longer, nobody would call it restless."""


@dataclass(frozen=True, slots=True)
class BreakerAlerts:
    """The alerts of the breaker of one dependency, which is open for so long at the most each time."""

    name: str
    mode: str
    longest_open: Duration

    @property
    def path(self) -> Path:
        """The place of the spec that asks for it."""
        return ("dependencies", self.name, "breaker")

    def all(self) -> tuple[Alert, ...]:
        """That it is not closed; and where it can be, that it closes again and again."""
        turns = self._turns()
        restless = self.mode in ("observe", "enforce") and turns <= _LONGEST
        return (self._not_closed(), *((self._restless(turns),) if restless else ()))

    def _turns(self) -> Duration:
        """A time in which it can close often enough, though it stays open for as long as it may each time."""
        return max(_SHORTEST, Duration(_TURNS * self.longest_open))

    def _not_closed(self) -> Alert:
        """Not closed, and open not long ago: one that nobody calls any more has no probe that could close it."""
        state = BREAKER_STATE.closed(dependency=self.name)
        closed = state.lately(dependency=self.name, state="closed")
        opened = state.select(dependency=self.name, state="open")
        lately = opened.over(WINDOW, "max_over_time")
        each = ("dependency", "instance")
        held = self.mode == "open"
        return Alert(
            name=f"Dependency{camel(self.name)}BreakerOpen",
            severity=Severity.P2,
            expr=lowest(closed, *each).equals(0).and_(highest(lately, *each).equals(1)),
            hold=Duration.parse("1m"),
            summary=f"The breaker of dependency {self.name} has not been closed for a minute.",
            meaning=f"It is held open by its `mode`, however well {self.name} is."
            if held
            else f"Too many calls to {self.name} failed or were slow, and its probes did no better since.",
            impact=f"Calls to it {'fail (observe)' if self.mode == 'observe' else 'are refused at once'}; "
            f"what needs {self.name} does not work.",
            action=f"Take `mode` out of dependencies.{self.name}.breaker once {self.name} may be called again."
            if held
            else f"Read why in the log of the service: `{BREAKER_OPENED}` has the `reason`, and `{CALL_FAILED}` the "
            f"first failure of each kind. Look at {self.name} itself. The breaker closes by itself once its probes "
            "succeed.",
            path=self.path,
            proof=(
                Feed(state.select(dependency=self.name, state="closed"), healthy=1, faulty=0),
                Feed(opened, healthy=0, faulty=1),
            ),
        )

    def _restless(self, within: Duration) -> Alert:
        """It closes again and again, in one process: an outage opens it at every probe, and once in each of a fleet."""
        transitions = BREAKER_TRANSITIONS.closed(dependency=self.name)
        closings = total(transitions.increase(within, dependency=self.name, to="closed"), "instance")
        return Alert(
            name=f"Dependency{camel(self.name)}BreakerRestless",
            severity=Severity.P3,
            expr=highest(closings) > _OFTEN,
            hold=Duration.parse("5m"),
            summary=f"The breaker of dependency {self.name} opened, and closed again, $value times in {within}.",
            meaning=f"{self.name} is well enough for a few probes, and fails again under the calls that follow.",
            impact=f"Part of what needs {self.name} fails, in turns; no turn is long enough to be called an outage.",
            action=f"The log of the service has a line for each turn (`{BREAKER_OPENED}`), with its `reason`. "
            f"See what {self.name} can carry: fewer calls at once (`bulkhead`, `throttle`), more `probes`, or a "
            "longer `open_for`.",
            path=self.path,
            proof=(Feed(transitions.select(dependency=self.name, to="closed"), healthy=0, faulty=1),),
        )
