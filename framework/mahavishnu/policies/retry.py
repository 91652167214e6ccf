"""Trying again: full jitter, a budget shared by all callers, only where it is safe and there is time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from threading import Lock
from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from mahavishnu.events import CALL_FAILED
from mahavishnu.ground.unfit import unfit
from mahavishnu.outcomes.faults import Words, retry_after
from mahavishnu.policies._backoff import not_above
from mahavishnu.policy import Policy, camel
from mahavishnu.promql import total
from mahavishnu.protocols import Leaf, Site
from mahavishnu.signals import WINDOW, Across, Alert, Feed, Kind, Label, Severity, Signal, Unit
from mahavishnu.units import PARTS, Duration, Percent

RESERVE = 10
"""What a full budget holds: at 20%, there are never more retries than 10 and a fifth of the calls that succeeded."""

FULL = RESERVE * PARTS
"""What the tokens of a full budget are: a retry takes `PARTS` of them."""
_DENIED_RATIO = Decimal("0.25")

RETRIES = Signal(
    "mahavishnu_retries_total",
    Kind.COUNTER,
    "Failed attempts that were worth another: retried, or why not (attempts exhausted, budget, deadline).",
    (Label("dependency"), Label("outcome", ("retried", "exhausted", "budget", "deadline"))),
    waived="Asked for where a call may be made again; where each is made once it is looked at.",
    unit=Unit.CALLS,
)
RETRY_BUDGET = Signal(
    "mahavishnu_retry_budget_ratio",
    Kind.GAUGE,
    "How full the budget of retries is that all callers of a dependency share, from 0 to 1.",
    (Label("dependency"),),
    waived="How full it is is looked at; running dry is counted, and an alert.",
    across=Across.MIN,
    unit=Unit.SHARE,
)


class Retry(Policy):
    """Repeat a failed attempt, with full jitter, while the budget and the deadline allow it."""

    keyword: ClassVar[str] = "retry"

    attempts: Annotated[int, Field(strict=True, ge=1, le=10)] = 3
    """The total number of tries, the first included."""
    base: Duration = Duration.parse("100ms")
    """The ceiling of the first pause; it doubles with every try."""
    max: Duration = Duration.parse("2s")
    """The ceiling of every pause; only a `Retry-After` that the deadline allows may be longer."""
    budget: Percent = Percent(Decimal("0.2"))
    """How many retries all callers together may add, as a share of the calls that succeed: where nothing does, there
    is nothing to win."""
    within: Duration | None = None
    """How long all tries and pauses together may take; what a request's deadline leaves them when absent."""
    retry_on: Words = ("timeout", "connect", 502, 503, 504)
    """What is worth another try. A status is seen of httpx, requests, aiohttp, urllib3, urllib and botocore; of other
    clients the decorator's `failed=` says which answers failed, and `result` names them."""

    @model_validator(mode="after")
    def _fits(self) -> Retry:
        if self.attempts > 1 and not self.retry_on:
            what = f"`attempts` is {self.attempts}, but `retry_on` names nothing that is worth another try"
            raise unfit(what, "name it in `retry_on`, or set `attempts: 1`")
        not_above(self.base, self.max, self)
        return self

    def signals(self, name: str) -> tuple[Signal, ...]:
        return (RETRIES.closed(dependency=name), RETRY_BUDGET.closed(dependency=name))

    def alerts(self, name: str) -> tuple[Alert, ...]:
        if self.attempts == 1:
            return ()
        retries = RETRIES.closed(dependency=name)
        denied = total(retries.rate(WINDOW, dependency=name, outcome="budget"))
        wanted = total(retries.rate(WINDOW, dependency=name, outcome_re="retried|budget"))
        return (
            Alert(
                name=f"Dependency{camel(name)}RetryBudgetExhausted",
                severity=Severity.P3,
                expr=denied / wanted > _DENIED_RATIO,
                bad=denied,
                # Longer than the window, so that no single moment can raise it.
                hold=Duration.parse("10m"),
                summary=f"$value of the retries that calls to {name} wanted were denied by the budget.",
                unit="ratio",
                meaning=f"More calls to {name} fail than the budget of {self.budget} can repeat.",
                impact="Calls fail at their first fault: retries no longer hide anything.",
                action=f"Find out why {name} fails: `{CALL_FAILED}` in the log of the service has the `reason`. "
                "A larger budget would only load it more.",
                path=("dependencies", name, "retry"),
                proof=(
                    Feed(retries.select(dependency=name, outcome="retried"), healthy=10, faulty=10),
                    Feed(retries.select(dependency=name, outcome="budget"), healthy=0, faulty=40),
                ),
            ),
        )


