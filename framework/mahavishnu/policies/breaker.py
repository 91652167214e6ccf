"""Stop calling what fails: a breaker over a time window, with failure and slow rates and leased probes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import partial
from threading import Lock
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from mahavishnu.errors import BreakerOpen
from mahavishnu.ground.unfit import unfit
from mahavishnu.ground.words import listing
from mahavishnu.outcomes.faults import Words, worst
from mahavishnu.policies._breaker_alerts import BreakerAlerts
from mahavishnu.policies._breaker_states import (
    NOT_BEGUN,
    Closed,
    HalfOpen,
    Held,
    Open,
    Probe,
    State,
    name_of,
    tally_of,
)
from mahavishnu.policies._window import BUCKETS
from mahavishnu.policy import Policy
from mahavishnu.protocols import Guard, Leaf, Outcome, Site, Turn, Word
from mahavishnu.series import (
    BREAKER_CALLS,
    BREAKER_STATE,
    BREAKER_STATES,
    BREAKER_TRANSITIONS,
    DEPENDENCY_DURATION,
)
from mahavishnu.settings import Count
from mahavishnu.signals import Across, Alert, Signal
from mahavishnu.units import PARTS, Duration, Percent

_DEFAULT_RATE = Percent(Decimal("0.5"))
_LONGER = 10

_ALL_CLOSED = replace(BREAKER_STATE, across=Across.MIN)
"""Of several workers: only where the breaker of each is."""


class Breaker(Policy):
    """Opens when too many calls in the window fail or are slow; then lets a few probes pass and decides."""

    keyword: ClassVar[str] = "breaker"

    failure_rate: Percent | None = None
    """Opens when this share of the window's calls failed; 50% when no other condition is said."""
    slow_call: Duration | None = None
    """A call that takes longer counts as slow."""
    slow_rate: Percent | None = None
    """Opens when this share of the window's calls was slow; the failure rate when absent."""
    consecutive_failures: Count | None = None
    """Opens after so many failures in a row."""
    min_calls: Count = 20
    """No rate is judged on fewer calls than this."""
    window: Duration = Duration.parse("30s")
    """Over which time the rates are measured."""
    open_for: Duration = Duration.parse("30s")
    """How long it stays open before the first probe, give or take a fifth; twice as long each time that the probes
    fail, and half as long again for every `window` that it has been closed since."""
    max_open_for: Duration | None = None
    """The longest it stays open; ten times `open_for` when absent."""
    probes: Annotated[int, Field(strict=True, ge=1, le=100)] = 3
    """How many calls are let through at once to see whether the dependency is well again."""
    failure_on: Words | None = None
    """What counts as a failure; when absent 5xx, and every exception but one of a 4xx. Anything else is then a success.
    Statuses are seen of the clients that `retry_on` names."""
    ignore: Words = ()
    """What counts as nothing, neither as a failure nor as a success, whatever `failure_on` says. Statuses are seen of
    the clients that `retry_on` names."""
    scope: Literal["process", "fleet"] = "process"
    """`fleet`: one that opens advises those of all processes, through the shared store, until when it will be; they
    count by themselves all the same, and take no advice while they see nothing but successes."""
    mode: Literal["observe", "enforce", "off", "open", "closed"] = "enforce"
    """`observe` judges and shows its state but refuses nothing, `off` does nothing; `open` refuses every call, `closed`
    none, whatever the dependency does."""

    @model_validator(mode="after")
    def _fits(self) -> Breaker:
        if self.slow_rate is not None and self.slow_call is None:
            raise unfit("`slow_rate` says how many may be slow, but not what slow is", "add `slow_call`")
        if self.max_open_for is not None and self.max_open_for < self.open_for:
            what = f"`max_open_for` is {self.max_open_for}, less than `open_for`"
            raise unfit(what, f"set it to {self.open_for} or more")
        self._can_fail()
        return self

    def _can_fail(self) -> None:
        """One that judges slow calls may know of no failure; one that names failures ignores some of them at most."""
        said = self.failure_on
        if said is None or not set(said) <= set(self.ignore) or (self.slow_call and not said):
            return
        if not said:
            raise unfit("`failure_on` names nothing, so no call ever fails", "name what counts as a failure")
        every = (
            f"`{said[0]}`" if len(said) == 1 else f"all that `failure_on` names: {listing([*map(str, said)])}"
        )
        raise unfit(f"`ignore` names {every}, so no call ever fails", "name it in one of the two")

    @property
    def judges(self) -> bool:
        """Whether it looks at how calls end: it is neither off nor held."""
        return self.mode in ("observe", "enforce")

    @property
    def longest_open(self) -> Duration:
        """For how long it is open at the most, with its default."""
        return self.max_open_for or Duration(_LONGER * self.open_for)

    def failing(self) -> Percent | None:
        """The failure rate that opens it, with its default; None when only other conditions do."""
        others = self.slow_call or self.consecutive_failures
        return self.failure_rate or (None if others else _DEFAULT_RATE)

    def slowing(self) -> Percent | None:
        """The slow-call rate that opens it, with its default; None when no call is slow."""
        return (self.slow_rate or self.failure_rate or _DEFAULT_RATE) if self.slow_call else None

    def guard(self, site: Site, before: Guard | None = None) -> BreakerGuard | None:
        """The state machine that enforces this; a probe's lease is one attempt's timeout, else `open_for`."""
        if self.mode == "off":
            return None
        if isinstance(before, BreakerGuard):
            before.show(site)
            return before
        return BreakerGuard(self, site)

    def signals(self, name: str) -> tuple[Signal, ...]:
        return tuple(
            one.closed(dependency=name) for one in (BREAKER_STATE, BREAKER_TRANSITIONS, BREAKER_CALLS)
        )

    def bounds(self, name: str) -> tuple[tuple[Signal, Decimal], ...]:
        return ((DEPENDENCY_DURATION, self.slow_call.seconds),) if self.slow_call else ()

    def alerts(self, name: str) -> tuple[Alert, ...]:
        return BreakerAlerts(name, self.mode, self.longest_open).all() if self.mode != "closed" else ()


