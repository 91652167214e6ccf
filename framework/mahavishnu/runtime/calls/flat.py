"""The short way of a guarded call of a coroutine function: everything in one coroutine while all is well."""

from __future__ import annotations

import functools
from asyncio import get_running_loop
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from mahavishnu.outcomes.statuses import READERS, status_of
from mahavishnu.policies.timeout import MARGIN
from mahavishnu.protocols import Outcome
from mahavishnu.runtime.calls.alarm import TASK_OF, Alarm
from mahavishnu.runtime.calls.call import Call
from mahavishnu.runtime.calls.dependency import DependencyGuard
from mahavishnu.runtime.calls.fallback import call_async
from mahavishnu.runtime.calls.fitted import fitted
from mahavishnu.runtime.calls.operation import NOBODY, Operation
from mahavishnu.runtime.context import HERE
from mahavishnu.runtime.current import AT_WORK
from mahavishnu.spec import Dependency

if TYPE_CHECKING:
    from mahavishnu.runtime.service import Service

_here, _enter = HERE.get, HERE.set
"""Bound here: to look a method up costs as much as to call it."""
Find = Callable[["Service | None"], DependencyGuard]
Learn = Callable[["Service | None"], tuple[DependencyGuard, bool]]


def guarded(find: Find, operation: Operation, settings: Dependency) -> Callable[..., Awaitable[Any]]:
    """The function of an operation, guarded by whatever `find` finds in the service at work when it is called.

    It is written out for these settings of the dependency: the calls go the long way where a reload adds a policy.
    """
    absent = _absent(settings)
    never = absent.union(*(_WITH.get(name, ()) for name in absent))
    if operation.terms.failed is None:
        never |= {"failed", "bad"}
    learn = functools.partial(_learned, find, operation, absent)
    return fitted(_guarded, operation.function, never)(operation, learn)


_WITH = {"breaker": ("closed",), "timeout": ("task", "alarm"), "gates": ("ticket",)}
"""What a call has only where it has that policy."""


def _absent(settings: Dependency) -> frozenset[str]:
    """What a call lacks under these settings."""
    gates = settings.bulkhead or settings.throttle
    said = {"breaker": settings.breaker, "timeout": settings.timeout, "gates": gates}
    return frozenset(name for name, policy in said.items() if policy is None)


def _guarded(operation: Operation, learn: Learn) -> Callable[..., Awaitable[Any]]:  # noqa: C901, PLR0915
    """The function, guarded by what it may `learn` of the service at work when it is called.

    This is `DependencyGuard.call_async` with its steps written out, as far as they are plain: no call around it, the
    breaker closed and well, a free place in the bulkhead, time for the whole timeout. In every other case, and when
    an attempt does not simply succeed, it hands over to that one. Each step costs a call less, which is most of what
    guarding costs. No lock is taken: what is looked at and changed in one go has no call in between, and CPython
    switches threads at calls and at jumps back only.
    """
    function, repeatable, failed = operation.function, operation.terms.repeatable, operation.terms.failed
    harmless: Any = None
    operation.known = NOBODY, None, None, None, NOBODY.breaker, NOBODY.timeout, NOBODY.gates

    @functools.wraps(function)
    async def made(*args: Any, **kwargs: Any) -> Any:  # noqa: C901, PLR0912, PLR0915 - see above
        nonlocal harmless
        here = _here()
        request = here[1]
        service = AT_WORK.service if request is None else request.service
        of, guard, now, quick, breaker, timeout, gates = operation.known
        if of is not service:
            guard, plain = learn(service)
            if not plain:
                return await call_async(guard, operation, args, kwargs)
            of, now, quick = service or NOBODY, guard.clock.now, guard.quick
            breaker, timeout, gates = guard.breaker, guard.timeout, guard.gates
            operation.known = of, guard, now, quick, breaker, timeout, gates
        closed: Any = None
        ticket: Any = None
        task: Any = None
        alarm: Any = None
        began = now()
        if (
            here[0] is not None
            or (
                request is not None
                and request.deadline is not None
                and (timeout is None or request.deadline - MARGIN - began < timeout)
            )
            or (breaker is not None and not (closed := breaker.now_state).passes)
            # Asked before anything is taken: where no event loop runs it raises.
            or (timeout is not None and (task := TASK_OF(get_running_loop())) is None)
        ):
            return await guard.call_async(function, operation.terms, *args, **kwargs)
        if gates is not None:
            bulkhead, throttle = gates
            if bulkhead is not None:
                if bulkhead.free <= 0 or bulkhead.waiters:
                    return await guard.call_async(function, operation.terms, *args, **kwargs)
                bulkhead.free -= 1
            if throttle is not None:
                ticket = throttle.try_enter(began)
                if ticket is None:
                    if bulkhead is not None:
                        bulkhead.give_back()
                    return await guard.call_async(function, operation.terms, *args, **kwargs)
        inside: Any = [guard, request, began, repeatable]
        _enter(inside)
        try:
            if timeout is not None:
                alarm = Alarm()
                alarm.task = task
                alarm.cancelling = task.cancelling()
                alarm.expired = False
                guard.clock.watch(alarm, task.get_loop(), began, timeout)
            answer = await function(*args, **kwargs)
            bad: bool = failed is not None and failed(answer)
        except BaseException as fault:
            call = Call.going_on(guard, inside, alarm, operation.terms, guard.held(closed, ticket))
            pause = call.failed(fault)
            if pause is None:
                raise
        else:
            inside[0] = None
            ended = now()
            if (
                bad
                or (timeout is not None and alarm.expired)
                or (type(answer) is not harmless and (harmless := _harmless(answer)) is None)
            ):
                call = Call.going_on(guard, inside, alarm, operation.terms, guard.held(closed, ticket))
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
                if took > quick.most:
                    guard.succeeded(closed, took, ended)
                elif breaker is None:
                    quick.calls += 1
                    quick.ns += took
                elif ended < closed.until:
                    closed.fresh += 1
                    closed.ns += took
                else:
                    guard.succeeded(closed, took, ended)
                return answer
        return await guard.go_on(call, pause, function, operation.terms, *args, **kwargs)

    return made


def _learned(
    find: Find, operation: Operation, absent: frozenset[str], service: Service | None
) -> tuple[DependencyGuard, bool]:
    """What guards it in this service, and whether a call of it may go the short way."""
    guard = find(service)
    long = (
        guard.stands_by
        or operation.own is not None
        or not absent <= _absent(guard.settings)
        or (operation.terms.repeatable and guard.hurries)
    )
    return guard, not long


def _harmless(answer: object) -> Any:
    """The type of an answer, where none of that type has a status; NOBODY where this one's is good; else None."""
    kind = type(answer)
    if READERS[kind] is None:
        return kind
    return None if (status_of(answer) or 0) >= 400 else NOBODY
