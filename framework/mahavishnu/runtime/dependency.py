"""The call path of a dependency, retry(breaker(throttle(bulkhead(timeout(call))))), shared by every form of a call."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, Protocol, Self, TypeVar

from mahavishnu.errors import CallTimeout, DependencyError
from mahavishnu.policies._faults import leaves_of, leaves_of_answer, worst
from mahavishnu.policies.breaker import BreakerGuard
from mahavishnu.policies.bulkhead import BulkheadGuard
from mahavishnu.policies.retry import Retrier
from mahavishnu.policies.throttle import ThrottleGuard
from mahavishnu.policy import Guard, Guarding, Leaf, Outcome, Site
from mahavishnu.runtime import context
from mahavishnu.runtime.alarm import Alarm, alarm
from mahavishnu.runtime.budget import LEAST, MARGIN
from mahavishnu.series import DEPENDENCY_CALLS, DEPENDENCY_DURATION
from mahavishnu.spec import Dependency, Spec

if TYPE_CHECKING:
    from mahavishnu.runtime.fallback import Fallbacks
    from mahavishnu.runtime.traces import Tracing

P = ParamSpec("P")
R = TypeVar("R")
Say = Callable[[str], str]
"""The file and line of a path of the spec (`dependencies.stripe.breaker`); empty where there is none."""
Begin = Callable[["DependencyGuard", bool], "Call"]
"""Begins a call that may be repeated, or may not."""
_SECOND = 1e9


class Terms(NamedTuple):
    """What the code says of a function: whether calling it twice does no harm, and which answers mean a failure."""

    repeatable: bool = False
    failed: Callable[[Any], bool] | None = None


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

    def __init__(
        self, settings: Dependency, site: Site, before: DependencyGuard | None = None, say: Say = nowhere
    ) -> None:
        self.name = name = site.name
        self.clock = site.clock
        self.settings = settings
        self.timeout = site.timeout
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
        self.retrier: Retrier | None = None
        if settings.retry is not None:
            self.retrier = Retrier(settings.retry, site, before=before.retrier if before else None)
        within = self.retrier.within if self.retrier else None
        self.hurries: bool = within is not None and (self.timeout is None or within < self.timeout)
        """Whether all attempts together have less time than one of them may take."""
        self._count = {
            outcome: site.meter.counter(DEPENDENCY_CALLS, dependency=name, outcome=outcome)
            for outcome in DEPENDENCY_CALLS.label("outcome").values or ()
        }
        self._duration = site.meter.histogram(DEPENDENCY_DURATION, dependency=name)
        self.quick: Quick = before.quick if before else Quick()
        site.meter.settles(f"dependencies.{name}", self.tally)
        if self.breaker is not None:
            self.breaker.told = self._tallied
        self._say = say
        self.dropped: deque[tuple[Call, Sequence[Leaf]]] = deque()
        """Calls whose answers were dropped while somebody was about to change what they hold."""

    def call(self, function: Callable[P, R], terms: Terms, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function; raises what its last attempt raised."""
        call = self.calls(self, terms.repeatable)
        while True:
            call.enter()
            try:
                answer = function(*args, **kwargs)
                failed = terms.failed is not None and terms.failed(answer)
            except BaseException as fault:
                pause = call.failed(fault)
                if pause is None:
                    raise
            else:
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
        while True:
            if pause is not None:
                await self.clock.sleep(pause)
            await call.enter_async()
            try:
                answer = await function(*args, **kwargs)
                failed = terms.failed is not None and terms.failed(answer)
            except BaseException as fault:
                pause = call.failed(fault)
                if pause is None:
                    raise
            else:
                pause = call.answered(answer, failed)
                if pause is None:
                    return answer

    def within(self) -> bool:
        """Whether this code is part of a call of this very dependency."""
        return any(one.guard.name == self.name for one in surrounding())

    def take_over(self) -> None:
        """The guards that are shared with those of another spec are from now on as this one says."""
        for key, policy in self.settings.policies():
            if key in self.by_policy:
                self.by_policy[key].become(policy, self.timeout)

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
    ) -> None:
        """Return the permits of an attempt that was made, and show how it went."""
        for guard, permit in zip(self.guards, permits, strict=True):
            guard.leave(permit, outcome, duration, now, leaves)
        if outcome is Outcome.SUCCESS:
            self.deposit()
        self._count[outcome].inc()
        if outcome is not Outcome.CANCELLED:
            self._duration.observe(duration / _SECOND)

    def deposit(self) -> None:
        """Show the budget of retries a call that succeeded."""
        if self.retrier is not None:
            self.retrier.deposit()

    def succeeded(self, closed: object, duration: int, now: int) -> None:
        """Show a call that simply succeeded, so many ns after it was begun; its breaker had let it in by `closed`."""
        if self.breaker is not None:
            self.breaker.leave(closed, Outcome.SUCCESS, duration, now)
        self._count["success"].inc()
        self._duration.observe(duration / _SECOND)

    def tally(self) -> None:
        """Show the quick calls since the last time."""
        self._tallied(*self.quick.taken())

    def _tallied(self, calls: int, ns: int) -> None:
        self._count["success"].inc(calls)
        self._duration.observe_least(calls, ns / _SECOND)

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


