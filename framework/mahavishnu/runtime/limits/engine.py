"""The limits of a spec at work: which of them a request meets, and one decision over all of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from weakref import WeakMethod

from mahavishnu.contract import Contract
from mahavishnu.policies.body import Body
from mahavishnu.policies.timeout import Timeout
from mahavishnu.policy import Limit, Match
from mahavishnu.protocols import (
    BEFORE,
    Clock,
    Counter,
    Decision,
    Gate,
    Gated,
    Histogram,
    Meter,
    Metered,
    Store,
    Taken,
)
from mahavishnu.runtime import budget
from mahavishnu.runtime.context import Request
from mahavishnu.runtime.keys import Caller, Key, key_of
from mahavishnu.runtime.limits.fast_path import FastPath
from mahavishnu.runtime.limits.fields import NOTHING_TOLD, REDUCED_CAPACITY, RateLimitFields
from mahavishnu.runtime.limits.margin import Margin
from mahavishnu.runtime.limits.memory_store import MemoryStore
from mahavishnu.runtime.limits.offenders import Refusals
from mahavishnu.runtime.limits.rates import Cells, RateLimit, longest
from mahavishnu.series import LIMIT_DECISIONS, LIMIT_NEAR, LIMIT_QUOTA, LIMIT_UTILISATION

_TOOLS = 1000  # that a program may call by name
_WITHOUT_BODY = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True, slots=True)
class GateLimit:
    """A concurrency limit as the engine applies it to one route."""

    name: str
    gate: Gate
    rank: int
    cells: Cells


@dataclass(frozen=True, slots=True)
class SizeLimit:
    """A limit of bodies as the engine applies it: `margin.whole` bytes; `timed`: it matters how slowly they come."""

    name: str
    limit: Body
    kept: Counter
    margin: Margin
    timed: bool


@dataclass(frozen=True, slots=True)
class TimeLimit:
    """A time limit as the engine applies it; `inherit` reads from a request's headers how long its caller waits."""

    name: str
    limit: Timeout
    kept: Counter
    margin: Margin
    inherit: budget.Read | None = None

    @property
    def plain(self) -> bool:
        """Whether it always gives the same time, and only to the start of the response."""
        return self.limit.mode == "enforce" and self.limit.idle is None and self.inherit is None


@dataclass(frozen=True, slots=True)
class Plan:
    """The limits that one route and method meet, what their RateLimit fields say, and their cells of the series.

    `keys` name the buckets of the rates, `allowed` count what they let in; `fast` decides them where nothing is
    special, for requests that nothing else can refuse before the handler runs. `plain`: whether they are held to no
    more than a plain time; `later`: whether one of the rates is kept where the answer comes later; `uploads`: whether
    their time may be spent by a client who sends a body.
    """

    key: tuple[str, str] = ("", "")
    rates: tuple[RateLimit, ...] = ()
    keys: tuple[Key, ...] = ()
    allowed: tuple[Counter, ...] = ()
    gates: tuple[GateLimit, ...] = ()
    body: SizeLimit | None = None
    timeout: TimeLimit | None = None
    told: RateLimitFields = NOTHING_TOLD
    fast: FastPath | None = None
    plain: bool = False
    later: bool = False
    uploads: bool = False
    cells: dict[int, Histogram] = field(default_factory=dict[int, Histogram])

    def has_room(self) -> bool:
        """Whether each of the gates has a free place now."""
        for one in self.gates:  # noqa: SIM110 - a generator would cost as much again
            if not one.gate.has_room(one.rank):
                return False
        return True


class Admission(Request):
    """What a request holds while it runs; `refused` is set when it was not let in, `denied` when a call in it was not.

    `taken` is what it was charged, or `left` what it is told of that, where nothing can be given back any more.
    `entered` is when it came past the gates: before that it waited, and the work is not to blame.
    """

    __slots__ = ("denied", "entered", "gates", "left", "plan", "refused", "taken")

    def __init__(self, request_id: str, caller: Caller, plan: Plan, began: int) -> None:
        super().__init__(request_id, caller)
        self.plan = plan
        self.entered = began
        self.refused: Decision | None = None
        self.denied: Decision | None = None
        self.taken: Taken | None = None
        self.left: tuple[int, ...] | None = None
        self.gates: list[Gate] | None = None

    @property
    def route(self) -> str:  # type: ignore[override]  # told by its plan, where another request holds it
        """The template of its route."""
        return self.plan.key[0]


