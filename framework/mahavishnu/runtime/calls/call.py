"""One call of a dependency: its attempts one after the other, and the attempts that it is made in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from mahavishnu.errors import CallTimeout, DependencyError
from mahavishnu.outcomes.faults import leaves as parts
from mahavishnu.outcomes.faults import leaves_of, leaves_of_answer, worst
from mahavishnu.outcomes.statuses import response_of
from mahavishnu.policies.retry import Retrier
from mahavishnu.policies.timeout import MARGIN
from mahavishnu.protocols import Leaf, Outcome
from mahavishnu.runtime import context
from mahavishnu.runtime.budget import LEAST
from mahavishnu.runtime.calls.alarm import Alarm, alarm
from mahavishnu.runtime.context import HERE, Cell, Request

if TYPE_CHECKING:
    from mahavishnu.runtime.calls.dependency import DependencyGuard


class Terms(NamedTuple):
    """What the code says of a function: whether calling it twice does no harm, and which answers mean a failure."""

    repeatable: bool = False
    failed: Callable[[Any], bool] | None = None


class Around(Protocol):
    """An attempt, for the calls inside of it."""

    @property
    def guard(self) -> DependencyGuard: ...
    @property
    def active(self) -> bool:
        """Whether it is being made: a task that was begun in it may outlive it."""
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


_DEADLINE = "the request's deadline"
_WITHIN = "the end of all attempts (`within`)"
_OF_A_CALL = 2
"""The length of the cell that a Call makes: the attempt (the Call while it runs, then the one around it), and the
request. The cell of the short way has two places more (see Inside); its first one becomes None at the end."""


class Inside:
    """An attempt of the short way, around which there is none, as its cell says: its guard, the request, when it began,
    and whether calling it twice does no harm."""

    outer = None

    def __init__(self, guard: DependencyGuard, cell: Cell) -> None:
        self.guard = guard
        self._cell = cell

    @property
    def active(self) -> bool:
        return self._cell[0] is not None

    @property
    def retrier(self) -> Retrier | None:
        return self.guard.retrier if self._cell[3] else None

    def left(self) -> int | None:
        return _left(self.guard, self.guard.timeout, self._cell[2])


def _left(guard: DependencyGuard, limit: int | None, began: int) -> int | None:
    return None if limit is None else max(LEAST, limit - (guard.clock.now() - began))


class Call:
    """One call of a dependency: at most `attempts` attempts, each of which holds a permit of every guard.

    For each attempt `enter` (or `enter_async`), then one of `failed`, `answered` and `end`. Inside an attempt
    of the same dependency a call passes through, so that nothing is guarded twice; inside one of another that
    may be repeated it makes a single attempt, so that attempts do not multiply.
    """

    __slots__ = (
        "_alarm", "_before", "_cell", "_cut", "_until", "active", "attempt", "began", "guard", "limit", "outer",
        "permits", "retrier", "through", "until",
    )  # fmt: skip

    def __init__(self, guard: DependencyGuard, repeatable: bool) -> None:
        around = list(surrounding())
        self.guard = guard
        self.active = False
        self._before = HERE.get()
        self._cell: Cell = [None, self._before[1]]
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
        self._until: int | None = None
        """When its work was done, though it goes on."""
        if self.retrier is not None and self.retrier.within is not None:
            self.until = guard.clock.now() + self.retrier.within

    @classmethod
    def going_on(
        cls, guard: DependencyGuard, cell: Cell, alarm: Alarm | None, terms: Terms, permits: Sequence[object]
    ) -> Call:
        """The call of an attempt that was begun without one, and ends otherwise than it was hoped."""
        cell[0] = None
        call = cls(guard, terms.repeatable)
        call.began, call.limit, call.permits = cell[2], guard.timeout, permits
        call._alarm = alarm
        if call.retrier is not None and call.retrier.within is not None:
            call.until = call.began + call.retrier.within
        return call

    @property
    def name(self) -> str:
        """The dependency's name."""
        return self.guard.name

    @property
    def request(self) -> Request | None:
        """The request that it is made for."""
        request: Request | None = self._cell[1]
        return request

    def enter(self) -> None:
        """Begin an attempt; raises DependencyError when a guard refuses it."""
        permits: list[object] = []
        if self.through is None:
            try:
                left = self._allow()
                for guard in self.guard.guards:
                    permits.append(guard.enter(left))  # noqa: PERF401 - known when the next one refuses
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
                left = self._allow()
                for guard in self.guard.guards:
                    permits.append(await guard.enter_async(left))  # noqa: PERF401 - as in `enter`
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

    @property
    def watched(self) -> bool:
        """Whether anything ends the attempt with its timeout."""
        return self._alarm is not None

    def lift(self) -> None:
        """Let the attempt go on, whatever its timeout."""
        self._timeout(None)

    def let_run(self) -> None:
        """Its work is done, though it goes on: nothing ends it from now on, and what follows is not its time."""
        if self._alarm is None or not self._alarm.expired:
            self.lift()
            self.limit = None
            self._until = self.guard.clock.now()

    def outlasted(self, *, streams: bool = False) -> None:
        """It has ended where nothing could end it: say so once, if that was late."""
        if self._until is None:
            self.guard.outlasted(self.began, streams=streams)

    def failed(self, fault: BaseException) -> int | None:
        """The attempt ended with an exception: the pause in ns before the next one, or None: let it out.

        Raises CallTimeout in its place where the attempt's time was up.
        """
        timeout = self._timeout(fault)
        fault = timeout or fault
        leaves = leaves_of(fault)
        self.end(self._outcome(leaves), leaves, fault)
        pause = self._again(leaves, [response_of(one) for one in parts(fault)])
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
        return self._again(leaves, (answer,))

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

    def over(self) -> bool:
        """Whether the attempt's time is up, which nothing says by itself where it has no alarm."""
        left = self.left()
        return left is not None and left <= LEAST

    def progress(self) -> None:
        """A part of the answer came: leases start anew."""
        for guard, permit in zip(self.guard.guards, self.permits, strict=False):
            guard.renew(permit)

    def end(self, outcome: Outcome, leaves: Sequence[Leaf] = (), fault: BaseException | None = None) -> None:
        """Return what the attempt holds, and show how it went."""
        self._step_back()
        if self.through is None:
            permits, self.permits = self.permits, ()
            now = self.guard.clock.now()
            took = (now if self._until is None else self._until) - self.began
            self.guard.leave(permits, outcome, took, now, leaves, fault)

    def _allow(self) -> int | None:
        """Set how long an attempt that begins now may take; what is left for all of them (ns, None: no limit).

        Raises CallTimeout past the deadline.
        """
        guard = self.guard
        if guard.dropped:
            guard.collect()
        self._cut = ""
        self.limit = guard.timeout
        remaining, whose = self._remaining()
        if remaining is not None:
            if remaining < LEAST:
                raise CallTimeout(self.name, "timeout", f"{whose} has passed, or nearly so")
            if self.limit is None or remaining < self.limit:
                self._cut, self.limit = whose, remaining
        return remaining

    def _outcome(self, leaves: Sequence[Leaf]) -> Outcome:
        """How it went; of one that the request's deadline has cut nothing else would tell."""
        outcome = worst(each for each, _ in leaves)
        if outcome is not Outcome.TIMEOUT or not self.over():
            return outcome
        # A dependency that was given less time than is its due is not to blame: the request had no more, or attempts
        # before this one took it. `within` is all that the first one gets.
        if self._cut == _DEADLINE:
            self.guard.troubles.cut(self.limit or 0, self.guard.clock.now())
            return Outcome.CANCELLED
        return Outcome.CANCELLED if self._cut == _WITHIN and self.attempt > 1 else outcome

    def _begin(self, permits: Sequence[object]) -> None:
        self.permits = permits
        self._alarm = None
        self.began = self.guard.clock.now()
        self.active = True
        self._cell[0] = self
        HERE.set(self._cell)
        breaker = self.guard.breaker
        if breaker is not None and not breaker.now_state.passes:
            self.progress()  # a probe may have waited for a place of the bulkhead
            self._settle()

    def _step_back(self) -> None:
        """What follows is no longer inside this attempt; a context that it does not end in learns so when it looks."""
        self.active = False
        self._cell[0] = self.outer
        if HERE.get() is self._cell:
            HERE.set(self._before)

    def _turn_back(self, permits: Sequence[object], fault: BaseException) -> None:
        now = self.guard.clock.now()
        for guard, permit in zip(self.guard.guards, permits, strict=False):
            guard.leave(permit, Outcome.CANCELLED, 0, now)
        if isinstance(fault, DependencyError):
            self.guard.placed(fault)
            self.guard.count("rejected")
        else:
            self.guard.count("cancelled")
        self._settle()

    def _settle(self) -> None:
        """A breaker that was asked to let this in may have turned."""
        if self.guard.troubles.due:
            self.guard.troubles.settle()

    def _timeout(self, fault: BaseException | None) -> CallTimeout | None:
        """Stop the timer; the error to raise where it was the timer that ended the attempt."""
        alarm, self._alarm = self._alarm, None
        if alarm is None or not alarm.end(fault):
            return None
        why = f"{self._cut} came first" if self._cut else "no answer within its timeout"
        timeout = CallTimeout(self.name, "timeout", why)
        timeout.__cause__ = fault
        return timeout

    def _again(self, leaves: Sequence[Leaf], answers: Sequence[object]) -> int | None:
        """The pause before the next attempt, if this end is worth one and it may be made."""
        retrier = self.retrier
        if retrier is None or not retrier.wants(leaves) or any(one.refuses() for one in self.guard.guards):
            return None
        left = self._remaining()[0]
        most = None if left is None else left - LEAST  # so that something is left for the attempt
        pause = retrier.pause(self.attempt, retrier.asked(answers), most)
        self.attempt += 1
        return pause

    def _remaining(self) -> tuple[int | None, str]:
        """What is left for this call (ns; None: no limit), and of which time."""
        deadline, until, whose = context.deadline(), self.until, _WITHIN
        if deadline is not None and (until is None or deadline - MARGIN < until):
            until, whose = deadline - MARGIN, _DEADLINE
        return None if until is None else until - self.guard.clock.now(), whose


def entered(request: Request) -> Cell:
    """Where the code of a request is: perhaps in an attempt, for an app may call another one in its own process."""
    return [_attempt(), request]


def _attempt() -> Around | None:
    """The one that was begun last in this context, over or not; those around it are its `outer` ones."""
    cell = HERE.get()
    first = cell[0]  # another thread may end it meanwhile
    return Inside(first, cell) if first is not None and len(cell) > _OF_A_CALL else first


def surrounding() -> Iterator[Around]:
    """The attempts that surround this code, innermost first."""
    one = _attempt()
    while one is not None:
        if one.active:
            yield one
        one = one.outer