def _only(kind: type[R], guards: Sequence[object]) -> R | None:
    return next((guard for guard in guards if isinstance(guard, kind)), None)


QUICK = int(DEPENDENCY_DURATION.buckets[0] * 10**9)
"""A call that takes no longer (ns) is in the histogram's first bucket."""


class Quick:
    """The quick calls that simply succeeded and are not shown yet.

    They are counted, and taken, without a call in between: CPython switches threads at calls and jumps back only.
    """

    __slots__ = ("calls", "ns")

    def __init__(self) -> None:
        self.calls = self.ns = 0

    def taken(self) -> tuple[int, int]:
        """How many, and how long they took together; begins anew."""
        calls, ns = self.calls, self.ns
        self.calls = self.ns = 0
        return calls, ns


class Around(Protocol):
    """An attempt, for the calls inside of it."""

    @property
    def guard(self) -> DependencyGuard: ...
    @property
    def active(self) -> bool:
        """Whether it is being made: a task that was begun in it may outlive it."""
        ...

    @property
    def over(self) -> bool:
        """Whether it has ended, and none is around it."""
        ...

    @property
    def outer(self) -> Around | None:
        """The attempt around this one, over or not."""
        ...

    @property
    def retrier(self) -> Retrier | None:
        """There where it may be followed by another one: then nobody inside of it repeats anything."""
        ...

    def left(self) -> int | None:
        """What is left of the attempt's time, in ns and at least LEAST; None: nothing ends it."""
        ...


class Inside(Alarm):
    """An attempt of the short way, around which there is none; where it has a timeout, it is its own alarm."""

    __slots__ = ("began", "guard", "over", "repeats")

    began: int
    guard: DependencyGuard
    over: bool
    repeats: bool
    """Whether calling it twice does no harm."""

    @property
    def outer(self) -> Around | None:
        return None

    @property
    def active(self) -> bool:
        return not self.over

    @property
    def retrier(self) -> Retrier | None:
        return self.guard.retrier if self.repeats else None

    def left(self) -> int | None:
        return _left(self.guard, self.guard.timeout, self.began)


def _left(guard: DependencyGuard, limit: int | None, began: int) -> int | None:
    return None if limit is None else max(LEAST, limit - (guard.clock.now() - began))


