"""Send less to a dependency that refuses what it is asked: client-side throttling."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from threading import Lock
from typing import ClassVar

from mahavishnu.errors import Throttled
from mahavishnu.ground.unfit import unfit
from mahavishnu.outcomes.faults import Words
from mahavishnu.policies._window import BUCKETS, Window
from mahavishnu.policy import Mode, Policy, camel
from mahavishnu.promql import total
from mahavishnu.protocols import Guard, Leaf, Outcome, Site
from mahavishnu.series import DEPENDENCY_CALLS
from mahavishnu.settings import Count
from mahavishnu.signals import WINDOW, Across, Alert, Feed, Kind, Label, Severity, Signal, Unit
from mahavishnu.units import PARTS, Duration, Percent

_HELD_RATIO = Decimal("0.1")
_ASKED, _ACCEPTED = range(2)

THROTTLED = Signal(
    "mahavishnu_throttled_total",
    Kind.COUNTER,
    "Calls that a throttle kept back, or would have (observe), as the dependency refuses too many.",
    (Label("dependency"),),
    unit=Unit.CALLS,
)
THROTTLE_RATIO = Signal(
    "mahavishnu_throttle_ratio",
    Kind.GAUGE,
    "The share of calls to a dependency that its throttle keeps back now, from 0 to 1.",
    (Label("dependency"),),
    across=Across.MAX,
    waived="How much is kept back now is looked at; what was is counted, and an alert.",
    unit=Unit.SHARE,
)


class Throttle(Policy):
    """Keep back the more calls the fewer a dependency accepts, so that refusing does not keep it from working."""

    keyword: ClassVar[str] = "throttle"

    accepts: Percent = Percent(Decimal("0.5"))
    """Calls are kept back while less than this share of them is accepted: 50% lets twice as many through as are."""
    window: Duration = Duration.parse("2m")
    """Over which time that is measured; longer than a call ever takes."""
    min_calls: Count = 20
    """Nothing is kept back before so many calls."""
    most: Percent = Percent(Decimal("0.9"))
    """The largest share that is kept back: the rest finds out when it is well again."""
    refused_on: Words = ("timeout", "connect", 429, 502, 503, 504)
    """Which ends of a call mean that it was not accepted. Statuses are seen of the clients that `retry_on` names."""
    mode: Mode = "enforce"
    """`observe` counts what it would keep back, `off` does nothing."""

    def model_post_init(self, context: object, /) -> None:
        if self.most.ratio >= 1:
            raise unfit("`most` keeps back every call for ever", "set it below 100%, like 90%")

    def guard(self, site: Site, before: Guard | None = None) -> ThrottleGuard | None:
        """The counts that enforce this."""
        if self.mode == "off":
            return None
        if isinstance(before, ThrottleGuard):
            before.show(site)
            return before
        return ThrottleGuard(self, site)

    def signals(self, name: str) -> tuple[Signal, ...]:
        return (THROTTLED.closed(dependency=name), THROTTLE_RATIO.closed(dependency=name))

    def alerts(self, name: str) -> tuple[Alert, ...]:
        throttled, calls = THROTTLED.closed(dependency=name), DEPENDENCY_CALLS.closed(dependency=name)
        held = total(throttled.rate(WINDOW, dependency=name))
        enforced = self.mode == "enforce"
        bound = min(_HELD_RATIO, self.most.ratio / 2)  # more than `most` is never kept back
        return (
            Alert(
                name=f"Dependency{camel(name)}Throttled",
                severity=Severity.P2,
                expr=held / total(calls.rate(WINDOW, dependency=name)) > bound,
                bad=held,
                hold=Duration.parse("5m"),
                summary=f"$value of the calls to {name} are {'' if enforced else 'to be '}kept back.",
                unit="ratio",
                meaning=f"{name} accepts less than {self.accepts} of what it is asked.",
                impact="Requests that need a call which is kept back fail at once."
                if enforced
                else f"Nothing is kept back (observe); {name} is loaded with calls that it refuses.",
                action=f"See what {name} refuses and why. The throttle opens by itself as it accepts more.",
                path=("dependencies", name, "throttle"),
                proof=(
                    Feed(throttled.select(dependency=name), healthy=0, faulty=300),
                    Feed(calls.select(dependency=name, outcome="success"), healthy=600, faulty=100),
                    Feed(calls.select(dependency=name, outcome="rejected"), healthy=0, faulty=300),
                ),
            ),
        )


class _Kept(int):
    """The permit of a call that would be kept back, were it enforced."""


class ThrottleGuard:
    """Adaptive throttling as in Google's SRE book ("Handling Overload"). Thread-safe.

    Over the window: a call is kept back with probability (asked - K x accepted) / (asked + 1), K being 1 / `accepts`.
    A call is counted as asked before it is made, and when it is kept back too, so that calls which hang throttle
    as well; one that was cancelled is not counted. The permit is the bucket in which a call was counted.
    """

    def __init__(self, settings: Throttle, site: Site) -> None:
        self._clock = site.clock
        self._random = site.random
        self._lock = Lock()
        self._counts = Window(2)
        self._set(settings)
        self.show(site)

    def _set(self, settings: Throttle) -> None:
        self._width = settings.window // BUCKETS
        self._accepts = settings.accepts.parts
        self._most = float(settings.most.ratio)
        self._min_calls = settings.min_calls
        self._refused_on = frozenset(settings.refused_on)
        self._enforced = settings.mode == "enforce"

    def show(self, site: Site) -> None:
        """Show the share that is kept back, and count, through this site's meter."""
        self._name = site.name
        self._held = site.meter.counter(THROTTLED, dependency=site.name)
        site.meter.gauge(THROTTLE_RATIO, self.ratio, dependency=site.name)

    def become(self, settings: Throttle, timeout: int | None) -> None:
        """Judge by these settings from now on; what is in the window is kept."""
        with self._lock:
            now, width = self._clock.now(), self._width
            self._set(settings)
            if width != self._width:
                self._counts.advance(now // width)
                self._counts.gather(now // self._width)

    def ratio(self) -> float:
        """The share that is kept back now."""
        with self._lock:
            self._advance(self._clock.now())
            return self._share()

    def enter(self, left: int | None = None) -> int:
        """Count the call; raises Throttled when it is one of those that are kept back."""
        with self._lock:
            self._advance(self._clock.now())
            share = self._share()
            self._counts.add(_ASKED)
            held = share > 0 and self._random() < share
            permit = self._counts.index
        if held:
            self._held.inc()
            if self._enforced:
                what = f"it accepts too little: {share:.0%} of the calls are kept back"
                raise Throttled(self._name, "throttle", what)
        return _Kept(permit) if held else permit

    def try_enter(self, now: int) -> int | None:
        """As `enter`, while nothing is kept back; None, uncounted, when it is."""
        with self._lock:
            self._advance(now)
            if self._share() > 0:
                return None
            self._counts.add(_ASKED)
            return self._counts.index

    async def enter_async(self, left: int | None = None) -> int:
        """As `enter`, which never waits."""
        return self.enter()

    def leave(
        self,
        permit: int,
        outcome: Outcome,
        duration: int,
        now: int,
        leaves: Sequence[Leaf] = (),
    ) -> None:
        """Report whether the call was accepted; a cancelled one has not been asked."""
        with self._lock:
            self._advance(now)
            if outcome is Outcome.CANCELLED:
                self._counts.take_back(_ASKED, permit)
            elif all(self._refused_on.isdisjoint(words) for _, words in leaves):
                self._counts.add(_ACCEPTED)

    def renew(self, permit: object) -> None:
        """A count has no lease."""

    def observed(self, permit: int) -> bool:
        """Whether the throttle would have kept this call back."""
        return isinstance(permit, _Kept)

    def refuses(self) -> bool:
        """Each call has its chance."""
        return False

    def busy(self) -> bool:
        """Whether somebody is counting."""
        return self._lock.locked()

    def _advance(self, now: int) -> None:
        index = now // self._width
        if index > self._counts.index:
            self._counts.advance(index)

    def _share(self) -> float:
        asked, accepted = self._counts.totals
        excess = asked * self._accepts - accepted * PARTS
        if excess <= 0 or asked < self._min_calls:
            return 0.0
        return min(self._most, excess / (self._accepts * (asked + 1)))