class Engine:
    """All limits of a contract in one process; one instance serves every request.


    The engine of a new contract takes over the gates and states of the one `before` it.
    """

    def __init__(
        self,
        contract: Contract,
        clock: Clock,
        meter: Meter,
        store: Store,
        refusals: Refusals | None = None,
        before: Engine | None = None,
    ) -> None:
        self.contract = contract
        self.refusals = refusals or Refusals(clock)
        self.clock = clock
        self.store = store
        self.plans: dict[tuple[str, str], Plan] = {}
        """Those that have been asked for, by route template and method."""
        self._tools: dict[tuple[str, str], Plan] = {}
        limits = {name: limit for name, limit in contract.spec.limits.items() if limit.mode != "off"}
        self._cells = {name: _cells(meter, name) for name in limits}
        self._limits = limits
        self.rates = [
            RateLimit.of(name, limit, limit, self._cells[name])
            for name, limit in limits.items()
            if isinstance(limit, Metered)
        ]
        self.rates_before: tuple[tuple[int, RateLimit], ...] = ()
        """Rates set aside by a reload, and until when each still holds (ns)."""
        self.succeeded = False
        """Whether another engine has taken over, and only requests that began before are this one's."""
        gates: Mapping[str, Gate] = before.gates if before else {}
        self.gates: dict[str, Gate] = {
            name: limit.gate(name, clock, meter, gates.get(name))
            for name, limit in limits.items()
            if isinstance(limit, Gated)
        }
        for name, limit in limits.items():
            if name not in self.gates:  # a gate shows its own, which may move
                meter.gauge(LIMIT_QUOTA, limit.number, limit=name)
        self._margins = {one.name: one.margin for one in self.rates}
        self._margins |= {
            name: Margin(
                int(limit.body if isinstance(limit, Body) else limit.timeout), self._cells[name].near
            )
            for name, limit in limits.items()
            if isinstance(limit, Body | Timeout)
        }
        for name, margin in self._margins.items():
            meter.gauge(LIMIT_UTILISATION, partial(_used, margin, clock), limit=name)

    def take_over(self, before: Engine) -> None:
        """Go on from where the engine before stands now: nobody is given back what he has used under that one."""
        before.succeeded = True
        for name, gate in before.gates.items():
            here = self.gates.get(name) is gate
            gate.become(self._limits[name] if here else _off(before.contract.spec.limits[name]))
        now, held = self.clock.now(), {one.name: one for one in before.rates}
        names = {one.name for one in self.rates}
        aside = dict[str, tuple[int, RateLimit]]()
        for until, one in before.rates_before:
            if until > now and one.name.rstrip(BEFORE) in names:
                aside[one.name] = until, one
            else:
                self.store.forget(one.name)
        for rate in self.rates:
            old = held.get(rate.name)
            if old is not None and not self._alike(old, rate):
                self._set_aside(old, aside, now)
                self._resume(rate, aside)
            self.store.carry(rate)
        self.rates_before = tuple(aside.values())
        self._await_refill()

    def _alike(self, old: RateLimit, new: RateLimit) -> bool:
        """Whether a rate can go on from what was used of another: the same keys, in the same store.

        What is used in this process and what all use are kept in two places.
        """
        return old.per == new.per and not (self.store.waits and old.shared != new.shared)

    def _set_aside(self, rate: RateLimit, aside: dict[str, tuple[int, RateLimit]], now: int) -> None:
        """What was used under other keys cannot be told of these: until it is refilled, both rates hold."""
        name = rate.name + BEFORE
        while name in aside:
            name += BEFORE
        if not rate.enforced:
            self.store.forget(rate.name)
            return
        self.store.rename(rate.name, name)
        aside[name] = now + rate.algorithm.horizon, rate.set_aside(name)

    def _resume(self, rate: RateLimit, aside: dict[str, tuple[int, RateLimit]]) -> None:
        """One that counts by the same keys again goes on where it was."""
        for name, (_, one) in list(aside.items()):
            if name.rstrip(BEFORE) == rate.name and self._alike(one, rate):
                self.store.rename(name, rate.name)
                del aside[name]

    def _await_refill(self) -> None:
        """Set a timer for the rate set aside that ends first; without an event loop it holds until the next reload."""
        if self.rates_before:
            first = min(until for until, _ in self.rates_before)
            with suppress(RuntimeError):
                self.clock.call_later(first - self.clock.now(), _unless_gone(self._refilled))

    def _refilled(self) -> None:
        now = self.clock.now()
        for until, one in self.rates_before:
            if until <= now and not self.succeeded:  # else the name may be another rate's by now
                self.store.forget(one.name)
        self.rates_before = tuple(held for held in self.rates_before if held[0] > now)
        self.plans.clear()
        self._tools.clear()
        self._await_refill()

    def _every(self) -> tuple[RateLimit, ...]:
        """The rates, and those that hold on for a while beside one that refuses."""
        refusing = {one.name for one in self.rates if one.enforced}
        return (*self.rates, *(one for _, one in self.rates_before if one.name.rstrip(BEFORE) in refusing))

    def plan(self, route: str, method: str) -> Plan:
        """The limits of a route template and a method; both must be bounded sets, for the answer is kept."""
        key = (route, method)
        plan = self.plans.get(key)
        if plan is None:
            plan = self.plans[key] = self._planned(route, method)
        return plan

    def tool_plan(self, tool: str, route: str = "") -> Plan:
        """The rates that calls of a tool meet, from a request on this route; no request meets them."""
        plan = self._tools.get((tool, route))
        if plan is None:
            if len(self._tools) >= _TOOLS:
                self._tools.clear()
            rates = tuple(one for one in self._every() if one.match is not None and one.match.calls(tool))
            counted, told = _counted(rates, route, tool), _told(rates)
            plan = Plan(("", ""), rates, *counted, told=told, later=self._later(rates))
            self._tools[tool, route] = plan
        return plan

    async def admit(self, admission: Admission) -> None:
        """Decide all rates at once, then enter the gates; what a refused request had consumed is returned.

        What the request holds is written into `admission` step by step, so that it can always be released.
        """
        plan = admission.plan
        if plan.rates and (waiting := self.charge(admission)):
            await waiting
        if admission.taken is not None:
            plan.told.numbers(admission.taken)  # said to nobody, but what is left is noted
        if plan.gates and not self.try_enter(admission):
            await self.enter(admission)

    def charge(self, admission: Admission) -> Awaitable[None] | None:
        """Decide all rates of its plan: at once, or once what is returned has been awaited."""
        plan = admission.plan
        # What waits for a place may be refused after all: it is decided in the way from which there is one back.
        fast = plan.fast if not plan.gates or plan.has_room() else None
        return None if fast is not None and fast.charge(admission) else self.decide(admission)

    def decide(self, admission: Admission) -> Awaitable[None] | None:
        """As `charge`, where the case is not the usual one."""
        plan, caller = admission.plan, admission.caller
        if plan.later:
            return self.charged(admission)
        taken = self.store.memory.take(plan.rates, [read(caller) + suffix for read, suffix in plan.keys])
        self._taken(admission, taken)
        return None

    async def charged(self, admission: Admission) -> None:
        """Decide all rates of its plan in a store that answers later."""
        plan, caller = admission.plan, admission.caller
        asked: Any = self.store.take(plan.rates, [read(caller) + suffix for read, suffix in plan.keys])
        self._taken(admission, await asked)

    def _taken(self, admission: Admission, taken: Any) -> None:
        admission.taken = taken
        if taken.denied:
            self._denied(admission, taken)
        else:
            for cell in admission.plan.allowed:
                cell.value += 1

    def try_enter(self, admission: Admission) -> bool:
        """Enter all gates that have a free place right now; False: one has not, and `enter` must follow."""
        if admission.refused is not None:
            return True
        inside: list[Gate] = []
        admission.gates = inside
        for one in admission.plan.gates:
            if not one.gate.try_enter(one.rank):
                return False
            one.cells.allowed.inc()
            inside.append(one.gate)
        return True

    async def enter(self, admission: Admission) -> None:
        """Enter the gates that `try_enter` has not, waiting for a place where that is allowed."""
        inside: list[Gate] = [] if admission.gates is None else admission.gates
        admission.gates = inside
        for one in admission.plan.gates[len(inside) :]:
            refusal = await one.gate.enter(one.rank)
            if refusal is not None and not refusal.inside:  # whatever it said when this request began
                one.cells.refused.inc()
                self.refusals.saw(one.name, admission.caller.client)
                detail = f"limit `{one.name}` {refusal.reason}"
                admission.refused = Decision(
                    False, one.name, 503, REDUCED_CAPACITY, detail, refusal.retry_after
                )
                self.release(admission, None)
                await self.give_back(admission)
                return
            (one.cells.allowed if refusal is None else one.cells.observed).inc()
            if refusal is None:
                one.cells.near.inc()
            inside.append(one.gate)
        admission.entered = self.clock.now()

    def release(self, admission: Admission, took: int | None, *, answered: bool = True) -> None:
        """Leave the gates, once the request has ended, with what `Gate.leave` is told."""
        gates, admission.gates = admission.gates, None
        for gate in gates or ():
            gate.leave(took, admission.plan.key, answered=answered)

    def lasting(self, admission: Admission, took: int | None) -> None:
        """Its answer has begun, and goes on for as long as its client likes: leave the gates that count work alone."""
        key, gates = admission.plan.key, admission.gates or ()
        admission.gates = [one for one in gates if not one.lasting(took, key)]

    async def give_back(self, admission: Admission) -> None:
        """Return what the request consumed of its rates: it was refused after all."""
        if admission.taken is not None:
            waiting = self.store.give_back(admission.taken)
            if waiting is not None:
                await waiting

    def lagging(self, by: int) -> None:
        """The event loop is late by so many ns."""
        for gate in self.gates.values():
            gate.lagging(by)

    def too_large(self, of: SizeLimit) -> Decision | None:
        """The refusal of a body that is larger than the limit; None when the limit only observes."""
        detail = f"limit `{of.name}` accepts bodies of at most {of.limit.body}"
        return self._judged(of.name, of.limit, Decision(False, of.name, 413, detail=detail))

    def dripping(self, of: SizeLimit) -> Decision | None:
        """The refusal of a body that comes too slowly; None when the limit only observes."""
        detail = f"limit `{of.name}` refuses bodies {of.limit.beyond()}"
        return self._judged(of.name, of.limit, Decision(False, of.name, 408, detail=detail))

    def given_up(self, name: str) -> Decision:
        """The answer to a request whose caller waits no longer: he may have said so for his own reasons.

        It has kept the limit, and is counted as one whose client has gone.
        """
        self._cells[name].allowed.inc()
        detail = "the time that came with the request is over"
        return Decision(False, name, 504, detail=detail, counted=499)

    def too_slow(self, name: str, limit: Timeout) -> Decision | None:
        """The refusal of a request whose response did not start in time; None when the limit observes."""
        detail = f"limit `{name}` gives a response {limit.timeout} to start"
        return self._judged(name, limit, Decision(False, name, 504, REDUCED_CAPACITY, detail))

    def sent_too_slowly(self, name: str, limit: Timeout) -> Decision:
        """The refusal of a request for whose body its app still waits then.

        It is its client who is slow, so the limit is kept: nothing is wrong with the service.
        """
        self._cells[name].allowed.inc()
        detail = f"limit `{name}` gives a response {limit.timeout} to start; the request's body was not here by then"
        return Decision(False, name, 408, detail=detail)

    def _judged(self, name: str, limit: Limit, refusal: Decision) -> Decision | None:
        cells = self._cells[name]
        self._margins[name].exceeded()
        if limit.mode == "observe":
            cells.observed.inc()
            return None
        cells.refused.inc()
        return refusal

    def _denied(self, admission: Admission, taken: Taken) -> None:
        plan = admission.plan
        for place in taken.denied:
            rate = plan.rates[place]
            rate.denied()
            self.refusals.saw(rate.name.rstrip(BEFORE), admission.caller.client)
        if taken.admitted:
            for place, rate in enumerate(plan.rates):
                if place not in taken.denied:
                    rate.cells.allowed.inc()
            return
        said = [
            plan.rates[place].refusal(taken.standing(place)[2], lost=taken.lost)
            for place in taken.denied
            if plan.rates[place].enforced
        ]
        admission.refused = longest(said)

    def _planned(self, route: str, method: str) -> Plan:
        bodies = {name: one for name, one in self._limits.items() if isinstance(one, Body)}
        timeouts = {name: one for name, one in self._limits.items() if isinstance(one, Timeout)}
        rates = tuple(one for one in self._every() if applies(one.match, route, method))
        late, body = _most_specific(timeouts, route, method), _most_specific(bodies, route, method)
        timeout = None if late is None else self._time_limit(*late)
        # Whoever waits for one of a few places holds none of those that all need.
        gates = tuple(
            self._gate(name, route, method)
            for name in sorted(self.gates, key=self._narrow, reverse=True)
            if self._applies(name, route, method)
        )
        keys, allowed = _counted(rates, route)
        later = self._later(rates)
        store = self.store if later else self.store.memory
        alone = all(not one.name.endswith(BEFORE) for one in rates)
        return Plan(
            (route, method),
            rates,
            keys,
            allowed,
            gates,
            None if body is None else self._size_limit(*body),
            timeout,
            _told(rates),
            FastPath(store, rates, keys, self.refusals)
            if alone and rates and isinstance(store, MemoryStore) and FastPath.fits(rates)
            else None,
            timeout is None or timeout.plain,
            later,
            timeout is not None and method not in _WITHOUT_BODY,
        )

    def _later(self, rates: Iterable[RateLimit]) -> bool:
        """Whether one of these is kept where the answer comes later."""
        return self.store.waits and any(one.shared for one in rates)

    def _size_limit(self, name: str, limit: Body) -> SizeLimit:
        return SizeLimit(name, limit, self._cells[name].allowed, self._margins[name], limit.timed)

    def _time_limit(self, name: str, limit: Timeout) -> TimeLimit:
        inherit = budget.reader(limit.inherit) if limit.inherit else None
        return TimeLimit(name, limit, self._cells[name].allowed, self._margins[name], inherit)

    def _applies(self, name: str, route: str, method: str) -> bool:
        return applies(self._limits[name].match, route, method)

    def _narrow(self, name: str) -> tuple[int, ...]:
        """Orders gates by how few requests they are for; an adaptive one learns only from who gets past the others."""
        limit = self._limits[name]
        return (*_specific((name, limit)), not getattr(limit, "adaptive", False))

    def _gate(self, name: str, route: str, method: str) -> GateLimit:
        limit: Any = self._limits[name]
        return GateLimit(name, self.gates[name], limit.rank(route, method), self._cells[name])


