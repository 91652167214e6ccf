"""The short way of a guarded call of a coroutine function: everything in one coroutine while all is well."""

from __future__ import annotations

import functools
from asyncio import Task, current_task
from collections.abc import Awaitable, Callable
from typing import Any, cast

from mahavishnu.policies.breaker import BreakerGuard, Closed
from mahavishnu.policies.bulkhead import BulkheadGuard
from mahavishnu.policies.retry import Retrier
from mahavishnu.policies.throttle import ThrottleGuard
from mahavishnu.policy import Outcome
from mahavishnu.runtime.alarm import Alarm
from mahavishnu.runtime.budget import MARGIN
from mahavishnu.runtime.context import CURRENT
from mahavishnu.runtime.current import AT_WORK
from mahavishnu.runtime.dependency import AROUND, QUICK, Call, DependencyGuard, Inside, Quick
from mahavishnu.runtime.fallback import Operation, call_async
from mahavishnu.runtime.service import Service

_ONE = Quick.ONE
_Plan = tuple[
    Service | None,
    DependencyGuard,
    Callable[[], int],
    int | None,
    BreakerGuard | None,
    BulkheadGuard | None,
    ThrottleGuard | None,
    Retrier | None,
    Quick,
]
_PLAIN = frozenset((type(None), bool, int, float, str, bytes, dict, list, tuple, set))
"""Answers of these types have no status."""


def guarded(  # noqa: C901, PLR0915
    find: Callable[[Service | None], DependencyGuard], operation: Operation
) -> Callable[..., Awaitable[Any]]:
    """The function, guarded by whatever `find` finds in the service at work when it is called.

    This is `DependencyGuard.call_async` with its steps written out, as far as they are plain: no call around it, the
    breaker closed and well, a free place in the bulkhead, time for the whole timeout. In every other case, and when
    an attempt does not simply succeed, it hands over to that one. Each step costs a call less, which is most of what
    guarding costs. No lock is taken: what is looked at and changed in one go has no call in between, and CPython
    switches threads at calls and at jumps back only.
    """
    terms, function = operation.terms, operation.function
    failed, repeatable = terms.failed, terms.repeatable
    known: _Plan | None = None

    @functools.wraps(function)
    async def made(*args: Any, **kwargs: Any) -> Any:  # noqa: C901, PLR0912, PLR0915 - see above
        nonlocal known
        request = CURRENT.get()
        service = (AT_WORK[0] if AT_WORK else None) if request is None else request.service
        if known is None or service is None or service is not known[0]:
            known = _plan(service, find(service))
        service, guard, now, timeout, breaker, bulkhead, throttle, retrier, quick = known
        if guard.stands_by or operation.own is not None:
            return await call_async(guard, operation, args, kwargs)
        around = AROUND.get()
        began = now()
        if (
            (around is not None and (around.active or around.outer is not None))
            or (
                request is not None
                and request.deadline is not None
                and (timeout is None or request.deadline - MARGIN - began < timeout)
            )
            or (breaker is not None and type(breaker.now_state) is not Closed)
            or (bulkhead is not None and (bulkhead.free <= 0 or bulkhead.waiters))
        ):
            return await guard.call_async(function, terms, *args, **kwargs)
        if bulkhead is not None:
            bulkhead.free -= 1
        closed: Any = None if breaker is None else breaker.now_state
        ticket: Any = None
        if throttle is not None:
            ticket = throttle.try_enter(began)
            if ticket is None:
                if bulkhead is not None:
                    bulkhead.give_back()
                return await guard.call_async(function, terms, *args, **kwargs)
        inside = Inside()
        inside.guard = guard
        inside.active = True
        inside.began = began
        inside.retrier = retrier if repeatable else None
        AROUND.set(inside)
        alarm = None
        try:
            if timeout is not None:
                alarm = Alarm()
                alarm.task = task = cast("Task[Any]", current_task())
                alarm.cancelling = task.cancelling()
                alarm.expired = False
                alarm.handle = None
                guard.clock.watch(alarm, began, timeout)
            answer = await function(*args, **kwargs)
            bad = failed is not None and failed(answer)
        except BaseException as fault:
            call = Call.going_on(inside, terms, guard.held(closed, ticket), alarm)
            pause = call.failed(fault)
            if pause is None:
                raise
        else:
            inside.active = False
            ended = now()
            if (
                bad
                or (alarm is not None and alarm.expired)
                or (type(answer) not in _PLAIN and getattr(answer, "status_code", None) is not None)
            ):
                call = Call.going_on(inside, terms, guard.held(closed, ticket), alarm)
                pause = call.answered(answer, bad)
                if pause is None:
                    return answer
            else:
                if alarm is not None:
                    alarm.due = 0
                    del alarm.task
                if breaker is not None:
                    if (
                        closed.well
                        and ended < closed.until
                        and ended - began <= breaker.slow_call
                        and closed is breaker.now_state
                    ):
                        closed.fresh += 1  # type: ignore[union-attr]
                    else:
                        breaker.leave(closed, Outcome.SUCCESS, ended - began, ended)
                if throttle is not None:
                    throttle.leave(ticket, Outcome.SUCCESS, ended - began, ended)
                if bulkhead is not None:
                    bulkhead.free += 1
                    if bulkhead.waiters:
                        bulkhead.hand_on()
                if retrier is not None and retrier.purse.tokens < retrier.full:
                    retrier.deposit()
                ended -= began
                if ended <= QUICK:
                    quick.sum += ended + _ONE
                else:
                    guard.succeeded(ended)
                return answer
        return await guard.go_on(call, pause, function, terms, *args, **kwargs)

    return made


def _plan(service: Service | None, guard: DependencyGuard) -> _Plan:
    """What a call needs to know, as long as this service is at work."""
    return (
        service, guard, guard.clock.now, guard.timeout, guard.breaker,
        guard.bulkhead, guard.throttle, guard.retrier, guard.quick,
    )  # fmt: skip
