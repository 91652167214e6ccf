"""The short way of a guarded call of a coroutine function: everything in one coroutine while all is well."""

from __future__ import annotations

import functools
from asyncio import get_running_loop
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from mahavishnu.policies.breaker import BreakerGuard
from mahavishnu.policies.bulkhead import BulkheadGuard
from mahavishnu.policies.retry import FULL, Purse
from mahavishnu.policies.throttle import ThrottleGuard
from mahavishnu.policy import Outcome
from mahavishnu.runtime.budget import MARGIN
from mahavishnu.runtime.calls.alarm import TASK_OF, Alarm
from mahavishnu.runtime.calls.call import AROUND, Call
from mahavishnu.runtime.calls.dependency import QUICK, DependencyGuard, Quick
from mahavishnu.runtime.calls.fallback import Operation, call_async
from mahavishnu.runtime.calls.fitted import fitted
from mahavishnu.runtime.context import CURRENT
from mahavishnu.runtime.current import AT_WORK
from mahavishnu.spec import Dependency

if TYPE_CHECKING:
    from mahavishnu.runtime.service import Service

_request, _around, _surround = CURRENT.get, AROUND.get, AROUND.set
"""Bound here: to look a method up costs as much as to call it."""
Find = Callable[["Service | None"], DependencyGuard]
_Plan = tuple[
    object,
    DependencyGuard,
    Callable[[], int],
    Quick,
    BreakerGuard | None,
    Purse | None,
    int | None,
    tuple[BulkheadGuard | None, ThrottleGuard | None] | None,
]
_PLAIN = frozenset((type(None), bool, int, float, str, bytes, dict, list, tuple, set))
"""Answers of these types have no status."""


def guarded(find: Find, operation: Operation, settings: Dependency) -> Callable[..., Awaitable[Any]]:
    """The function of an operation, guarded by whatever `find` finds in the service at work when it is called.

    It is written out for these settings of the dependency: the calls go the long way where a reload adds a policy.
    """
    absent = _absent(settings)
    never = absent if operation.terms.failed else absent | {"failed"}
    return fitted(_guarded, operation.function, never)(find, operation, absent)


def _absent(settings: Dependency) -> frozenset[str]:
    """What is None in every plan of these settings."""
    gates = settings.bulkhead or settings.throttle
    said = {"breaker": settings.breaker, "purse": settings.retry, "timeout": settings.timeout, "gates": gates}
    return frozenset(name for name, policy in said.items() if policy is None)


def _guarded(  # noqa: C901, PLR0915
    find: Find, operation: Operation, absent: frozenset[str]
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
    known: Any = (_NOBODY,) + (None,) * 7

    @functools.wraps(function)
    async def made(*args: Any, **kwargs: Any) -> Any:  # noqa: C901, PLR0912, PLR0915 - see above
        nonlocal known
        request = _request()
        service = AT_WORK.service if request is None else request.service
        of, guard, now, quick, breaker, purse, timeout, gates = known
        if service is not of or operation.own is not None:
            guard = find(service)
            if (
                guard.stands_by
                or operation.own is not None
                or not absent <= _absent(guard.settings)
                or (repeatable and guard.hurries)
            ):
                return await call_async(guard, operation, args, kwargs)
            known = _plan(service, guard)
            _, guard, now, quick, breaker, purse, timeout, gates = known
        around = _around()
        closed: Any = None
        ticket: Any = None
        task: Any = None
        alarm: Any = None
        began = now()
        if (
            around[0] is not None
            or (
                request is not None
                and request.deadline is not None
                and (timeout is None or request.deadline - MARGIN - began < timeout)
            )
            or (breaker is not None and not (closed := breaker.now_state).passes)
            # Asked before anything is taken: where no event loop runs it raises.
            or (timeout is not None and (task := TASK_OF(get_running_loop())) is None)
        ):
            return await guard.call_async(function, terms, *args, **kwargs)
        if gates is not None:
            bulkhead, throttle = gates
            if bulkhead is not None:
                if bulkhead.free <= 0 or bulkhead.waiters:
                    return await guard.call_async(function, terms, *args, **kwargs)
                bulkhead.free -= 1
            if throttle is not None:
                ticket = throttle.try_enter(began)
                if ticket is None:
                    if bulkhead is not None:
                        bulkhead.give_back()
                    return await guard.call_async(function, terms, *args, **kwargs)
        inside: Any = [guard, began, repeatable]
        _surround(inside)
        try:
            if timeout is not None:
                alarm = Alarm()
                alarm.task = task
                alarm.cancelling = task.cancelling()
                alarm.expired = False
                guard.clock.watch(alarm, began, timeout)
            answer = await function(*args, **kwargs)
            bad = failed is not None and failed(answer)
        except BaseException as fault:
            call = Call.going_on(guard, inside, alarm, terms, guard.held(closed, ticket))
            pause = call.failed(fault)
            if pause is None:
                raise
        else:
            inside[0] = None
            ended = now()
            if (
                bad
                or (timeout is not None and alarm.expired)
                or (type(answer) not in _PLAIN and getattr(answer, "status_code", None) is not None)
            ):
                call = Call.going_on(guard, inside, alarm, terms, guard.held(closed, ticket))
                pause = call.answered(answer, bad)
                if pause is None:
                    return answer
            else:
                if timeout is not None:
                    alarm.due = 0
                    del alarm.task
                took = ended - began
                if gates is not None:
                    bulkhead, throttle = gates
                    if throttle is not None:
                        throttle.leave(ticket, Outcome.SUCCESS, took, ended)
                    if bulkhead is not None:
                        bulkhead.free += 1
                        if bulkhead.waiters:
                            bulkhead.hand_on()
                if purse is not None and purse.tokens < FULL:
                    guard.deposit()
                if took > QUICK:
                    guard.succeeded(closed, took, ended)
                elif breaker is None:
                    quick.calls += 1
                    quick.ns += took
                elif ended < closed.until and took <= breaker.slow_call:
                    closed.fresh += 1
                    closed.ns += took
                else:
                    guard.succeeded(closed, took, ended)
                return answer
        return await guard.go_on(call, pause, function, terms, *args, **kwargs)

    return made


_NOBODY = object()


def _plan(service: Service | None, guard: DependencyGuard) -> _Plan:
    """What a call needs to know, as long as this service is at work."""
    purse = None if guard.retrier is None else guard.retrier.purse
    gates = (guard.bulkhead, guard.throttle) if guard.bulkhead or guard.throttle else None
    return service or _NOBODY, guard, guard.clock.now, guard.quick, guard.breaker, purse, guard.timeout, gates