class Call:
    """One call of a dependency: at most `attempts` attempts, each of which holds a permit of every guard.

    For each attempt `enter` (or `enter_async`), then one of `failed`, `answered` and `end`. Inside an attempt
    of the same dependency a call passes through, so that nothing is guarded twice; inside one of another that
    may be repeated it makes a single attempt, so that attempts do not multiply.
    """

    __slots__ = (
        "_alarm", "_cut", "active", "attempt", "began", "guard", "limit", "outer", "permits",
        "retrier", "through", "until",
    )  # fmt: skip

    def __init__(self, guard: DependencyGuard, repeatable: bool) -> None:
        around = list(surrounding())
        self.guard = guard
        self.active = False
        self.began = 0
        self.outer: Around | None = around[0] if around else None
        self.through: Around | None = next((one for one in around if one.guard.name == guard.name), None)
        """The attempt around it that is one of the same dependency."""
        self.retrier: Retrier | None = (
            guard.retrier if repeatable and not any(one.retrier for one in around) else None
        )
        self.attempt = 1
        self.limit: int | None = None
        """How long this attempt may take (ns)."""
        self.until: int | None = None
        """When all attempts must have ended (ns)."""
        self.permits: Sequence[object] = ()
        self._cut = ""
        """What cuts this attempt short of the dependency's timeout, if anything does."""
        self._alarm: Alarm | None = None
        if self.retrier is not None and self.retrier.within is not None:
            self.until = guard.clock.now() + self.retrier.within

    @classmethod
    def going_on(cls, inside: Inside, terms: Terms, permits: Sequence[object]) -> Call:
        """The call of an attempt that was begun without one, and ends otherwise than it was hoped."""
        inside.over = True
        call = cls(inside.guard, terms.repeatable)
        call.began, call.limit, call.permits = inside.began, inside.guard.timeout, permits
        if call.limit is not None:
            call._alarm = inside
            inside.handle = None
        if call.retrier is not None and call.retrier.within is not None:
            call.until = call.began + call.retrier.within
        return call

    @property
    def over(self) -> bool:
        """Whether it has ended, and none is around it."""
        return not self.active and self.outer is None

    @property
    def name(self) -> str:
        """The dependency's name."""
        return self.guard.name

    def enter(self) -> None:
        """Begin an attempt; raises DependencyError when a guard refuses it."""
        permits: list[object] = []
        if self.through is None:
            try:
                self._allow()
                for guard in self.guard.guards:
                    permits.append(guard.enter())  # noqa: PERF401 - known when the next one refuses
                if self.guard.bulkhead is not None:  # which may have waited
                    self._allow()
            except BaseException as fault:
                self._turn_back(permits, fault)
                raise
        self._begin(permits)

    async def enter_async(self) -> None:
        """As `enter`, letting other tasks run meanwhile; the attempt then ends with its timeout.

        Raises RuntimeError where it has one, and no event loop of asyncio runs.
        """
        permits: list[object] = []
        if self.through is None:
            try:
                self._allow()
                for guard in self.guard.guards:
                    permits.append(await guard.enter_async())  # noqa: PERF401 - as in `enter`
                self._allow()
                if self.limit is not None:
                    asyncio.get_running_loop()  # here, where what was taken is given back
            except BaseException as fault:
                self._turn_back(permits, fault)
                raise
        self._begin(permits)
        self.watch()

    def watch(self) -> None:
        """From now on the attempt ends with its timeout."""
        if self.limit is not None:
            self._alarm = alarm(self.guard.clock, self.began, self.limit, recurs=not self._cut)

    def lift(self) -> None:
        """Let the attempt go on, whatever its timeout."""
        self._timeout(None)

    def failed(self, fault: BaseException) -> int | None:
        """The attempt ended with an exception: the pause in ns before the next one, or None: let it out.

        Raises CallTimeout in its place where the attempt's time was up.
        """
        timeout = self._timeout(fault)
        fault = timeout or fault
        leaves = leaves_of(fault)
        self.end(self._outcome(leaves), leaves)
        pause = self._again(leaves, getattr(fault, "response", None))
        if pause is not None:
            return pause
        if isinstance(fault, DependencyError):
            self.guard.placed(fault)
        if timeout is None:
            return None
        try:
            raise timeout from timeout.__cause__
        finally:
            del timeout, fault  # an error whose frame holds it would live until the garbage collector comes

    def answered(self, answer: object, failed: bool = False) -> int | None:
        """The attempt ended with an answer: the pause in ns before the next one, or None: hand it out."""
        self._timeout(None)
        leaves = leaves_of_answer(answer, failed)
        self.end(worst(outcome for outcome, _ in leaves), leaves)
        return self._again(leaves, answer)

    def wants(self, answer: object) -> bool:
        """Whether this answer could lead to another attempt."""
        return self.retrier is not None and self.retrier.wants(leaves_of_answer(answer))

    def step_out(self) -> None:
        """What follows is no longer inside the attempt, which goes on: the timeout is lifted."""
        self.lift()
        self._step_back()

    def left(self) -> int | None:
        """What is left of the attempt's time, in ns and at least LEAST; None: nothing ends it."""
        return self.through.left() if self.through else _left(self.guard, self.limit, self.began)

    def progress(self) -> None:
        """A part of the answer came: leases start anew."""
        for guard, permit in zip(self.guard.guards, self.permits, strict=False):
            guard.renew(permit)

    def end(self, outcome: Outcome, leaves: Sequence[Leaf] = ()) -> None:
        """Return what the attempt holds, and show how it went."""
        self._step_back()
        if self.through is None:
            permits, self.permits = self.permits, ()
            now = self.guard.clock.now()
            self.guard.leave(permits, outcome, now - self.began, now, leaves)

    def _allow(self) -> None:
        """Set how long an attempt that begins now may take; raises CallTimeout past the deadline."""
        guard = self.guard
        if guard.dropped:
            guard.collect()
        self._cut = ""
        self.limit = guard.timeout
        remaining, whose = self._remaining()
        if remaining is None:
            return
        if remaining < LEAST:
            raise CallTimeout(self.name, "timeout", f"{whose} has passed, or nearly so")
        if self.limit is None or remaining < self.limit:
            self._cut, self.limit = whose, remaining

    def _outcome(self, leaves: Sequence[Leaf]) -> Outcome:
        outcome = worst(each for each, _ in leaves)
        # A dependency that was given less than its own timeout, as the request had no more, is not to blame.
        if outcome is Outcome.TIMEOUT and self._cut and self.limit is not None:
            elapsed = self.guard.clock.now() - self.began
            return Outcome.CANCELLED if elapsed >= self.limit else outcome
        return outcome

    def _begin(self, permits: Sequence[object]) -> None:
        self.permits = permits
        self._alarm = None
        self.began = self.guard.clock.now()
        self.active = True
        AROUND.set(self)
        breaker = self.guard.breaker
        if breaker is not None and not breaker.now_state.passes:
            self.progress()  # a probe may have waited for a place of the bulkhead

    def _step_back(self) -> None:
        """What follows is no longer inside this attempt; a context that it does not end in learns so when it looks."""
        self.active = False
        if AROUND.get() is self:
            AROUND.set(self.outer or NOWHERE)

    def _turn_back(self, permits: Sequence[object], fault: BaseException) -> None:
        now = self.guard.clock.now()
        for guard, permit in zip(self.guard.guards, permits, strict=False):
            guard.leave(permit, Outcome.CANCELLED, 0, now)
        if isinstance(fault, DependencyError):
            self.guard.placed(fault)
            self.guard.count("rejected")
        else:
            self.guard.count("cancelled")

    def _timeout(self, fault: BaseException | None) -> CallTimeout | None:
        """Stop the timer; the error to raise where it was the timer that ended the attempt."""
        alarm, self._alarm = self._alarm, None
        if alarm is None or not alarm.end(fault):
            return None
        why = f"{self._cut} came first" if self._cut else "no answer within its timeout"
        timeout = CallTimeout(self.name, "timeout", why)
        timeout.__cause__ = fault
        return timeout

    def _again(self, leaves: Sequence[Leaf], answer: object) -> int | None:
        """The pause before the next attempt, if this end is worth one and it may be made."""
        retrier = self.retrier
        if retrier is None or not retrier.wants(leaves) or any(one.refuses() for one in self.guard.guards):
            return None
        pause = retrier.pause(self.attempt, retrier.asked(answer), self._remaining()[0])
        self.attempt += 1
        return pause

    def _remaining(self) -> tuple[int | None, str]:
        """What is left for this call (ns; None: no limit), and of which time."""
        deadline, until, whose = context.deadline(), self.until, "the end of all attempts (`within`)"
        if deadline is not None and (until is None or deadline - MARGIN < until):
            until, whose = deadline - MARGIN, "the request's deadline"
        return None if until is None else until - self.guard.clock.now(), whose


