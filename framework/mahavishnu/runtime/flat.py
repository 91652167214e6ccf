"""The short way of a guarded call of a coroutine function: everything in one coroutine while all is well."""

from __future__ import annotations

import functools
from asyncio import current_task
from collections.abc import Awaitable, Callable
from typing import Any

from mahavishnu.policies.breaker import BreakerGuard
from mahavishnu.policies.bulkhead import BulkheadGuard
from mahavishnu.policies.retry import Retrier
from mahavishnu.policies.throttle import ThrottleGuard
from mahavishnu.policy import Outcome
from mahavishnu.runtime.budget import MARGIN
from mahavishnu.runtime.context import CURRENT
from mahavishnu.runtime.current import AT_WORK
from mahavishnu.runtime.dependency import AROUND, QUICK, Call, DependencyGuard, Inside, Quick
from mahavishnu.runtime.fallback import Operation, call_async
from mahavishnu.runtime.service import Service

_request, _around, _surround = CURRENT.get, AROUND.get, AROUND.set
"""Bound here: to look a method up costs as much as to call it."""
_ONE = Quick.ONE
_Plan = tuple[
    object,
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
    known: Any = (_NOBODY,) + (None,) * 8

    @functools.wraps(function)
    async def made(*args: Any, **kwargs: Any) -> Any:  # noqa: C901, PLR0912, PLR0915 - see above
        nonlocal known
        request = _request()
        service = AT_WORK.service if request is None else request.service
        of, guard, now, timeout, breaker, bulkhead, throttle, retrier, quick = known
        if service is not of or operation.own is not None:
            guard = find(service)
            if guard.stands_by or operation.own is not None:
                return await call_async(guard, operation, args, kwargs)
            known = _plan(service, guard)
            _, guard, now, timeout, breaker, bulkhead, throttle, retrier, quick = known
        around = _around()
        closed: Any = None
        ticket: Any = None
        began = now()
        if (
            (around is not None and not around.over)
            or (
                request is not None
                and request.deadline is not None
                and (timeout is None or request.deadline - MARGIN - began < timeout)
            )
            or (breaker is not None and not (closed := breaker.now_state).passes)
            or (bulkhead is not None and (bulkhead.free <= 0 or bulkhead.waiters))
        ):
            return await guard.call_async(function, terms, *args, **kwargs)
        if bulkhead is not None:
            bulkhead.free -= 1
        if throttle is not None:
            ticket = throttle.try_enter(began)
            if ticket is None:
                if bulkhead is not None:
                    bulkhead.give_back()
                return await guard.call_async(function, terms, *args, **kwargs)
        inside = Inside()
        inside.guard = guard
        inside.over = False
        inside.began = began
        inside.retrier = retrier if repeatable else None
        _surround(inside)
        try:
            if timeout is not None:
                task: Any = current_task()
                inside.task = task
                inside.cancelling = task.cancelling()
                inside.expired = False
                inside.handle = None
                guard.clock.watch(inside, began, timeout)
            answer = await (function(*args, **kwargs) if kwargs else function(*args))
            bad = failed is not None and failed(answer)
        except BaseException as fault:
            call = Call.going_on(inside, terms, guard.held(closed, ticket), None if timeout is None else inside)
            pause = call.failed(fault)
            if pause is None:
                raise
        else:
            inside.over = True
            ended = now()
            if (
                bad
                or (timeout is not None and inside.expired)
                or (type(answer) not in _PLAIN and getattr(answer, "status_code", None) is not None)
            ):
                call = Call.going_on(inside, terms, guard.held(closed, ticket), None if timeout is None else inside)
                pause = call.answered(answer, bad)
                if pause is None:
                    return answer
            else:
                if timeout is not None:
                    inside.due = 0
                    del inside.task
                took = ended - began
                if breaker is not None:
                    if ended < closed.until and took <= breaker.slow_call:
                        closed.fresh += 1
                    else:
                        breaker.leave(closed, Outcome.SUCCESS, took, ended)
                if throttle is not None:
                    throttle.leave(ticket, Outcome.SUCCESS, took, ended)
                if bulkhead is not None:
                    bulkhead.free += 1
                    if bulkhead.waiters:
                        bulkhead.hand_on()
                if retrier is not None and retrier.purse.tokens < retrier.full:
                    retrier.deposit()
                if took <= QUICK:
                    quick.sum += took + _ONE
                else:
                    guard.succeeded(took)
                return answer
        return await guard.go_on(call, pause, function, terms, *args, **kwargs)

    return made


_NOBODY = object()


def _plan(service: Service | None, guard: DependencyGuard) -> _Plan:
    """What a call needs to know, as long as this service is at work."""
    return (
        service or _NOBODY, guard, guard.clock.now, guard.timeout, guard.breaker,
        guard.bulkhead, guard.throttle, guard.retrier, guard.quick,
    )  # fmt: skip