class BreakerGuard:
    """The state machine of one breaker. Thread-safe; no lock is held while a call runs.

    A permit is tied to the state object that gave it: that object is the generation, so whatever comes back
    after the state has changed finds another one and is ignored. A cancelled call returns its permit and
    counts as nothing; a probe whose lease ran out counts as failed until it reports, which corrects that also after it
    has opened the breaker again, up to the next probe: else what is well but slow would never close. Its lease begins
    when it does: while it waits for a place of the bulkhead, it keeps the one it has here. While half open it decides
    as soon as the outcome is settled: open when the share of failed (or slow) probes is reached, closed when it cannot
    be.
    How long it stays open is that of Envoy's outlier ejection: base x 2^(ejections so far), less one for every
    interval of health.
    """

    def __init__(self, settings: Breaker, site: Site) -> None:
        self._name = site.name
        self._clock = site.clock
        self._random = site.random
        self._lock = Lock()
        self._trips = 0
        self.told: Callable[[int, int], object] = _nothing
        """Called with what `Closed` has counted: so many calls, and the ns they took."""
        self.turned: Callable[[Turn], object] = _unheard
        """Called with each change of state, while nobody else can change it: it must not wait for anything."""
        self.show(site)
        self._set(settings, site.timeout)
        now = self._clock.now()
        self.now_state: State = self._held or Closed(now)
        """The state object; a `Closed` one is itself the permit of whoever comes while it is in force."""

    def _set(self, settings: Breaker, timeout: int | None) -> None:
        failing, slowing = settings.failing(), settings.slowing()
        self._enforced = settings.mode in ("enforce", "open")
        self._held = Held(settings.mode) if settings.mode in ("open", "closed") else None
        self._window = int(settings.window)
        self._width = settings.window // BUCKETS  # exact: no duration is finer than a millisecond
        self._min_calls = settings.min_calls
        self.slow_call = int(settings.slow_call) if settings.slow_call is not None else _NEVER
        """A call that takes longer (ns) is slow."""
        self._wrong_parts = _parts(failing)
        self._slow_parts = _parts(slowing)
        self._streak = settings.consecutive_failures
        self._open_for = int(settings.open_for)
        self._longest = int(settings.longest_open)
        self._lease = int(timeout or settings.open_for)
        self._probes = settings.probes
        self._wrong_probes = _share(settings.failure_rate or _DEFAULT_RATE, settings.probes)
        self._slow_probes = _share(slowing, settings.probes) if slowing else _NEVER
        self._advice = self._given if settings.scope == "fleet" and settings.mode == "enforce" else None
        self._failure_on = None if settings.failure_on is None else frozenset(settings.failure_on)
        self._ignored = frozenset(settings.ignore)

    def become(self, settings: Breaker, timeout: int | None) -> None:
        """Judge by these settings from now on: state, window and permits are kept, unless it was or is held."""
        with self._lock:
            now, width, held, state = self._clock.now(), self._width, self._held, self.now_state
            self._set(settings, timeout)
            if (held and held.name) != (self._held and self._held.name):
                self._become(self._held or Closed(now), "the spec's `mode`")
            elif isinstance(state, Closed) and width != self._width:
                self._fold(state)
                state.window.advance(now // width)
                state.window.gather(now // self._width)
                state.until = 0
            elif isinstance(state, HalfOpen):
                self._decide(state, now)

    def enter(self, left: int | None = None) -> object:
        """A permit; raises BreakerOpen with the exact time until a place or a decision is due."""
        state = self.now_state
        if type(state) is Closed:
            return state
        with self._lock:
            return self._enter(self._clock.now())

    async def enter_async(self, left: int | None = None) -> object:
        """As `enter`, which never waits."""
        return self.enter()

    def leave(
        self, permit: object, outcome: Outcome, duration: int, now: int, leaves: Sequence[Leaf] = ()
    ) -> None:
        """Report how the call ended; every permit is returned exactly once."""
        if leaves:
            outcome = self.judged(outcome, leaves)
        failed = outcome is not Outcome.SUCCESS
        slow = duration > self.slow_call
        with self._lock:
            if isinstance(permit, Probe):
                counted = self._report(permit, outcome is Outcome.CANCELLED, failed, slow, now)
            elif isinstance(permit, Closed) and permit is self.now_state and outcome is not Outcome.CANCELLED:
                self._record(permit, failed, slow, now)
                counted = True
            else:
                counted = False
        if counted:
            (self._slow_calls if slow else self._fast_calls).inc()

    def renew(self, permit: object) -> None:
        """A probe that begins, or makes progress, is not lost: its lease starts anew."""
        if type(permit) is Probe:
            with self._lock:
                if permit in permit.state.leases:
                    permit.state.leases[permit] = self._clock.now() + self._lease

    def observed(self, permit: object) -> bool:
        """Whether the breaker would have refused this call."""
        return permit is None and self._held is None

    def refuses(self) -> bool:
        """Whether it is open, and enforced."""
        state = self.now_state
        if type(state) is Open:
            return self._enforced and self._clock.now() < state.until
        return type(state) is Held and self._enforced

    def busy(self) -> bool:
        """Whether somebody is about to change its state."""
        return self._lock.locked()

    @property
    def state(self) -> str:
        """`closed`, `open` or `half_open`; half open begins with the first call after it was open."""
        return name_of(self.now_state)

    def judged(self, outcome: Outcome, leaves: Sequence[Leaf]) -> Outcome:
        """What it takes an attempt for that ended so: by its `failure_on` and `ignore`, if it has any."""
        if outcome is Outcome.CANCELLED or (self._failure_on is None and not self._ignored):
            return outcome
        return worst(self._leaf(*leaf) for leaf in leaves)

    def _leaf(self, outcome: Outcome, words: frozenset[Word]) -> Outcome:
        if outcome is Outcome.CANCELLED or not self._ignored.isdisjoint(words):
            return Outcome.CANCELLED
        if self._failure_on is None:
            return outcome
        return Outcome.SUCCESS if self._failure_on.isdisjoint(words) else Outcome.FAILURE

    def _enter(self, now: int) -> object:
        if isinstance(self.now_state, Open) and now >= self.now_state.until:
            self._become(HalfOpen())
        self._expire(now)
        state = self.now_state
        if isinstance(state, HalfOpen) and state.reported + len(state.leases) < self._probes:
            probe = Probe(state)
            state.leases[probe] = NOT_BEGUN
            return probe
        if isinstance(state, Closed):
            return state
        if not self._enforced:
            return None
        if isinstance(state, Held):
            raise BreakerOpen(self._name, "breaker", "the breaker is held open by its `mode`")
        until = state.until if isinstance(state, Open) else min(now + self._lease, *state.leases.values())
        raise BreakerOpen(self._name, "breaker", f"the breaker is {_WORDS[type(state)]}", until - now)

    def _record(self, closed: Closed, failed: bool, slow: bool, now: int) -> None:
        index = now // self._width
        self._fold(closed)
        if index > closed.window.index:
            closed.window.advance(index)
            if self._advice is not None:
                self._advice.ask_open(self._name, self._advised)
        closed.add(failed, slow)
        closed.until = (closed.window.index + 1) * self._width if closed.well else 0
        if not closed.well and self._too_many(closed):
            self._trips = max(0, self._trips - (now - closed.since) // self._window)
            self._trip(now)

    def _fold(self, closed: Closed) -> None:
        fresh, ns = closed.fold()
        if fresh:
            self._fast_calls.inc(fresh)
            self.told(fresh, ns)

    def _too_many(self, closed: Closed) -> bool:
        if self._streak is not None and closed.streak >= self._streak:
            return True
        calls, wrong, slow = closed.window.totals
        return calls >= self._min_calls and (
            wrong * PARTS >= calls * self._wrong_parts or slow * PARTS >= calls * self._slow_parts
        )

    def _report(self, probe: Probe, cancelled: bool, failed: bool, slow: bool, now: int) -> bool:
        probing, state = probe.state, self.now_state
        if cancelled:
            self._expire(now)
            probing.leases.pop(probe, None)
            return False
        if not probing.find(probe) or probing is not (state.probing if isinstance(state, Open) else state):
            return False
        probing.add(failed, slow)
        if probing is state:
            probing.lose(now)
        self._decide(probing, now)
        return True

    def _expire(self, now: int) -> None:
        state = self.now_state
        if isinstance(state, HalfOpen):
            state.lose(now)
            self._decide(state, now)

    def _decide(self, probing: HalfOpen, now: int) -> None:
        if probing.wrong >= self._wrong_probes or probing.slow >= self._slow_probes:
            if probing is self.now_state:
                self._trip(now, probing)
            return
        left = self._probes - probing.reported
        if probing.wrong + left < self._wrong_probes and probing.slow + left < self._slow_probes:
            self._become(Closed(now))

    def trip(self) -> bool:
        """Open now, as too many failures would; False where `mode` holds it."""
        with self._lock:
            if isinstance(self.now_state, Held):
                return False
            self._trip(self._clock.now())
            return True

    def _trip(self, now: int, probing: HalfOpen | None = None) -> None:
        """Open, twice as long as the time before."""
        span = min(self._longest, self._open_for << self._trips)
        if span < self._longest:
            self._trips += 1
        span += int(span * _SPREAD * (self._random() - 0.5))
        self._become(Open(now + span, probing), span=span)
        if self._advice is not None:
            self._advice.tell_open(self._name, span)

    def _advised(self, span: int) -> None:
        """It is open elsewhere, for so long: here too, if anything is wrong here."""
        with self._lock:
            if isinstance(self.now_state, Closed) and not self.now_state.well:
                self._become(Open(self._clock.now() + span), "it is open in another process", span)

    def _become(self, state: State, reason: str = "", span: int | None = None) -> None:
        before, self.now_state = self.now_state, state
        if isinstance(before, Closed):
            self._fold(before)
            before.until = 0
        self._transitions[name_of(state)].inc()
        tally = tally_of(before)
        _, failures, slow = tally
        if slow > failures:
            reason = reason or f"calls took longer than {Duration(self.slow_call)}"
        self.turned(Turn(name_of(before), name_of(state), *tally, span, self._enforced, reason))

    def show(self, site: Site) -> None:
        """Show the state, and count, through this site's meter; ask and tell through its store."""
        name, meter = self._name, site.meter
        self._given = site.advice
        self._fast_calls = meter.counter(BREAKER_CALLS, dependency=name, speed="fast")
        self._slow_calls = meter.counter(BREAKER_CALLS, dependency=name, speed="slow")
        meter.settles(f"dependencies.{name}.breaker", self._settle)
        self._transitions = {
            to: meter.counter(BREAKER_TRANSITIONS, dependency=name, to=to) for to in BREAKER_STATES
        }
        for state in BREAKER_STATES:
            shown = _ALL_CLOSED if state == "closed" else BREAKER_STATE
            meter.gauge(shown, partial(self._is, state), dependency=name, state=state)

    def _settle(self) -> None:
        with self._lock:
            if isinstance(self.now_state, Closed):
                self._fold(self.now_state)

    def _is(self, state: str) -> float:
        now_state = self.now_state
        due = type(now_state) is Open and self._clock.now() >= now_state.until
        return float(state == ("half_open" if due else name_of(now_state)))


_WORDS: dict[type, str] = {Open: "open", HalfOpen: "half open, and every probe is taken"}
_NEVER = 2**62
_SPREAD = 0.4
"""The time it stays open is spread over +-20%, so that a fleet does not probe all at once."""


def _nothing(fresh: int, ns: int) -> None:
    """Where nobody wants to be told."""


def _unheard(turn: Turn) -> None:
    """Nor of this."""


def _parts(rate: Percent | None) -> int:
    """The rate in parts of `PARTS`; without a rate more than any share can reach."""
    return rate.parts if rate else _NEVER


def _share(rate: Percent, of: int) -> int:
    """The smallest number that is at least this share."""
    return -(-rate.parts * of // PARTS)
