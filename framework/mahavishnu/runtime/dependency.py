"""The call path of a dependency, retry(breaker(bulkhead(timeout(call)))), shared by every form of a call."""

from __future__ import annotations

import random as _random
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, ParamSpec, Self, TypeVar

from mahavishnu.errors import CallTimeout, DependencyError
from mahavishnu.policies._faults import outcome_of, outcome_of_answer
from mahavishnu.policies.retry import Retrier
from mahavishnu.policy import Clock, Guard, Guarding, Meter, Outcome
from mahavishnu.runtime import context
from mahavishnu.runtime.budget import LEAST, MARGIN
from mahavishnu.runtime.cutoff import Cutoff
from mahavishnu.series import DEPENDENCY_CALLS, DEPENDENCY_DURATION
from mahavishnu.spec import Dependency, Spec

if TYPE_CHECKING:
    from mahavishnu.runtime.fallback import Fallbacks

P = ParamSpec("P")
R = TypeVar("R")
_SECOND = 1e9
# The calls whose attempts surround this code, outermost first.
_ACTIVE: ContextVar[tuple[Call, ...]] = ContextVar("mahavishnu_active", default=())


def build_dependencies(
    spec: Spec,
    clock: Clock,
    meter: Meter,
    random: Callable[[], float] = _random.random,
    before: Mapping[str, DependencyGuard] | None = None,
) -> dict[str, DependencyGuard]:
    """A guard for each dependency of the spec; `random` draws from [0, 1) for the jitter.

    Those of a new spec share breakers, places and budgets with those `before` them, and `take_over`.
    """
    return {
        name: DependencyGuard(name, settings, clock, meter, random, (before or {}).get(name))
        for name, settings in spec.dependencies.items()
    }