NOWHERE = Inside()
"""In the place of an attempt, where none was ever begun."""
NOWHERE.over = True
AROUND: ContextVar[Around] = ContextVar("mahavishnu_around", default=NOWHERE)
"""The attempt that was begun last in this context, over or not; those around it are its `outer` ones."""


def surrounding() -> Iterator[Around]:
    """The attempts that surround this code, innermost first."""
    one: Around | None = AROUND.get()
    while one is not None:
        if one.active:
            yield one
        one = one.outer


def innermost(name: str) -> Call:
    """The call of this dependency that was begun last in this context and has not ended."""
    for one in surrounding():
        if isinstance(one, Call) and one.name == name:
            return one
    raise RuntimeError(f"dependency `{name}`: the block ends in another context than it began in")


class Attempts:
    """`async for attempt in …: with attempt:`, or `for`: a loop that says that repeating does no harm."""

    def __init__(self, guard: Callable[[], DependencyGuard]) -> None:
        self._find = guard
        self._call: Call | None = None
        self._pause: int | None = 0  # None: the last attempt is over

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Attempt:
        call = self._next()
        if call is None:
            raise StopIteration
        if self._pause:
            self._clock.pause(self._pause)
        call.enter()
        return Attempt(self, call, watched=False)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Attempt:
        call = self._next()
        if call is None:
            raise StopAsyncIteration
        if self._pause:
            await self._clock.sleep(self._pause)
        await call.enter_async()
        call.lift()  # until it is used, and perhaps it never is
        return Attempt(self, call, watched=True)

    def ended(self, pause: int | None) -> None:
        """The attempt is over: the pause before the next one, or None: that was the last."""
        self._pause = pause

    def _next(self) -> Call | None:
        if self._call is not None and self._call.active:
            self._call.end(Outcome.CANCELLED)
            raise RuntimeError("an attempt must be used: `with attempt: …`")
        if self._pause is None:
            return None
        if self._call is None:
            guard = self._find()
            self._clock = guard.clock
            self._call = guard.calls(guard, True)
        return self._call


class Attempt:
    """One attempt of an explicit loop: a context manager that keeps back what will be tried again."""

    __slots__ = ("_attempts", "_call", "_watched", "number")

    def __init__(self, attempts: Attempts, call: Call, *, watched: bool) -> None:
        self._attempts = attempts
        self._call = call
        self._watched = watched
        self.number = call.attempt

    def __enter__(self) -> Self:
        if self._watched:
            self._call.watch()
        return self

    def __exit__(self, kind: object, fault: BaseException | None, trace: object) -> bool:
        pause: int | None = None
        try:
            pause = self._call.answered(None) if fault is None else self._call.failed(fault)
        finally:
            self._attempts.ended(pause)
        return pause is not None

    def __del__(self) -> None:
        call = self._call
        if call.active and call.attempt == self.number:  # the loop was left before it was used
            call.guard.drop(call, _UNUSED)


_UNUSED: Sequence[Leaf] = ((Outcome.CANCELLED, frozenset()),)
