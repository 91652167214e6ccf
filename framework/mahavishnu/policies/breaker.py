"""Stop calling what fails: a breaker over a time window, with failure and slow rates and leased probes."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from functools import partial
from threading import Lock
from typing import Annotated, ClassVar

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from mahavishnu.errors import BreakerOpen
from mahavishnu.policy import Clock, Count, Guard, Meter, Mode, Outcome, Policy, camel
from mahavishnu.series import BREAKER_CALLS
from mahavishnu.signals import Across, Alert, Feed, Kind, Label, Severity, Signal
from mahavishnu.units import Duration, Percent

_STATES = ("closed", "open", "half_open")
_DEFAULT_RATE = Percent(Decimal("0.5"))
_BUCKETS = 20
# A percentage has at most six decimals: in parts of 10^8 it is a whole number, and comparisons are exact.
_PARTS = 10**8

BREAKER_STATE = Signal(
    "mahavishnu_breaker_state",
    Kind.GAUGE,
    "1 for the state each breaker is in, 0 for the others.",
    (Label("dependency"), Label("state", _STATES)),
    across=Across.MAX,
)
_ALL_CLOSED = replace(
    BREAKER_STATE, across=Across.MIN
)  # of several workers: only where the breaker of each is
BREAKER_TRANSITIONS = Signal(
    "mahavishnu_breaker_transitions_total",
    Kind.COUNTER,
    "How often each breaker went to each state.",
    (Label("dependency"), Label("to", _STATES)),
)


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
    """How long it stays open before the first probe."""
    probes: Annotated[int, Field(strict=True, ge=1, le=100)] = 3
    """How many calls are let through at once to see whether the dependency is well again."""
    mode: Mode = "enforce"
    """`observe` judges and shows its state but refuses nothing, `off` does nothing."""

    @model_validator(mode="after")
    def _fits(self) -> Breaker:
        if self.slow_rate is not None and self.slow_call is None:
            what = {
                "what": "`slow_rate` says how many may be slow, but not what slow is",
                "help": "add `slow_call`",
            }
            raise PydanticCustomError("policy", "{what}", what)
        return self

    def failing(self) -> Percent | None:
        """The failure rate that opens it, with its default; None when only other conditions do."""
        others = self.slow_call or self.consecutive_failures
        return self.failure_rate or (None if others else _DEFAULT_RATE)

    def slowing(self) -> Percent | None:
        """The slow-call rate that opens it, with its default; None when no call is slow."""
        return (self.slow_rate or self.failure_rate or _DEFAULT_RATE) if self.slow_call else None

    def guard(
        self, name: str, clock: Clock, meter: Meter, timeout: int | None, before: Guard | None = None
    ) -> BreakerGuard | None:
        """The state machine that enforces this; a probe's lease is one attempt's timeout, else `open_for`."""
        if self.mode == "off":
            return None
        if isinstance(before, BreakerGuard):
            before.show(meter)
            return before
        return BreakerGuard(self, name, clock, meter, timeout)

    def signals(self, name: str) -> tuple[Signal, ...]:
        if self.mode == "off":
            return ()
        return tuple(
            one.closed(dependency=name) for one in (BREAKER_STATE, BREAKER_TRANSITIONS, BREAKER_CALLS)
        )

    def alerts(self, name: str) -> tuple[Alert, ...]:
        if self.mode == "off":
            return ()
        closed = BREAKER_STATE.closed(dependency=name).select(dependency=name, state="closed")
        refusing = (
            "Calls to it are refused at once" if self.mode == "enforce" else "Nothing is refused (observe)"
        )
        return (
            Alert(
                name=f"Dependency{camel(name)}BreakerOpen",
                severity=Severity.P2,
                expr=closed.equals(0),
                hold=Duration.parse("1m"),
                summary=f"The breaker of dependency {name} has not been closed for a minute.",
                meaning=f"Too many calls to {name} failed or were slow, and its probes did no better since.",
                impact=f"{refusing}; what needs {name} does not work.",
                action=f"Look at {name} itself. The breaker closes by itself once its probes succeed.",
                path=("dependencies", name, "breaker"),
                proof=(Feed(closed, healthy=1, faulty=0),),
            ),
        )


class _Closed:
    """Calls pass and are counted in a ring of buckets with running totals: O(1) per record and verdict."""

    __slots__ = ("fails", "index", "slot", "slow", "slows", "streak", "total", "totals", "wrong")

    def __init__(self) -> None:
        self.totals = [0] * _BUCKETS
        self.fails = [0] * _BUCKETS
        self.slows = [0] * _BUCKETS
        self.total = self.wrong = self.slow = self.streak = 0
        self.index = self.slot = 0

    def advance(self, index: int) -> None:
        """Forget the buckets that left the window."""
        for step in range(1, min(index - self.index, _BUCKETS) + 1):
            slot = (self.index + step) % _BUCKETS
            self.total -= self.totals[slot]
            self.wrong -= self.fails[slot]
            self.slow -= self.slows[slot]
            self.totals[slot] = self.fails[slot] = self.slows[slot] = 0
        self.index = index
        self.slot = index % _BUCKETS

    def gather(self, index: int) -> None:
        """Count what is in the window in its newest bucket, whose number is now this one."""
        self.totals, self.fails, self.slows = [0] * _BUCKETS, [0] * _BUCKETS, [0] * _BUCKETS
        self.index, self.slot = index, index % _BUCKETS
        self.totals[self.slot], self.fails[self.slot], self.slows[self.slot] = (
            self.total,
            self.wrong,
            self.slow,
        )

    def add(self, failed: bool, slow: bool) -> None:
        slot = self.slot
        self.totals[slot] += 1
        self.total += 1
        if failed:
            self.fails[slot] += 1
            self.wrong += 1
            self.streak += 1
        else:
            self.streak = 0
        if slow:
            self.slows[slot] += 1
            self.slow += 1


class _Open:
    """Nothing passes before `until`."""

    __slots__ = ("until",)

    def __init__(self, until: int) -> None:
        self.until = until


class _HalfOpen:
    """A few leased probes pass; what they report decides."""

    __slots__ = ("leases", "reported", "slow", "wrong")

    def __init__(self) -> None:
        self.leases: dict[_Probe, int] = {}
        self.reported = self.wrong = self.slow = 0

    def add(self, failed: bool, slow: bool) -> None:
        self.reported += 1
        self.wrong += failed
        self.slow += slow


class _Probe:
    """The permit of one call while half open."""

    __slots__ = ("state",)

    def __init__(self, state: _HalfOpen) -> None:
        self.state = state


class BreakerGuard:
    """The state machine of one breaker. Thread-safe; no lock is held while a call runs.

    A permit is tied to the state object that gave it: that object is the generation, so whatever comes back
    after the state has changed finds another one and is ignored. A cancelled call returns its permit and
    counts as nothing; a probe whose lease ran out counts as failed. While half open it decides as soon as the
    outcome is settled: open when the share of failed (or slow) probes is reached, closed when it cannot be.
    """

    def __init__(self, settings: Breaker, name: str, clock: Clock, meter: Meter, timeout: int | None) -> None:
        self._name = name
        self._clock = clock
        self._lock = Lock()
        self._set(settings, timeout)
        self._state: _Closed | _Open | _HalfOpen = _Closed()
        self.show(meter)

    def _set(self, settings: Breaker, timeout: int | None) -> None:
        failing, slowing = settings.failing(), settings.slowing()
        self._enforced = settings.mode == "enforce"
        self._width = settings.window // _BUCKETS  # exact: no duration is finer than a millisecond
        self._min_calls = settings.min_calls
        self._slow_call = settings.slow_call
        self._wrong_parts = _parts(failing)
        self._slow_parts = _parts(slowing)
        self._streak = settings.consecutive_failures
        self._open_for = int(settings.open_for)
        self._lease = int(timeout or settings.open_for)
        self._probes = settings.probes
        self._wrong_probes = _share(settings.failure_rate or _DEFAULT_RATE, settings.probes)
        self._slow_probes = _share(slowing, settings.probes) if slowing else settings.probes + 1

    def become(self, settings: Breaker, timeout: int | None) -> None:
        """Judge by these settings from now on: state, window and permits are kept."""
        with self._lock:
            now, width, state = self._clock.now(), self._width, self._state
            self._set(settings, timeout)
            if isinstance(state, _Closed) and width != self._width:
                state.advance(now // width)
                state.gather(now // self._width)
            elif isinstance(state, _HalfOpen):
                self._decide(state, now)

    def enter(self) -> object:
        """A permit; raises BreakerOpen with the exact time until a place or a decision is due."""
        state = self._state
        if type(state) is _Closed:
            return state
        with self._lock:
            return self._enter(self._clock.now())

    async def enter_async(self) -> object:
        """As `enter`, which never waits."""
        return self.enter()

    def leave(self, permit: object, outcome: Outcome, duration: int, now: int) -> None:
        """Report how the call ended; every permit is returned exactly once."""
        failed = outcome is not Outcome.SUCCESS
        slow = self._slow_call is not None and duration > self._slow_call
        with self._lock:
            if isinstance(permit, _Probe):
                counted = self._report(permit, outcome is Outcome.CANCELLED, failed, slow, now)
            elif isinstance(permit, _Closed) and permit is self._state and outcome is not Outcome.CANCELLED:
                self._record(permit, failed, slow, now)
                counted = True
            else:
                counted = False
        if counted:
            (self._slow_calls if slow else self._fast_calls).inc()

    def renew(self, permit: object) -> None:
        """A probe that makes progress is not lost: its lease starts anew."""
        if type(permit) is _Probe:
            with self._lock:
                if permit in permit.state.leases:
                    permit.state.leases[permit] = self._clock.now() + self._lease

    def refuses(self) -> bool:
        """Whether it is open, and enforced."""
        state = self._state
        return type(state) is _Open and self._enforced and self._clock.now() < state.until

    @property
    def state(self) -> str:
        """`closed`, `open` or `half_open`; half open begins with the first call after `open_for`."""
        return _NAMES[type(self._state)]

    def _enter(self, now: int) -> object:
        if isinstance(self._state, _Open) and now >= self._state.until:
            self._become(_HalfOpen())
        self._expire(now)
        state = self._state
        if isinstance(state, _HalfOpen) and state.reported + len(state.leases) < self._probes:
            probe = _Probe(state)
            state.leases[probe] = now + self._lease
            return probe
        if isinstance(state, _Closed):
            return state
        if not self._enforced:
            return None
        until = state.until if isinstance(state, _Open) else min(state.leases.values())
        raise BreakerOpen(self._name, "breaker", f"the breaker is {_WORDS[type(state)]}", until - now)

    def _record(self, closed: _Closed, failed: bool, slow: bool, now: int) -> None:
        index = now // self._width
        if index > closed.index:
            closed.advance(index)
        closed.add(failed, slow)
        if self._too_many(closed):
            self._become(_Open(now + self._open_for))

    def _too_many(self, closed: _Closed) -> bool:
        if self._streak is not None and closed.streak >= self._streak:
            return True
        total = closed.total
        return total >= self._min_calls and (
            closed.wrong * _PARTS >= total * self._wrong_parts
            or closed.slow * _PARTS >= total * self._slow_parts
        )

    def _report(self, probe: _Probe, cancelled: bool, failed: bool, slow: bool, now: int) -> bool:
        self._expire(now)
        state = probe.state
        if state.leases.pop(probe, None) is None or state is not self._state or cancelled:
            return False
        state.add(failed, slow)
        self._decide(state, now)
        return True

    def _expire(self, now: int) -> None:
        state = self._state
        if isinstance(state, _HalfOpen):
            for probe in [probe for probe, until in state.leases.items() if until <= now]:
                del state.leases[probe]
                state.add(failed=True, slow=False)
            self._decide(state, now)

    def _decide(self, state: _HalfOpen, now: int) -> None:
        if state.wrong >= self._wrong_probes or state.slow >= self._slow_probes:
            self._become(_Open(now + self._open_for))
            return
        left = self._probes - state.reported
        if state.wrong + left < self._wrong_probes and state.slow + left < self._slow_probes:
            self._become(_Closed())

    def _become(self, state: _Closed | _Open | _HalfOpen) -> None:
        self._state = state
        self._transitions[_NAMES[type(state)]].inc()

    def show(self, meter: Meter) -> None:
        """Show the state, and count, through this meter."""
        name = self._name
        self._fast_calls = meter.counter(BREAKER_CALLS, dependency=name, speed="fast")
        self._slow_calls = meter.counter(BREAKER_CALLS, dependency=name, speed="slow")
        self._transitions = {to: meter.counter(BREAKER_TRANSITIONS, dependency=name, to=to) for to in _STATES}
        for state in _STATES:
            shown = _ALL_CLOSED if state == "closed" else BREAKER_STATE
            meter.gauge(shown, partial(self._is, state), dependency=name, state=state)

    def _is(self, state: str) -> float:
        return float(self.state == state)


_NAMES: dict[type, str] = {_Closed: "closed", _Open: "open", _HalfOpen: "half_open"}
_WORDS: dict[type, str] = {_Open: "open", _HalfOpen: "half open, and every probe is taken"}


def _parts(rate: Percent | None) -> int:
    """The rate in parts of `_PARTS`; without a rate more than any share can reach."""
    return int(rate.ratio * _PARTS) if rate else _PARTS + 1


def _share(rate: Percent, of: int) -> int:
    """The smallest number that is at least this share."""
    return -(-int(rate.ratio * _PARTS) * of // _PARTS)