class DependencyGuard:
    """One dependency at work: its policies' guards from the outermost to the innermost, and its series.

    Thread-safe, and the same for every event loop of the process. `fallbacks` are around it, where there are any.
    """

    fallbacks: Fallbacks | None = None
    stands_by = False
    """Whether the spec lets something stand in for it."""

    def __init__(
        self,
        name: str,
        settings: Dependency,
        clock: Clock,
        meter: Meter,
        random: Callable[[], float],
        before: DependencyGuard | None = None,
    ) -> None:
        self.name = name
        self.clock = clock
        self.settings = settings
        self.timeout = None if settings.timeout is None else int(settings.timeout)
        held: Mapping[str, Guard] = before.by_policy if before else {}
        made = (
            (key, policy.guard(name, clock, meter, self.timeout, held.get(key)))
            for key, policy in settings.policies()
            if isinstance(policy, Guarding)
        )
        self.by_policy: Mapping[str, Guard] = {key: guard for key, guard in made if guard is not None}
        self.guards: tuple[Guard, ...] = tuple(self.by_policy.values())
        self.retrier: Retrier | None = None
        if settings.retry is not None:
            budget = before.retrier if before else None
            self.retrier = Retrier(settings.retry, name, meter, random, before=budget)
        self._count = {
            outcome: meter.counter(DEPENDENCY_CALLS, dependency=name, outcome=outcome)
            for outcome in DEPENDENCY_CALLS.label("outcome").values or ()
        }
        self._duration = meter.histogram(DEPENDENCY_DURATION, dependency=name)

    def call(self, function: Callable[P, R], repeatable: bool, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function; `repeatable` says that calling it twice does no harm."""
        call = Call(self, repeatable)
        while True:
            call.enter()
            try:
                answer = function(*args, **kwargs)
            except BaseException as fault:
                pause = call.failed(fault)
                if pause is None:
                    raise
            else:
                pause = call.answered(answer)
                if pause is None:
                    return answer
            self.clock.pause(pause)

    async def call_async(
        self, function: Callable[P, Awaitable[R]], repeatable: bool, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """As `call`, for a coroutine function, whose attempts end with the dependency's timeout."""
        call = Call(self, repeatable)
        while True:
            await call.enter_async()
            try:
                answer = await function(*args, **kwargs)
            except BaseException as fault:
                pause = call.failed(fault)
                if pause is None:
                    raise
            else:
                pause = call.answered(answer)
                if pause is None:
                    return answer
            await self.clock.sleep(pause)

    def within(self) -> bool:
        """Whether this code is part of a call of this very dependency."""
        return any(call.active and call.name == self.name for call in _ACTIVE.get())

    def take_over(self) -> None:
        """The guards that are shared with those of another spec are from now on as this one says."""
        for key, policy in self.settings.policies():
            if key in self.by_policy:
                self.by_policy[key].become(policy, self.timeout)

    def count(self, outcome: str) -> None:
        """Count one attempt that was never made: `rejected` or `cancelled`."""
        self._count[outcome].inc()

    def leave(self, permits: list[object], outcome: Outcome, duration: int, now: int) -> None:
        """Return the permits of an attempt that was made, and show how it went."""
        for place, guard in enumerate(self.guards):
            guard.leave(permits[place], outcome, duration, now)
        self._count[outcome].inc()
        if outcome is not Outcome.CANCELLED:
            self._duration.observe(duration / _SECOND)


class Call:
    """One call of a dependency: at most `attempts` attempts, each of which holds a permit of every guard.

    For each attempt `enter` (or `enter_async`), then one of `failed`, `answered` and `end`. Inside an attempt
    of the same dependency a call passes through, so that nothing is guarded twice; inside one of another that
    may be repeated it makes a single attempt, so that attempts do not multiply.
    """

    __slots__ = (
        "_cut",
        "_cutoff",
        "_outer",
        "_permits",
        "_started",
        "active",
        "attempt",
        "guard",
        "limit",
        "retrier",
        "through",
    )

    # Set when an attempt begins; one object serves a whole call, and is made for every one.
    limit: int | None
    active: bool
    retrier: Retrier | None
    _cut: bool
    _cutoff: Cutoff | None
    _permits: list[object]
    _started: int

    def __init__(self, guard: DependencyGuard, repeatable: bool) -> None:
        around = [call for call in _ACTIVE.get() if call.active]
        self.guard = guard
        self.active = False
        self.attempt = 1
        self._outer = next((call for call in reversed(around) if call.name == guard.name), None)
        self.through = self._outer is not None
        self.retrier = None
        if guard.retrier is not None and not self.through:
            guard.retrier.deposit()
            if repeatable and not any(call.retrier for call in around):
                self.retrier = guard.retrier

    @property
    def name(self) -> str:
        """The dependency's name."""
        return self.guard.name

    def enter(self) -> None:
        """Begin an attempt; raises DependencyError when a guard refuses it."""
        permits: list[object] = []
        self.limit = None
        if not self.through:
            try:
                self._allow()
                for guard in self.guard.guards:
                    permits.append(guard.enter())  # noqa: PERF401 - known when the next one refuses
            except BaseException as fault:
                self._turn_back(permits, fault)
                raise
        self._begin(permits)

    async def enter_async(self) -> None:
        """As `enter`, letting other tasks run meanwhile; the attempt then ends with its timeout."""
        permits: list[object] = []
        if self.through:
            self.limit = None
            self._begin(permits)
            return
        try:
            self._allow()
            for guard in self.guard.guards:
                permits.append(await guard.enter_async())  # noqa: PERF401
            self._allow()
        except BaseException as fault:
            self._turn_back(permits, fault)
            raise
        self._begin(permits)
        if self.limit is not None:
            clock = self.guard.clock
            self._cutoff = Cutoff(clock.call_later if self._cut else clock.deadline, self.limit)
            self._cutoff.begin()

    def failed(self, fault: BaseException) -> int | None:
        """The attempt ended with an exception: the pause in ns before the next one, or None: let it out.

        Raises CallTimeout in its place where the attempt's time was up.
        """
        timeout = self._timeout(fault)
        fault = timeout or fault
        self.end(self._outcome(fault))
        retrier = self.retrier
        if retrier is not None and retrier.wants_fault(fault):
            pause = self._pause(retrier, retrier.asked(getattr(fault, "response", None)))
            if pause is not None:
                return pause
        if timeout is None:
            return None
        try:
            raise timeout from timeout.__cause__
        finally:
            del timeout, fault  # an error whose frame holds it would live until the garbage collector comes

    def answered(self, answer: object) -> int | None:
        """The attempt ended with an answer: the pause in ns before the next one, or None: hand it out."""
        self._timeout(None)
        self.end(outcome_of_answer(answer))
        return self.again(answer)

    def again(self, answer: object) -> int | None:
        """After `end`: the pause before the next attempt if this answer is worth one, and it may be made."""
        retrier = self.retrier
        if retrier is None or not retrier.wants_answer(answer):
            return None
        return self._pause(retrier, retrier.asked(answer))

    def wants(self, answer: object) -> bool:
        """Whether this answer could lead to another attempt."""
        return self.retrier is not None and self.retrier.wants_answer(answer)

    def step_out(self) -> None:
        """What follows is no longer inside the attempt, which goes on: the timeout is lifted."""
        self._timeout(None)
        self._deactivate()

    def left(self) -> int | None:
        """What is left of the attempt's time, in ns and at least LEAST; None: nothing ends it."""
        if self._outer is not None:
            return self._outer.left()
        if self.limit is None:
            return None
        return max(LEAST, self.limit - (self.guard.clock.now() - self._started))

    def progress(self) -> None:
        """A part of the answer came: leases start anew."""
        for guard, permit in zip(self.guard.guards, self._permits, strict=False):
            guard.renew(permit)

    def end(self, outcome: Outcome) -> None:
        """Return what the attempt holds, and show how it went."""
        self._deactivate()
        if self.through:
            return
        permits, self._permits = self._permits, []
        now = self.guard.clock.now()
        self.guard.leave(permits, outcome, now - self._started, now)

    def _allow(self) -> None:
        """Set how long an attempt that begins now may take; raises CallTimeout past the deadline."""
        self._cut = False
        self.limit = self.guard.timeout
        remaining = self._remaining()
        if remaining is None:
            return
        if remaining < LEAST:
            raise CallTimeout(self.name, "timeout", "the request's deadline has passed, or nearly so")
        if self.limit is None or remaining < self.limit:
            self._cut, self.limit = True, remaining

    def _outcome(self, fault: BaseException) -> Outcome:
        outcome = outcome_of(fault)
        # A dependency that was given less than its own timeout, as the request had no more, is not to blame.
        if outcome is Outcome.TIMEOUT and self._cut and self.limit is not None:
            elapsed = self.guard.clock.now() - self._started
            return Outcome.CANCELLED if elapsed >= self.limit else outcome
        return outcome

    def _begin(self, permits: list[object]) -> None:
        self._permits = permits
        self._cutoff = None
        self._started = self.guard.clock.now()
        self.active = True
        _ACTIVE.set((*_ACTIVE.get(), self))

    def _deactivate(self) -> None:
        if self.active:
            self.active = False
            inside = _ACTIVE.get()
            # Mostly it is the last; blocks of generators may end in another order than they began in.
            last = bool(inside) and inside[-1] is self
            _ACTIVE.set(inside[:-1] if last else tuple(call for call in inside if call is not self))

    def _turn_back(self, permits: list[object], fault: BaseException) -> None:
        now = self.guard.clock.now()
        for guard, permit in zip(self.guard.guards, permits, strict=False):
            guard.leave(permit, Outcome.CANCELLED, 0, now)
        self.guard.count("rejected" if isinstance(fault, DependencyError) else "cancelled")

    def _timeout(self, fault: BaseException | None) -> CallTimeout | None:
        """Stop the timer; the error to raise where it was the timer that ended the attempt."""
        cutoff, self._cutoff = self._cutoff, None
        if cutoff is None or not cutoff.end(fault):
            return None
        why = "the request's deadline came first" if self._cut else "no answer within its timeout"
        timeout = CallTimeout(self.name, "timeout", why)
        timeout.__cause__ = fault
        return timeout

    def _pause(self, retrier: Retrier, asked: int | None) -> int | None:
        if any(guard.refuses() for guard in self.guard.guards):
            return None
        pause = retrier.pause(self.attempt, asked, self._remaining())
        self.attempt += 1
        return pause

    def _remaining(self) -> int | None:
        deadline = context.deadline()
        return None if deadline is None else deadline - MARGIN - self.guard.clock.now()


def innermost(name: str) -> Call:
    """The call of this dependency that was begun last in this context and has not ended."""
    for call in reversed(_ACTIVE.get()):
        if call.name == name and call.active:
            return call
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
        return Attempt(self, call)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Attempt:
        call = self._next()
        if call is None:
            raise StopAsyncIteration
        if self._pause:
            await self._clock.sleep(self._pause)
        await call.enter_async()
        return Attempt(self, call)

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
            self._call = Call(guard, repeatable=True)
        return self._call


class Attempt:
    """One attempt of an explicit loop: a context manager that keeps back what will be tried again."""

    __slots__ = ("_attempts", "_call", "number")

    def __init__(self, attempts: Attempts, call: Call) -> None:
        self._attempts = attempts
        self._call = call
        self.number = call.attempt

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, fault: BaseException | None, trace: object) -> bool:
        pause: int | None = None
        try:
            pause = self._call.answered(None) if fault is None else self._call.failed(fault)
        finally:
            self._attempts.ended(pause)
        return pause is not None