def _unless_gone(method: Callable[[], None]) -> Callable[[], None]:
    """The same for a timer, which keeps nobody: a day may see many specs, and each would be held for a day."""
    held = WeakMethod(method)

    def call() -> None:
        method = held()
        if method is not None:
            method()

    return call


def _off(limit: Limit) -> Limit:
    """What becomes of a limit that the next spec has not."""
    return limit.model_copy(update={"mode": "off"})


def _told(rates: Iterable[RateLimit]) -> RateLimitFields:
    """What clients are told of these; nobody sees those that only hold on."""
    return RateLimitFields([one for one in rates if not one.name.endswith(BEFORE)])


def _counted(
    rates: Iterable[RateLimit], route: str, tool: str = ""
) -> tuple[tuple[Key, ...], tuple[Counter, ...]]:
    """The keys of these rates' buckets, and the cells of what they let in."""
    return tuple(key_of(one.per, route, tool) for one in rates), tuple(one.cells.allowed for one in rates)


def applies(match: Match | None, route: str, method: str) -> bool:
    """Whether a policy with this match concerns requests for this route and method."""
    return match is None or match.meets(route, method)


def _most_specific(limits: Mapping[str, Any], route: str, method: str) -> tuple[str, Any] | None:
    """The one of its kind that a request meets: of several, the one that names it most exactly."""
    fitting = ((name, one) for name, one in limits.items() if applies(one.match, route, method))
    return max(fitting, key=_specific, default=None)


def _specific(named: tuple[str, Limit]) -> tuple[int, ...]:
    """Orders limits by how exactly they name their requests: route, exact route, longer route, method."""
    match = named[1].match or Match()
    return (
        match.path is not None,
        "*" not in (match.path or "*"),
        len(match.path or ""),
        match.method is not None,
    )


def _cells(meter: Meter, name: str) -> Cells:
    outcomes = ("allowed", "refused", "observed")
    allowed, refused, observed = (meter.counter(LIMIT_DECISIONS, limit=name, outcome=one) for one in outcomes)
    return Cells(allowed, refused, observed, meter.counter(LIMIT_NEAR, limit=name))


def _used(margin: Margin, clock: Clock) -> float:
    return margin.used(clock.now())
