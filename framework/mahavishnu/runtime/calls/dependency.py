"""A dependency at work: retry(breaker(throttle(bulkhead(timeout(call))))), shared by every form of a call."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from mahavishnu.errors import DependencyError
from mahavishnu.outcomes.faults import worst
from mahavishnu.policies.breaker import BreakerGuard
from mahavishnu.policies.bulkhead import BulkheadGuard
from mahavishnu.policies.retry import FULL, Retrier
from mahavishnu.policies.throttle import ThrottleGuard
from mahavishnu.protocols import Guard, Guarding, Leaf, Outcome, Site
from mahavishnu.runtime.calls import interrupted
from mahavishnu.runtime.calls.call import Call, Terms, surrounding
from mahavishnu.runtime.calls.reasons import reason
from mahavishnu.runtime.calls.troubles import Troubles, unheard
from mahavishnu.series import DEPENDENCY_CALLS, DEPENDENCY_DURATION
from mahavishnu.spec import Dependency, Spec
from mahavishnu.units import SECOND

if TYPE_CHECKING:
    from mahavishnu.runtime.calls.stand_in import Fallbacks
    from mahavishnu.runtime.tracing.traces import Tracing

P = ParamSpec("P")
R = TypeVar("R")
Say = Callable[[str], str]
"""The file and line of a path of the spec (`dependencies.stripe.breaker`); empty where there is none."""
Begin = Callable[["DependencyGuard", bool], "Call"]
"""Begins a call that may be repeated, or may not."""
_FAILED = (Outcome.FAILURE, Outcome.TIMEOUT)
_LATE = 1.25
"""So many times its timeout: a client that has this very one ends its call a little later."""


def nowhere(_: str) -> str:
    """Where a spec that came from no file says something."""
    return ""


def build_dependencies(
    spec: Spec,
    site: Site,
    before: Mapping[str, DependencyGuard] | None = None,
    say: Say = nowhere,
) -> dict[str, DependencyGuard]:
    """A guard for each dependency of the spec, on what they have in common.

    Those of a new spec share breakers, places and budgets with those `before` them, and `take_over`.
    """

    def guard(name: str, settings: Dependency) -> DependencyGuard:
        timeout = None if settings.timeout is None else int(settings.timeout)
        here = site._replace(name=name, timeout=timeout)
        return DependencyGuard(settings, here, (before or {}).get(name), say)

    return {name: guard(name, settings) for name, settings in spec.dependencies.items()}


class DependencyGuard:
    """One dependency at work: its policies' guards from the outermost to the innermost, and its series.

    Thread-safe, and the same for every event loop of the process. Calls of a coroutine function take the short way of
    `flat.py` while all is well, which knows every policy that is named here. `fallbacks`
    are around it, if there are any.
    """

    fallbacks: Fallbacks | None = None
    stands_by = False
    """Whether its calls go the long way: the spec lets something stand in for it, or they have spans."""
    tracing: Tracing | None = None
    """What makes those, if anything does."""
    tell: Callable[..., object] = staticmethod(unheard)
    """Writes a line of the log, of an event and facts."""

    def __init__(
        self, settings: Dependency, site: Site, before: DependencyGuard | None = None, say: Say = nowhere
    ) -> None:
        self.name = name = site.name
        self.clock = site.clock
        self.settings = settings
        self.timeout = site.timeout
        told = before is not None and before.timeout == self.timeout and before.late is None
        self.late: int | None = None if self.timeout is None or told else round(self.timeout * _LATE)
        """An attempt that nothing ends is told of when it takes longer (ns); None: never, or it has been told."""
        self.calls: Begin = Call
        self.requests: Begin = Call
        held: Mapping[str, Guard] = before.by_policy if before else {}
        made = (
            (key, policy.guard(site, held.get(key)))
            for key, policy in settings.policies()
            if isinstance(policy, Guarding)
        )
        self.by_policy: Mapping[str, Guard] = {key: guard for key, guard in made if guard is not None}
        self.guards: tuple[Guard, ...] = tuple(self.by_policy.values())
        self.breaker = _only(BreakerGuard, self.guards)
        self.bulkhead = _only(BulkheadGuard, self.guards)
        self.throttle = _only(ThrottleGuard, self.guards)
        self.gates = (self.bulkhead, self.throttle) if self.bulkhead or self.throttle else None
        """What a call has to pass, beside the breaker."""
        self.retrier: Retrier | None = None
        if settings.retry is not None:
            self.retrier = Retrier(settings.retry, site, before=before.retrier if before else None)
        self._left = before.retrier.budget if before and before.retrier and not self.retrier else None
        """The budget of retries of the guard before it, where this one has none."""
        within = self.retrier.within if self.retrier else None
        self.hurries: bool = within is not None and (self.timeout is None or within < self.timeout)
        """Whether all attempts together have less time than one of them may take."""
        self._count = {
            outcome: site.meter.counter(DEPENDENCY_CALLS, dependency=name, outcome=outcome)
            for outcome in DEPENDENCY_CALLS.label("outcome").values or ()
        }
        self._duration = site.meter.histogram(DEPENDENCY_DURATION, dependency=name)
        self.quick: Quick = before.quick if before else Quick()
        self.troubles: Troubles = before.troubles if before else Troubles(name, self.clock)
        if before is None:
            self._watch_budget()
        site.meter.settles(f"dependencies.{name}", self.tally)
        if self.breaker is not None:
            self.breaker.told = self._tallied
            self.breaker.turned = self.troubles.turned
        self._say = say
        self.dropped: deque[tuple[Call, Sequence[Leaf]]] = deque()
        """Calls whose answers were dropped while somebody was about to change what they hold."""

    def call(self, function: Callable[P, R], terms: Terms, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function; raises what its last attempt raised. Nothing ends an attempt but the function itself."""
        call = self.calls(self, terms.repeatable)
        while True:
            call.enter()
            try:
                answer = function(*args, **kwargs)
                failed = terms.failed is not None and terms.failed(answer)
            except BaseException as fault:
                if self.late is not None:
                    self.outlasted(call.began)
                pause = call.failed(fault)
                if pause is None:
                    raise
            else:
                if self.late is not None:
                    self.outlasted(call.began)
                pause = call.answered(answer, failed)
                if pause is None:
                    return answer
            self.clock.pause(pause)

    async def call_async(
        self, function: Callable[P, Awaitable[R]], terms: Terms, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """As `call`, for a coroutine function, whose attempts end with the dependency's timeout."""
        return await self.go_on(self.calls(self, terms.repeatable), None, function, terms, *args, **kwargs)

    async def go_on(
        self,
        call: Call,
        pause: int | None,
        function: Callable[P, Awaitable[R]],
        terms: Terms,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """All attempts that are left of a call, after this pause (ns)."""
        failure: object = None
        while True:
            if pause is not None:
                try:
                    await interrupted.pause(self.clock, pause, self, failure)
                finally:
                    failure = None  # this frame is in its traceback
            await call.enter_async()
            try:
                answer = await function(*args, **kwargs)
                failed = terms.failed is not None and terms.failed(answer)
            except BaseException as fault:
                pause = call.failed(fault)
                if pause is None:
                    raise
                failure = fault
            else:
                pause = call.answered(answer, failed)
                if pause is None:
                    return answer
                failure = answer

    def within(self) -> bool:
        """Whether this code is part of a call of this very dependency."""
        return any(one.guard.name == self.name for one in surrounding())

    def take_over(self) -> None:
        """The guards that are shared with those of another spec are from now on as this one says."""
        self.troubles.tell = self.tell
        for key, policy in self.settings.policies():
            if key in self.by_policy:
                self.by_policy[key].become(policy, self.timeout)
        if self._left is not None:  # its last calls may go on: what is quick now is not for them to say
            self._left.part()
        self._watch_budget()

    def _watch_budget(self) -> None:
        if self.retrier is not None:
            self.retrier.budget.told = self._measure
        self._measure()

    def _measure(self) -> None:
        """Say how long a quick call takes at the most: none is one while its success adds to the budget of retries."""
        owed = self.retrier is not None and self.retrier.budget.tokens < FULL
        slow = QUICK if self.breaker is None else self.breaker.slow_call
        self.quick.most = -1 if owed else min(QUICK, slow)

    def outlasted(self, began: int, *, streams: bool = False) -> None:
        """Say once where an attempt that nothing can end, begun then (ns), took much longer than its timeout: of a
        thread, or of a generator that `streams`."""
        late, took = self.late, self.clock.now() - began
        if late is None or took <= late:
            return
        self.late = None
        self.tell(
            "attempt outlasted its timeout",
            dependency=self.name,
            timeout=str(self.settings.timeout),
            took=round(took / SECOND, 3),
            help=_ended_by(self.name, streams),
        )

    def count(self, outcome: str) -> None:
        """Count one attempt that was never made: `rejected` or `cancelled`."""
        self._count[outcome].inc()

    def leave(
        self,
        permits: Sequence[object],
        outcome: Outcome,
        duration: int,
        now: int,
        leaves: Sequence[Leaf] = (),
        fault: BaseException | None = None,
    ) -> None:
        """Return the permits of an attempt that was made, and show how it went."""
        if leaves:
            self._trouble(outcome, duration, now, leaves, fault)
        for guard, permit in zip(self.guards, permits, strict=True):
            guard.leave(permit, outcome, duration, now, leaves)
        if outcome is Outcome.SUCCESS and not (self.retrier and self.retrier.wants(leaves)):
            self.deposit()
        self._count[outcome].inc()
        if outcome is not Outcome.CANCELLED:
            self._duration.observe(duration / SECOND)
        if self.troubles.due:
            self.troubles.settle()

    def _trouble(
        self, outcome: Outcome, took: int, now: int, leaves: Sequence[Leaf], fault: BaseException | None
    ) -> None:
        """Tell of an attempt that did not simply succeed, where it has failed, or the breaker says so."""
        blamed = outcome if self.breaker is None else self.breaker.judged(outcome, leaves)
        if outcome in _FAILED or blamed in _FAILED:
            why = reason(fault, leaves, took, self.timeout)
            self.troubles.failed(why, now, blamed=blamed in _FAILED)

    def deposit(self) -> None:
        """Show the budget of retries a call that succeeded."""
        if self.retrier is not None:
            self.retrier.deposit()

    def succeeded(self, closed: object, duration: int, now: int) -> None:
        """Show a call that simply succeeded, so many ns after it was begun; its breaker had let it in by `closed`."""
        if self.breaker is not None:
            self.breaker.leave(closed, Outcome.SUCCESS, duration, now)
        self.deposit()
        self._count["success"].inc()
        self._duration.observe(duration / SECOND)

    def tally(self) -> None:
        """Show the quick calls since the last time."""
        self._tallied(*self.quick.taken())

    def _tallied(self, calls: int, ns: int) -> None:
        self._count["success"].inc(calls)
        self._duration.observe_least(calls, ns / SECOND)

    def held(self, closed: object, ticket: object) -> Sequence[object]:
        """The permits of an attempt that was let in by the short way, in the order of the guards."""
        known = ((self.breaker, closed), (self.throttle, ticket))
        return [next((permit for one, permit in known if one is guard), None) for guard in self.guards]

    def drop(self, call: Call, leaves: Sequence[Leaf]) -> None:
        """End a call whose answer nobody has: the garbage collector says so, at any moment, in any thread.

        So perhaps in the midst of what would be done here; then the next attempt does it.
        """
        self.dropped.append((call, leaves))
        if not any(guard.busy() for guard in self.guards) and not (self.retrier and self.retrier.busy()):
            self.collect()

    def collect(self) -> None:
        """End the calls whose answers were dropped."""
        while self.dropped:
            try:
                call, leaves = self.dropped.popleft()
            except IndexError:  # another thread was quicker
                return
            call.end(worst(outcome for outcome, _ in leaves), leaves)

    def placed(self, error: DependencyError) -> None:
        """Let an error say which line of the spec it comes from."""
        if error.dependency == self.name:
            error.where = error.where or self._say(error.place)


def _ended_by(name: str, streams: bool) -> str:
    """What would end an attempt that nothing has ended."""
    if not streams and _in_a_task():
        return (
            "a synchronous attempt cannot be ended, and this one was in a task: "
            "write `async with`, `async for` or `async def`, and await the client"
        )
    what = "a block whose generator is read by others" if streams else "a synchronous attempt"
    client = "httpx_async_client().stream" if streams else "httpx_client()"
    return (
        f"{what} cannot be ended from outside: give your client this timeout, "
        f'or take dependency("{name}").{client}, which has it'
    )


def _in_a_task() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _only(kind: type[R], guards: Sequence[object]) -> R | None:
    return next((guard for guard in guards if isinstance(guard, kind)), None)


QUICK = int(DEPENDENCY_DURATION.buckets[0] * SECOND)
"""A call that takes no longer (ns) is in the histogram's first bucket."""


class Quick:
    """The quick calls that simply succeeded and are not shown yet, and the `most` that one may take (ns).

    They are counted, and taken, without a call in between: CPython switches threads at calls and jumps back only.
    """

    __slots__ = ("calls", "most", "ns")

    def __init__(self) -> None:
        self.calls = self.ns = 0
        self.most = QUICK

    def taken(self) -> tuple[int, int]:
        """How many, and how long they took together; begins anew."""
        calls, ns = self.calls, self.ns
        self.calls = self.ns = 0
        return calls, ns
