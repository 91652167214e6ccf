"""The limits of a spec at work: which of them a request meets, and one decision over all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mahavishnu.contract import Contract
from mahavishnu.policies.body import Body
from mahavishnu.policies.timeout import Timeout
from mahavishnu.policy import (
    Claim,
    Clock,
    Counter,
    Decision,
    Gate,
    Gated,
    Limit,
    Match,
    Meter,
    Metered,
    Store,
    Taken,
)
from mahavishnu.runtime.fields import REDUCED_CAPACITY
from mahavishnu.runtime.rates import Caller, RateLimit
from mahavishnu.series import LIMIT_DECISIONS, LIMIT_QUOTA


@dataclass(frozen=True, slots=True)
class Cells:
    """The three counters of one limit."""

    allowed: Counter
    refused: Counter
    observed: Counter


@dataclass(frozen=True, slots=True)
class GateLimit:
    """A concurrency limit as the engine applies it."""

    name: str
    match: Match | None
    gate: Gate
    enforced: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """The limits that one route and method meet."""

    rates: tuple[RateLimit, ...] = ()
    gates: tuple[GateLimit, ...] = ()
    body: tuple[str, Body] | None = None
    timeout: tuple[str, Timeout] | None = None


@dataclass(slots=True)
class Admission:
    """What a request holds while it runs; `refused` is set when it was not let in."""

    decisions: Sequence[Decision] = ()
    refused: Decision | None = None
    claims: Sequence[Claim] = ()
    taken: Taken | None = None
    gates: tuple[Gate, ...] = ()
    running: bool = False


class Engine:
    """All limits of a contract in one process; one instance serves every request."""

    def __init__(self, contract: Contract, clock: Clock, meter: Meter, store: Store) -> None:
        self.contract = contract
        self.clock = clock
        self.store = store
        self._plans: dict[tuple[str, str], Plan] = {}
        limits = {name: limit for name, limit in contract.spec.limits.items() if limit.mode != "off"}
        self._cells = {name: _cells(meter, name) for name in limits}
        self._limits = limits
        self._rates = [
            RateLimit.of(name, limit, limit) for name, limit in limits.items() if isinstance(limit, Metered)
        ]
        self._gates = _gates(limits, clock, meter)
        for name, limit in limits.items():
            meter.gauge(LIMIT_QUOTA, limit.number, limit=name)

    def plan(self, route: str, method: str) -> Plan:
        """The limits of a route template and a method; both must be bounded sets, for the answer is kept."""
        key = (route, method)
        if key not in self._plans:
            self._plans[key] = self._planned(route, method)
        return self._plans[key]

    async def admit(self, plan: Plan, caller: Caller, admission: Admission) -> None:
        """Decide all rates at once, then enter the gates; what a refused request had consumed is returned.

        What the request holds is written into `admission` step by step, so that it can always be released.
        """
        if plan.rates:
            await self._take(plan, caller, admission)
        if admission.refused is None and plan.gates:
            await self._enter(plan, admission)

    def release(self, admission: Admission) -> None:
        """Leave the gates, once the request has ended."""
        for gate in admission.gates:
            gate.leave()
        admission.gates = ()

    async def give_back(self, admission: Admission) -> None:
        """Return what the request consumed of its rates: it was refused after all."""
        if admission.taken is not None:
            await self.store.give_back(admission.claims, admission.taken)
            admission.taken = None
            admission.decisions = _unspent(admission)

    def too_large(self, name: str, limit: Body) -> Decision | None:
        """The refusal of a body that is larger than the limit; None when the limit only observes."""
        detail = f"limit `{name}` accepts bodies of at most {limit.body}"
        return self._judged(name, limit, Decision(False, name, 413, detail=detail))

    def too_slow(self, name: str, limit: Timeout) -> Decision | None:
        """The refusal of a request whose response did not start in time; None when the limit observes."""
        detail = f"limit `{name}` gives a response {limit.timeout} to start"
        return self._judged(name, limit, Decision(False, name, 504, REDUCED_CAPACITY, detail))

    def kept(self, name: str) -> None:
        """Count a request that stayed within a body or time limit."""
        self._cells[name].allowed.inc()

    def _judged(self, name: str, limit: Limit, refusal: Decision) -> Decision | None:
        cells = self._cells[name]
        if limit.mode == "observe":
            cells.observed.inc()
            return None
        cells.refused.inc()
        return refusal

    async def _take(self, plan: Plan, caller: Caller, admission: Admission) -> None:
        admission.claims = [rate.claim(caller) for rate in plan.rates]
        taken = await self.store.take(admission.claims)
        decisions: list[Decision] = []
        denied: list[Decision] = []
        for rate, verdict in zip(plan.rates, taken.verdicts, strict=True):
            decision = rate.decision(verdict)
            decisions.append(decision)
            if not decision.allowed:
                cells = self._cells[rate.name]
                (cells.refused if rate.enforced else cells.observed).inc()
                if rate.enforced:
                    denied.append(decision)
        admission.decisions = decisions
        if denied:
            admission.refused = _longest(denied)
            admission.decisions = _unspent(admission)
            return
        admission.taken = taken
        for decision in decisions:
            if decision.allowed:
                self._cells[decision.limit].allowed.inc()

    async def _enter(self, plan: Plan, admission: Admission) -> None:
        for one in plan.gates:
            if not await self._entered(one, admission):
                break
        if admission.refused is not None:
            self.release(admission)
            await self.give_back(admission)

    async def _entered(self, one: GateLimit, admission: Admission) -> bool:
        refusal = await one.gate.enter()
        cells = self._cells[one.name]
        if refusal is not None and one.enforced:
            cells.refused.inc()
            detail = f"limit `{one.name}` {refusal.reason}"
            admission.refused = Decision(False, one.name, 503, REDUCED_CAPACITY, detail, refusal.retry_after)
            return False
        (cells.allowed if refusal is None else cells.observed).inc()
        admission.gates = (*admission.gates, one.gate)
        return True

    def _planned(self, route: str, method: str) -> Plan:
        bodies = [(name, one) for name, one in self._limits.items() if isinstance(one, Body)]
        timeouts = [(name, one) for name, one in self._limits.items() if isinstance(one, Timeout)]
        return Plan(
            tuple(one for one in self._rates if applies(one.match, route, method)),
            tuple(one for one in self._gates if applies(one.match, route, method)),
            max((one for one in bodies if applies(one[1].match, route, method)), key=_specific, default=None),
            max(
                (one for one in timeouts if applies(one[1].match, route, method)), key=_specific, default=None
            ),
        )


def applies(match: Match | None, route: str, method: str) -> bool:
    """Whether a policy with this match concerns requests for this route and method."""
    if match is None:
        return True
    if match.method is not None and match.method != ("GET" if method == "HEAD" else method):
        return False
    return match.fits(route)


def _specific(named: tuple[str, Limit]) -> tuple[bool, bool, int, bool]:
    """Orders limits by how exactly they name their requests: route, exact route, longer route, method."""
    match = named[1].match or Match()
    return (
        match.path is not None,
        "*" not in (match.path or "*"),
        len(match.path or ""),
        match.method is not None,
    )


def _cells(meter: Meter, name: str) -> Cells:
    return Cells(
        *(
            meter.counter(LIMIT_DECISIONS, limit=name, outcome=one)
            for one in ("allowed", "refused", "observed")
        )
    )


def _gates(limits: Mapping[str, Limit], clock: Clock, meter: Meter) -> list[GateLimit]:
    return [
        GateLimit(name, limit.match, limit.gate(name, clock, meter), limit.mode == "enforce")
        for name, limit in limits.items()
        if isinstance(limit, Gated)
    ]


def _unspent(admission: Admission) -> list[Decision]:
    """The decisions of a request that has consumed nothing in the end: that much more is left."""
    told = zip(admission.decisions, admission.claims, strict=True)
    return [one._replace(remaining=one.remaining + claim.cost) if one.allowed else one for one, claim in told]


def _longest(denied: Iterable[Decision]) -> Decision:
    """The refusal that takes longest: who waits for that one is admitted by all. None lasts for ever."""
    return max(denied, key=lambda one: (one.retry_after is None, one.retry_after or 0))