class RetryBudget:
    """What is left of a retry budget, at first all of it; it outlives the settings that fill it. Thread-safe."""

    def __init__(self) -> None:
        self.tokens = FULL
        self.told: Callable[[], object] = _nothing
        """Called when it may be full where it was not, or the other way round."""
        self._lock = Lock()

    def put(self, tokens: int) -> None:
        """Add so many, as far as there is room."""
        if self.tokens < FULL:
            with self._lock:
                self.tokens = min(FULL, self.tokens + tokens)
                self.told()

    def take(self) -> bool:
        """Take what one retry costs; False where so much is not there."""
        with self._lock:
            if self.tokens < PARTS:
                return False
            self.tokens -= PARTS
            self.told()
            return True

    def part(self) -> None:
        """Whoever was told is told no more."""
        self.told = _nothing

    def busy(self) -> bool:
        """Whether somebody is changing it."""
        return self._lock.locked()


class Retrier:
    """Decides whether a failed attempt is repeated, and after which pause. Thread-safe.

    The budget is a token bucket: every call that succeeds deposits `budget`, every retry withdraws 1, and it holds
    at the most `RESERVE`, which it has at the start (as gRPC A6 and the AWS SDKs have it). So over any time:
    retries <= RESERVE + budget * successes, and layers of services that all retry do not multiply.
    The pause is U(0, min(max, base * 2^(n-1))) (AWS "full jitter", gRPC A6); after a `Retry-After` never less
    than that, plus U(0, base) so that those who wait do not come back all at once.
    """

    def __init__(
        self,
        settings: Retry,
        site: Site,
        wall: Callable[[], float] = time.time,
        before: Retrier | None = None,
    ) -> None:
        self.attempts = settings.attempts
        self.within = None if settings.within is None else int(settings.within)
        self._base = int(settings.base)
        self._longest = int(settings.max)
        self._words = frozenset(settings.retry_on)
        self._deposit = settings.budget.parts
        self.budget: RetryBudget = RetryBudget() if before is None else before.budget
        self._random = site.random
        self._wall = wall
        counters = RETRIES.label("outcome").values or ()
        self._count = {
            one: site.meter.counter(RETRIES, dependency=site.name, outcome=one) for one in counters
        }
        site.meter.gauge(RETRY_BUDGET, self.fullness, dependency=site.name)

    def fullness(self) -> float:
        """How full the budget is, from 0 to 1."""
        return self.budget.tokens / FULL

    def deposit(self) -> None:
        """One call has succeeded, and is not worth another try."""
        self.budget.put(self._deposit)

    def busy(self) -> bool:
        """Whether somebody is changing the budget."""
        return self.budget.busy()

    def wants(self, leaves: Sequence[Leaf]) -> bool:
        """Whether this end is worth another try: that of a group is when every exception in it is."""
        return bool(leaves) and all(not self._words.isdisjoint(words) for _, words in leaves)

    def asked(self, answers: Iterable[object]) -> int | None:
        """What the `Retry-After` of these responses asks for, in ns: of several the longest."""
        said = (retry_after(answer, self._wall) for answer in answers)
        return max((one for one in said if one is not None), default=None)

    def pause(self, attempt: int, asked: int | None, remaining: int | None) -> int | None:
        """The pause in ns before the next attempt after this one (from 1), or None: give up.

        `asked` is the `Retry-After`, `remaining` what the call's time leaves for pauses (None: it has no end).
        """
        pause = self._draw(attempt, asked)
        outcome = self._judge(attempt, pause, asked, remaining)
        self._count[outcome].inc()
        return pause if outcome == "retried" else None

    def _draw(self, attempt: int, asked: int | None) -> int:
        pause = int(self._random() * min(self._longest, self._base << (attempt - 1)))
        return pause if asked is None else max(asked, pause) + int(self._random() * self._base)

    def _judge(self, attempt: int, pause: int, asked: int | None, remaining: int | None) -> str:
        if attempt >= self.attempts:
            return "exhausted"
        if remaining is None:
            late = asked is not None and asked > self._longest
        else:
            late = pause > remaining
        if late:
            return "deadline"
        return "retried" if self.budget.take() else "budget"


def _nothing() -> None:
    """Where nobody wants to be told."""
