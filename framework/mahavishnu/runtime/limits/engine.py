"""The limits of a spec at work: one decision over all that a request meets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from mahavishnu.contract import Contract
from mahavishnu.policies.body import Body
from mahavishnu.policies.timeout import Timeout
from mahavishnu.policy import Limit
from mahavishnu.protocols import BEFORE, Clock, Decision, Gate, Gated, Meter, Metered, Store, Taken
from mahavishnu.runtime.limits.admission import Admission
from mahavishnu.runtime.limits.cells import Cells
from mahavishnu.runtime.limits.fields import REDUCED_CAPACITY
from mahavishnu.runtime.limits.margin import Margin
from mahavishnu.runtime.limits.offenders import Refusals
from mahavishnu.runtime.limits.planner import Planner
from mahavishnu.runtime.limits.rates import RateLimit, longest
from mahavishnu.runtime.limits.superseded import Superseded
from mahavishnu.series import LIMIT_QUOTA, LIMIT_UTILISATION

Wait = Callable[[Awaitable[None]], Awaitable[None]]
"""Waits for this, perhaps not to its end."""


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
        self.clock = clock
        self.store = store
        self.refusals = refusals or Refusals(clock)
        limits = {name: limit for name, limit in contract.spec.limits.items() if limit.mode != "off"}
        cells = {name: Cells.of(name, meter) for name in limits}
        self._limits = limits
        self.rates = [
            RateLimit.of(name, limit, limit, cells[name])
            for name, limit in limits.items()
            if isinstance(limit, Metered)
        ]
        old: Mapping[str, Gate] = before.gates if before else {}
        self.gates: dict[str, Gate] = {
            name: limit.gate(name, clock, meter, old.get(name))
            for name, limit in limits.items()
            if isinstance(limit, Gated)
        }
        margins = {one.name: one.margin for one in self.rates} | _margins(limits, cells)
        self.superseded = Superseded(store, clock, self._forget_plans)
        """Rates that a reload has set aside."""
        self.planner = Planner(limits, self._held, self.gates, cells, margins, store, self.refusals)
        self._show(margins, meter)

    def _show(self, margins: Mapping[str, Margin], meter: Meter) -> None:
        """How much each limit allows, and how much of it is used."""
        for name, limit in self._limits.items():
            if name not in self.gates:  # a gate shows its own, which may move
                meter.gauge(LIMIT_QUOTA, limit.number, limit=name)
        for name, margin in margins.items():
            meter.gauge(LIMIT_UTILISATION, partial(_used, margin, self.clock), limit=name)

    def _held(self) -> tuple[RateLimit, ...]:
        return self.superseded.beside(self.rates)

    def _forget_plans(self) -> None:
        self.planner.forget()

    def take_over(self, before: Engine) -> None:
        """Go on from where the engine before stands now: nobody is given back what he has used under that one."""
        for name, gate in before.gates.items():
            here = self.gates.get(name) is gate
            gate.become(self._limits[name] if here else _off(before.contract.spec.limits[name]))
        self.superseded.take_over(self.rates, before.rates, before.superseded)

    async def admit(self, admission: Admission, wait: Wait | None = None) -> None:
        """Decide all rates at once, then enter the gates; what a refused request had consumed is returned.

        Where it has no place yet, `wait` is given what it waits for. What the request holds is written into `admission`
        step by step, so that it can always be released.
        """
        plan = admission.plan
        if plan.rates and (waiting := self.charge(admission)):
            await waiting
        if admission.taken is not None:
            plan.told.numbers(admission.taken)  # said to nobody, but what is left is noted
        if plan.gates and not self.try_enter(admission):
            entering = self.enter(admission)
            await (entering if wait is None else wait(entering))

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


def _off(limit: Limit) -> Limit:
    """What becomes of a limit that the next spec has not."""
    return limit.model_copy(update={"mode": "off"})


def _margins(limits: Mapping[str, Limit], cells: Mapping[str, Cells]) -> dict[str, Margin]:
    """How near to its number each limit of sizes and times is."""
    numbers = {
        name: int(limit.body if isinstance(limit, Body) else limit.timeout)
        for name, limit in limits.items()
        if isinstance(limit, Body | Timeout)
    }
    return {name: Margin(number, cells[name].near) for name, number in numbers.items()}


def _used(margin: Margin, clock: Clock) -> float:
    return margin.used(clock.now())
