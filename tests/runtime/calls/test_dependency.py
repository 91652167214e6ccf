"""A guarded call in each of its forms: what is repeated, what is counted, what is returned, when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import inspect
import itertools
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator
from contextlib import AsyncExitStack, ExitStack, suppress
from contextvars import copy_context
from io import StringIO
from typing import Any

import httpx
import pytest

import mahavishnu
from mahavishnu.asgi import Hardening
from mahavishnu.dependencies import Dependency
from mahavishnu.errors import BreakerOpen, BulkheadFull, CallTimeout
from mahavishnu.policies.retry import RESERVE
from mahavishnu.policies.timeout import MARGIN
from mahavishnu.protocols import Outcome
from mahavishnu.runtime.budget import LEAST
from mahavishnu.runtime.calls.call import surrounding
from mahavishnu.runtime.context import deadline
from mahavishnu.testing import VirtualClock
from tests.figures import FULL, figure
from tests.runtime.asgi_client import Message, Receive, Send, call, spec_of
from tests.runtime.calls.worlds import ALL, SECOND, World, all_but, serving


class Flaky:
    """Fails so often, then answers; sync and async."""

    def __init__(self, failures: int, fault: Callable[[], BaseException] = ConnectionError) -> None:
        self.failures, self.fault, self.calls = failures, fault, 0

    def call(self, answer: str = "ok") -> str:
        """What is called."""
        self.calls += 1
        if self.calls <= self.failures:
            raise self.fault()
        return answer

    async def call_async(self, answer: str = "ok") -> str:
        """What is awaited."""
        await asyncio.sleep(0)
        return self.call(answer)


# --- decorators -----------------------------------------------------------------------------------


def test_an_idempotent_call_is_repeated_until_it_succeeds() -> None:
    """Two faults, then an answer: three attempts, in both worlds, with a pause between them."""
    world = World()
    flaky, flaky_async = Flaky(2), Flaky(2)
    assert world.stripe(idempotent=True)(flaky.call)("yes") == "yes"
    assert asyncio.run(world.stripe(idempotent=True)(flaky_async.call_async)(answer="yes")) == "yes"
    assert (flaky.calls, flaky_async.calls) == (3, 3)
    assert (world.calls("failure"), world.calls("success"), world.retries("retried")) == (4, 2, 4)
    assert world.clock.now() > 0
    assert world.at_rest()


def test_any_other_call_is_made_once() -> None:
    """Without `idempotent=True` the first fault is the caller's."""
    world = World()
    flaky = Flaky(1)
    with pytest.raises(ConnectionError):
        world.stripe(flaky.call)()
    with pytest.raises(ConnectionError):
        asyncio.run(world.stripe(idempotent=False)(Flaky(1).call_async)())
    assert (flaky.calls, world.retries("retried")) == (1, 0)


def test_the_last_fault_comes_out_when_attempts_are_exhausted() -> None:
    """It is the function's own exception, unwrapped."""
    world = World()
    flaky = Flaky(9, lambda: ConnectionResetError(f"number {flaky.calls}"))
    with pytest.raises(ConnectionResetError, match="number 3"):
        world.stripe(idempotent=True)(flaky.call)()
    assert world.retries("exhausted") == 1


def test_a_decorated_function_looks_like_itself() -> None:
    """Name, docstring, signature and being a coroutine function are kept, methods and partials work."""
    stripe = World().stripe

    class Shop:
        @stripe
        def sync(self, order: int, *, rush: bool = False) -> tuple[int, bool]:
            """Sync."""
            return order, rush

        @stripe(idempotent=True)
        async def later(self, order: int) -> int:
            """Async."""
            return order

    assert Shop.sync.__doc__ == "Sync."
    assert str(inspect.signature(Shop.later)) == "(self, order: 'int') -> 'int'"
    assert inspect.iscoroutinefunction(Shop.later)
    assert Shop().sync(7, rush=True) == (7, True)
    assert asyncio.run(Shop().later(7)) == 7
    assert asyncio.run(stripe(functools.partial(Flaky(0).call_async, "partial"))()) == "partial"


def test_without_asyncio_a_call_fails_and_holds_nothing() -> None:
    """As in a task of trio: time cannot be limited there, and no place of the bulkhead is lost for that."""
    world = World()

    @world.stripe
    async def short() -> None: ...

    @world.stripe
    async def defaulted(_: int = 0) -> None: ...

    async def block() -> None:
        async with world.stripe:
            pass

    for form in (short, defaulted, block) * 2:
        coroutine: Any = form()
        with pytest.raises(RuntimeError, match="no running event loop"):
            coroutine.send(None)
        assert (world.bulkhead.in_flight, [*surrounding()]) == (0, [])
    assert world.at_rest()
    asyncio.run(_await(short))


def test_what_cannot_be_guarded_is_refused_when_it_is_decorated() -> None:
    """Nobody is left unprotected in silence (D22): generators, functions that only return an awaitable."""
    stripe = World().stripe

    async def stream() -> AsyncGenerator[int, None]:
        yield 1

    def numbers() -> Generator[int, None, None]:
        yield 1

    class Stream:
        async def __call__(self) -> AsyncIterator[int]:
            yield 1

    managers = contextlib.contextmanager(numbers), contextlib.asynccontextmanager(stream)
    for generator in (stream, numbers, functools.partial(stream), Stream(), *managers):
        with pytest.raises(TypeError, match="generator"):
            stripe(generator)

    def refused(other: Any, said: str) -> None:
        with pytest.raises(TypeError, match=said):
            stripe(other)

    refused(classmethod(lambda _: 1), "put it below @classmethod")
    refused(staticmethod(lambda: 1), "put it below @staticmethod")
    refused(3, "what can be called, not 3")
    awaitable = Flaky(0).call_async()

    def hand_out() -> Awaitable[str]:
        return awaitable

    hidden = stripe(hand_out)
    with pytest.raises(TypeError, match="async def"):
        asyncio.run(_await(hidden))
    awaitable.close()


def test_a_response_that_says_503_is_repeated_and_counts_as_failed() -> None:
    """A function may hand out its response instead of raising; 5xx is a failure, 404 is not."""
    world = World()
    answers = iter([503, 502, 200, 404])
    get = world.stripe(idempotent=True)(lambda: httpx.Response(next(answers)))
    assert get().status_code == 200
    assert get().status_code == 404
    assert (world.calls("failure"), world.calls("success")) == (2, 2)


def test_a_retry_after_of_the_answer_is_waited_for() -> None:
    """One second asked for is one second waited, at least; one that is too long ends the trying."""
    world = World()
    answers = iter([httpx.Response(503, headers={"retry-after": "1"}), httpx.Response(200)])
    world.stripe(idempotent=True)(lambda: next(answers))()
    assert SECOND <= world.clock.now() <= SECOND + SECOND // 10
    long = httpx.Response(503, headers={"retry-after": "3600"})
    assert world.stripe(idempotent=True)(lambda: long)() is long
    assert world.retries("deadline") == 1


def test_of_a_group_the_longest_retry_after_is_waited_for() -> None:
    """Two requests side by side were told to come back: whoever repeats both waits for the later one."""
    world = World()

    def busy(seconds: str) -> httpx.HTTPStatusError:
        request = httpx.Request("GET", "http://x")
        response = httpx.Response(503, headers={"retry-after": seconds}, request=request)
        return httpx.HTTPStatusError("busy", request=request, response=response)

    faults = iter([ExceptionGroup("both", [busy("1"), ExceptionGroup("deep", [busy("2"), TimeoutError()])])])

    def both() -> str:
        for fault in faults:
            raise fault
        return "done"

    assert world.stripe(idempotent=True)(both)() == "done"
    assert 2 * SECOND <= world.clock.now() <= 2 * SECOND + SECOND // 10


def test_what_is_worth_another_try_pays_for_none() -> None:
    """A dependency that answers 429 throughout succeeds in nothing, though it is well: the reserve, and no more."""
    world = World(retry={"retry_on": [429], "base": "1ms"})
    calls: list[int] = []

    def busy() -> httpx.Response:
        calls.append(1)
        return httpx.Response(429)

    for _ in range(100):
        assert world.stripe(idempotent=True)(busy)().status_code == 429
    assert (len(calls), world.retries("retried")) == (100 + RESERVE, RESERVE)


async def _await(function: Callable[[], Awaitable[object]]) -> object:
    return await function()


# --- timeouts, cancellation, deadlines ------------------------------------------------------------


async def test_an_attempt_ends_with_its_timeout() -> None:
    """After exactly `timeout`, with the typed error that is also a TimeoutError; no timer stays."""
    world = World(auto=False, timeout="2s", breaker={"min_calls": 1}, bulkhead={"concurrency": 1})
    task = asyncio.create_task(world.stripe(_forever)())
    await world.clock.settle()
    world.clock.advance(2 * SECOND - 1)
    await world.clock.settle()
    assert not task.done()
    world.clock.advance(1)
    with pytest.raises(world.stripe.Timeout) as caught:
        await task
    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    assert (world.calls("timeout"), world.breaker.state) == (1, "open")
    assert world.at_rest()


async def _forever() -> None:
    await asyncio.Event().wait()


def test_a_timed_out_attempt_is_repeated() -> None:
    """Each attempt has its own timeout."""
    world = World()
    turns = itertools.count()

    @world.stripe(idempotent=True)
    async def slow_twice() -> str:
        if next(turns) < 2:
            world.clock.advance("5s")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        return "at last"

    assert asyncio.run(slow_twice()) == "at last"
    assert (world.calls("timeout"), world.calls("success")) == (2, 1)
    assert world.at_rest()


def test_a_cancellation_from_outside_is_never_swallowed() -> None:
    """Cancelled alone, or in the same moment as the timeout: the task ends cancelled."""
    for moment in ("alone", "together"):
        world = World(auto=False, **ALL)

        async def scenario(world: World = world, moment: str = moment) -> None:
            task = asyncio.create_task(world.stripe(idempotent=True)(_forever)())
            await world.clock.settle()
            if moment == "together":
                world.clock.advance("2s")
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()

        asyncio.run(scenario())
        assert (world.calls("cancelled"), world.judged()) == (1, 0)
        assert world.at_rest()


def test_a_timeout_does_not_poison_the_task() -> None:
    """After a timeout the task goes on, uncancelled; asyncio.timeout around it still works."""
    world = World(auto=False, timeout="2s")

    async def scenario() -> int:
        async def impatient() -> None:
            with pytest.raises(CallTimeout):
                await world.stripe(_forever)()
            await asyncio.sleep(0)
            task = asyncio.current_task()
            assert task is not None
            assert task.cancelling() == 0
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await world.stripe(_forever)()

        task = asyncio.create_task(impatient())
        await world.clock.settle()
        world.clock.advance("2s")
        await task
        return 1

    assert asyncio.run(scenario()) == 1


async def test_a_task_group_inside_an_attempt_times_out_whole() -> None:
    """Its children are cancelled and the error is the timeout, not a group."""
    world = World(auto=False, timeout="2s")
    ended: list[str] = []

    @world.stripe
    async def fan_out() -> None:
        async def child() -> None:
            try:
                await _forever()
            finally:
                ended.append("child")

        async with asyncio.TaskGroup() as group:
            group.create_task(child())
            group.create_task(child())

    task = asyncio.create_task(fan_out())
    await world.clock.settle()
    world.clock.advance("2s")
    with pytest.raises(CallTimeout):
        await task
    assert ended == ["child", "child"]


async def test_the_requests_deadline_ends_an_attempt_sooner() -> None:
    """What the deadline cut short says nothing about the dependency: it is neutral for the breaker."""
    world = World(auto=False, timeout="2s", breaker={"consecutive_failures": 1})
    with serving(deadline=world.clock.now() + SECOND):
        task = asyncio.create_task(world.stripe(_forever)())
        await world.clock.settle()
        world.clock.advance(SECOND)
        with pytest.raises(CallTimeout, match="deadline"):
            await task
    assert (world.breaker.state, world.calls("cancelled"), world.judged()) == ("closed", 1, 0)


@pytest.mark.parametrize("left", [-SECOND, 0, MARGIN, MARGIN + LEAST - 1])
def test_past_the_deadline_nobody_is_called(left: int) -> None:
    """Neither in a thread nor in a task, nor in its last moment; the refusal is counted as one."""
    world = World()
    flaky = Flaky(0)
    with serving(deadline=world.clock.now() + left):
        with pytest.raises(CallTimeout, match="passed"):
            world.stripe(flaky.call)()
        with pytest.raises(CallTimeout, match="passed"):
            asyncio.run(world.stripe(flaky.call_async)())
    assert (flaky.calls, world.calls("rejected"), world.judged()) == (0, 2, 0)
    assert world.at_rest()


async def test_an_attempt_leaves_the_request_time_to_answer() -> None:
    """What the deadline leaves, less a margin: whoever called can still send a fallback."""
    world = World(auto=False, timeout="2s")
    with serving(deadline=world.clock.now() + SECOND):
        task = asyncio.create_task(world.stripe(_forever)())
        await world.clock.settle()
        world.clock.advance(SECOND - MARGIN - 1)
        await world.clock.settle()
        assert not task.done()
        world.clock.advance(1)
        with pytest.raises(CallTimeout, match="deadline"):
            await task


def test_a_retry_that_does_not_fit_the_deadline_is_not_begun() -> None:
    """The fault comes out at once instead of after a pause that would end too late."""
    world = World(retry={"base": "10s", "max": "10s"})
    flaky = Flaky(1)
    with serving(deadline=MARGIN + LEAST), pytest.raises(ConnectionError):
        world.stripe(idempotent=True)(flaky.call)()
    assert (flaky.calls, world.clock.now(), world.retries("deadline")) == (1, 0, 1)


def test_a_pause_that_leaves_no_time_for_the_attempt_is_not_begun() -> None:
    """What comes out is what went wrong, and not that there was no time to try again; it costs no budget."""
    world = World(retry={"base": "10ms", "max": "10ms"})
    flaky = Flaky(1)
    with serving(deadline=MARGIN + LEAST + 5_000_000 - 1), pytest.raises(ConnectionError):
        world.stripe(idempotent=True)(flaky.call)()
    assert (flaky.calls, world.clock.now(), world.retries("deadline")) == (1, 0, 1)
    assert (world.calls("rejected"), world.retries("retried")) == (0, 0)
    with serving(deadline=MARGIN + LEAST + 5_000_000):
        assert world.stripe(idempotent=True)(Flaky(1).call)() == "ok"


def test_a_thread_that_has_waited_for_a_place_looks_at_the_time_again() -> None:
    """As a task does: what is left is less by then, or nothing."""
    world = World(auto=False, **all_but(retry={"attempts": 1}, bulkhead={"concurrency": 1, "wait": "5s"}))
    calls: list[int | None] = []

    def charge() -> None:
        calls.append(next(iter(surrounding())).left())

    def wait(_: threading.Event, __: int) -> None:
        world.clock.advance(waits.pop(0))
        world.bulkhead.give_back()

    clock: Any = world.clock
    clock.wait = wait
    waits = ["1500ms", "2s"]
    for left in (SECOND // 2 - MARGIN, None):
        world.bulkhead.enter()
        with serving(deadline=world.clock.now() + 2 * SECOND), suppress(CallTimeout):
            world.stripe(charge)()
        assert calls[-1:] == ([] if left is None else [left])
        calls.clear()
    assert (world.calls("success"), world.calls("rejected")) == (1, 1)
    assert world.at_rest()


@pytest.mark.parametrize("ends", ["deadline", "within"])
def test_nobody_waits_for_a_place_beyond_his_time(ends: str) -> None:
    """What waits longer than the call may last waits for nothing; in a task as in a thread."""
    within = {"within": "2s"} if ends == "within" else {}
    bulkhead = {"concurrency": 1, "wait": "30s"}
    world = World(auto=False, timeout="9s", retry={"attempts": 3, **within}, bulkhead=bulkhead)
    world.bulkhead.enter()
    waits: list[int] = []

    async def scenario() -> None:
        with serving(deadline=2 * SECOND + MARGIN if ends == "deadline" else None):
            task = asyncio.ensure_future(world.stripe(idempotent=True)(Flaky(0).call_async)())
            await world.clock.settle()
            world.clock.advance(2 * SECOND - 1)
            await world.clock.settle()
            assert not task.done()
            world.clock.advance(1)
            await world.clock.settle()
            assert task.done()
            with pytest.raises(BulkheadFull):
                await task

    asyncio.run(scenario())

    def wait(_: threading.Event, delay: int) -> None:
        waits.append(delay)

    clock: Any = world.clock
    clock.wait = wait
    with serving(deadline=4 * SECOND + MARGIN if ends == "deadline" else None), pytest.raises(BulkheadFull):
        world.stripe(idempotent=True)(Flaky(0).call)()
    assert waits == [2 * SECOND]
    world.bulkhead.give_back()
    assert world.at_rest()


def test_the_deadline_of_a_request_reaches_the_calls_it_makes() -> None:
    """Until the response starts; a stream that goes on beyond it may still call."""
    spec = spec_of(limits={"request": {"timeout": "5s"}}, dependencies={"stripe": {"timeout": "9s"}})
    left: list[int | None] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        stripe = mahavishnu.dependency("stripe")
        left.append(deadline())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        clock.advance("20s")
        left.append(deadline())
        part = await stripe(Flaky(0).call_async)("part")
        await send({"type": "http.response.body", "body": part.encode()})

    clock = VirtualClock()
    hardened = Hardening(app, spec=spec, clock=clock, log_to=StringIO())
    assert asyncio.run(call(hardened)).body == b"part"
    assert left == [5 * SECOND, None]
    assert deadline() is None


@pytest.mark.parametrize("end", ["answers", "raises", "is cut off"])
async def test_what_a_request_leaves_running_may_still_call(end: str) -> None:
    """However it has ended: its deadline was that of its response, and there is none to wait for."""
    spec = spec_of(limits={"request": {"timeout": "5s"}}, dependencies={"stripe": {"timeout": "9s"}})
    over = asyncio.Event()
    left: list[asyncio.Task[str]] = []

    async def later() -> str:
        await over.wait()
        return await mahavishnu.dependency("stripe")(Flaky(0).call_async)()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        left.append(asyncio.create_task(later()))
        if end == "is cut off":
            await asyncio.Event().wait()
        if end == "raises":
            raise ValueError
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    clock = VirtualClock()
    request = asyncio.ensure_future(call(Hardening(app, spec=spec, clock=clock, log_to=StringIO())))
    await clock.settle()
    clock.advance("20s")
    with suppress(ValueError):
        await request
    over.set()
    assert await left[0] == "ok"


def test_a_call_that_ends_badly_leaves_nothing_for_the_garbage_collector() -> None:
    """Failed, refused, timed out: no error is held by a frame that it holds, so all goes at once."""
    world = World(**all_but(breaker={"consecutive_failures": 2}))

    async def slow() -> None:
        world.clock.advance("3s")
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    # Guarded first: a function of the same name as one of another test takes that one's place, and lets go of it.
    guarded = [world.stripe(function) for function in (Flaky(1).call_async, slow, slow)]

    async def scenario() -> None:
        for function in guarded:
            with contextlib.suppress(ConnectionError, CallTimeout, BreakerOpen):
                await function()

    with asyncio.Runner() as runner:
        runner.run(asyncio.sleep(0))
        gc.collect()
        gc.disable()
        try:
            runner.run(scenario())
            assert gc.collect() == 0
        finally:
            gc.enable()
    assert (world.calls("failure"), world.calls("timeout"), world.calls("rejected")) == (1, 1, 1)


# --- breaker and bulkhead -------------------------------------------------------------------------


def test_an_open_breaker_refuses_before_anything_is_called() -> None:
    """With the exact time to come back; bulkhead and retry budget are untouched."""
    world = World(**all_but(breaker={"consecutive_failures": 1, "open_for": "30s"}))
    with pytest.raises(ConnectionError):
        world.stripe(Flaky(1).call)()
    flaky = Flaky(0)
    with pytest.raises(world.stripe.Open) as caught:
        world.stripe(idempotent=True)(flaky.call)()
    assert (caught.value.retry_after, caught.value.dependency) == (30 * SECOND, "stripe")
    assert (flaky.calls, world.calls("rejected"), world.retries("retried")) == (0, 1, 0)


def test_nothing_is_repeated_once_the_breaker_is_open() -> None:
    """The fault that opened it comes out, at once, and not a refusal after a pause."""
    world = World(**all_but(breaker={"consecutive_failures": 2}))
    flaky = Flaky(9)
    with pytest.raises(ConnectionError):
        world.stripe(idempotent=True)(flaky.call)()
    assert (flaky.calls, world.retries("retried"), world.retries("budget")) == (2, 1, 0)


def test_a_full_bulkhead_refuses_and_the_breaker_learns_nothing() -> None:
    """The breaker is entered first; its permit comes back uncounted."""
    world = World(breaker={"consecutive_failures": 1, "probes": 1}, bulkhead={"concurrency": 1})
    with pytest.raises(ConnectionError):
        world.stripe(Flaky(1).call)()
    world.clock.advance("30s")
    place = world.bulkhead.enter()
    for _ in range(5):
        with pytest.raises(world.stripe.Full):
            world.stripe(Flaky(0).call)()
    assert (world.breaker.state, world.calls("rejected")) == ("half_open", 5)
    world.bulkhead.leave(place, Outcome.CANCELLED, 0, 0)
    assert world.stripe(Flaky(0).call)() == "ok"
    assert world.breaker.state == "closed"


def probing(wait: str) -> World:
    """The next call is the one probe, with a lease of two seconds, and waits for the one place, which is taken."""
    world = World(
        auto=False,
        timeout="2s",
        breaker={"consecutive_failures": 1, "probes": 1, "open_for": "30s"},
        bulkhead={"concurrency": 1, "wait": wait},
    )
    with pytest.raises(ConnectionError):
        world.stripe(Flaky(1).call)()
    world.clock.advance("30s")
    world.bulkhead.enter()
    return world


async def test_a_probe_that_waits_for_a_place_has_all_its_time() -> None:
    """Its lease is as long as its timeout, and both begin when the call does."""
    world = probing("1500ms")

    @world.stripe
    async def charge() -> str:
        await world.clock.sleep(3 * SECOND // 2)
        return "ok"

    probe = asyncio.create_task(charge())
    await world.clock.settle()
    world.clock.advance("1s")
    world.bulkhead.give_back()
    await world.clock.settle()
    world.clock.advance("1500ms")
    assert await probe == "ok"
    assert (world.breaker.state, world.calls("success")) == ("closed", 1)


@pytest.mark.parametrize("ends", ["made", "cancelled", "no place"])
async def test_a_probe_that_was_never_made_is_nothing(ends: str) -> None:
    """It waits for a place longer than its lease: it has not failed, nobody takes its turn, what it held comes back."""
    world = probing("10s")
    charge = world.stripe(Flaky(0).call_async)
    first = asyncio.create_task(charge())
    await world.clock.settle()
    for _ in range(2):
        with pytest.raises(world.stripe.Open):
            await charge()
        world.clock.advance("3s")
    assert (world.breaker.state, world.bulkhead.waiting) == ("half_open", 1)
    if ends == "made":
        world.bulkhead.give_back()
        assert await first == "ok"
    elif ends == "cancelled":
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        world.bulkhead.give_back()
    else:
        world.clock.advance("10s")
        with pytest.raises(world.stripe.Full):
            await first
        world.bulkhead.give_back()
    assert world.breaker.state == ("closed" if ends == "made" else "half_open")
    assert await charge() == "ok"
    assert (world.breaker.state, world.bulkhead.in_flight, world.calls("failure")) == ("closed", 0, 1)


def test_groups_and_interrupts_count_as_they_should() -> None:
    """A group with one failure is one; KeyboardInterrupt and SystemExit propagate and count as nothing."""
    world = World()

    def group() -> None:
        inner = ExceptionGroup("inner", [ValueError(), ConnectionError()])
        raise ExceptionGroup("outer", [ExceptionGroup("middle", [inner])])

    with pytest.raises(ExceptionGroup):
        world.stripe(group)()
    assert (world.calls("failure"), world.judged()) == (1, 1)
    for stop in (KeyboardInterrupt, SystemExit):
        with pytest.raises(stop):
            world.stripe(idempotent=True)(Flaky(9, stop).call)()
    assert (world.calls("cancelled"), world.judged()) == (2, 1)
    assert world.at_rest()


def _herd(calls: int) -> tuple[int, int]:
    """So many calls at once to a half-open breaker with three probes: how many arrive, and are refused."""
    world = World(breaker={"consecutive_failures": 1, "probes": 3}, timeout="2s", auto=False)
    with pytest.raises(ConnectionError):
        world.stripe(Flaky(1).call)()
    world.clock.advance("30s")
    arrived = 0

    async def scenario() -> int:
        gate = asyncio.Event()

        @world.stripe
        async def charge() -> None:
            nonlocal arrived
            arrived += 1
            await gate.wait()

        tasks = [asyncio.create_task(charge()) for _ in range(calls)]
        await world.clock.settle(5)
        gate.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        return sum(isinstance(one, BreakerOpen) for one in results)

    refused = asyncio.run(scenario())
    return arrived, refused


def test_of_ten_thousand_calls_only_the_probes_arrive() -> None:
    """10,000 concurrent calls, three probes: the dependency sees three (D19: others let all through)."""
    assert _herd(10_000) == (3, 9_997)


@pytest.mark.proof
def test_of_ten_thousand_calls_only_the_probes_arrive_every_time() -> None:
    """The same, again and again."""
    runs = 100 if FULL else 5
    arrived = {_herd(10_000)[0] for _ in range(runs)}
    figure(f"breaker: of 10,000 calls at half-open with 3 probes arrive ({runs} runs)", "3", sorted(arrived))
    assert arrived == {3}


def test_threads_share_one_guard() -> None:
    """Sixteen threads, 100 calls each: every call is counted once and no more than four run at once."""
    world = World(bulkhead={"concurrency": 4}, breaker={"min_calls": 10**6})
    lock, running, most, refused = threading.Lock(), [0], [0], [0]

    @world.stripe
    def charge() -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        with lock:
            running[0] -= 1

    def work() -> None:
        for _ in range(100):
            try:
                charge()
            except BulkheadFull:
                with lock:
                    refused[0] += 1

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] <= 4
    assert (world.calls("success"), world.calls("rejected")) == (1600 - refused[0], refused[0])
    assert world.judged() == 1600 - refused[0]


def test_a_throttle_keeps_calls_back_before_they_take_a_place() -> None:
    """429 is no failure for the breaker, and yet a refusal; after ten of them calls are not made at all."""
    world = World(
        throttle={"min_calls": 10}, breaker={"consecutive_failures": 1}, bulkhead={"concurrency": 4}
    )
    flaky = Flaky(0)

    def busy() -> httpx.Response:
        flaky.call()
        return httpx.Response(429)

    for _ in range(100):
        with contextlib.suppress(world.stripe.Throttled):
            world.stripe(busy)()
    assert (world.breaker.state, flaky.calls) == ("closed", 10)
    assert (world.calls("success"), world.calls("rejected")) == (10, 90)
    assert world.at_rest()


def test_an_answer_may_be_called_a_failure() -> None:
    """`failed=` judges answers: they are handed out all the same, and repeated where `result` is worth it."""
    for retry_on, calls in ((["result"], 3), (["timeout"], 1)):
        world = World(**all_but(retry={"attempts": 3, "retry_on": retry_on}))
        declined = Flaky(0)

        def call(declined: Flaky = declined) -> dict[str, bool]:
            declined.call()
            return {"paid": False}

        async def call_async(call: Callable[[], dict[str, bool]] = call) -> dict[str, bool]:
            return call()

        guarded = world.stripe(idempotent=True, failed=lambda answer: not answer["paid"])
        assert guarded(call)() == {"paid": False}
        assert asyncio.run(guarded(call_async)()) == {"paid": False}
        assert (declined.calls, world.calls("failure"), world.calls("success")) == (2 * calls, 2 * calls, 0)
        assert world.at_rest()


def test_a_judge_of_answers_that_fails_fails_the_call() -> None:
    """Its exception comes out, counted once; nothing is held."""
    world = World()
    guarded = world.stripe(failed=lambda answer: answer["paid"])
    with pytest.raises(TypeError):
        guarded(Flaky(0).call)()
    with pytest.raises(TypeError):
        asyncio.run(guarded(Flaky(0).call_async)())
    assert (world.calls("failure"), world.calls("success")) == (2, 0)
    assert world.at_rest()


def test_what_is_worth_another_try_can_be_an_exception_by_its_name() -> None:
    """With its subclasses, and nothing else."""
    world = World(retry={"retry_on": ["LookupError"]})
    for fault, calls in ((KeyError, 3), (ValueError, 1)):
        flaky = Flaky(9, fault)
        with pytest.raises(fault):
            world.stripe(idempotent=True)(flaky.call)()
        assert flaky.calls == calls


def test_all_attempts_together_end_with_within() -> None:
    """No attempt is begun that could not end in time, and the last one is cut; the request has all the time."""
    world = World(auto=False, **all_but(retry={"attempts": 9, "base": "1ms", "max": "1ms", "within": "5s"}))
    ended: list[int] = []

    @world.stripe(idempotent=True)
    async def slow() -> None:
        try:
            await _forever()
        finally:
            ended.append(world.clock.now())

    world.clock.advance(SECOND)
    asyncio.run(_in_steps(world, slow))
    assert [round((at - SECOND) / SECOND, 1) for at in ended] == [2.0, 4.0, 5.0]
    assert (world.calls("timeout"), world.calls("cancelled")) == (2, 1)
    assert world.at_rest()


def test_a_first_attempt_that_takes_all_of_within_has_failed() -> None:
    """Nobody else took of its time: breaker and series hear of a dependency that hangs, whatever ends its calls."""
    hurried = {"retry": {"attempts": 3, "within": "300ms"}, "breaker": {"consecutive_failures": 2}}
    whole: list[dict[str, Any]] = [hurried, {"timeout": "10s", **hurried}]
    for said in whole:
        world = World(auto=False, **said)
        slow = world.stripe(idempotent=True)(_forever)
        for _ in range(2):
            asyncio.run(_in_steps(world, slow))
        assert (world.calls("timeout"), world.calls("cancelled")) == (2, 0)
        assert world.breaker.state == "open"


async def _in_steps(world: World, slow: Callable[[], Awaitable[None]]) -> None:
    task = asyncio.ensure_future(slow())
    while not task.done():
        await world.clock.settle(5)
        world.clock.advance(SECOND // 1000)
    with pytest.raises(CallTimeout, match="within"):
        await task


# --- blocks and explicit loops --------------------------------------------------------------------


async def test_a_block_is_guarded_and_not_repeated() -> None:
    """Sync and async, nested in exit stacks and in each other: judged once, everything returned."""
    world = World()
    with world.stripe:
        assert world.bulkhead.in_flight == 1
    with pytest.raises(ConnectionError), world.stripe:
        raise ConnectionError
    async with world.stripe:
        assert world.bulkhead.in_flight == 1
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(world.stripe)
    with pytest.raises(ConnectionError):
        async with world.stripe:
            raise ConnectionError
    assert (world.calls("success"), world.calls("failure"), world.retries("retried")) == (3, 2, 0)
    assert world.at_rest()


async def test_blocks_of_many_tasks_do_not_meet() -> None:
    """One object is shared by all tasks; each block ends its own call, and a timeout ends only its own."""
    world = World(auto=False, timeout="2s", bulkhead={"concurrency": 10})

    async def one(number: int) -> str:
        try:
            async with world.stripe:
                await world.clock.sleep(number * SECOND)
        except CallTimeout:
            return "timeout"
        return "done"

    tasks = [asyncio.create_task(one(number)) for number in range(5)]
    for _ in range(5):
        await world.clock.settle()
        world.clock.advance(SECOND)
    assert await asyncio.gather(*tasks) == ["done", "done", "timeout", "timeout", "timeout"]
    assert (world.calls("success"), world.calls("timeout")) == (2, 3)
    assert world.at_rest()


def test_blocks_of_generators_may_end_in_any_order() -> None:
    """Two generators, whose blocks overlap without one being inside the other: nothing is left behind."""
    world = World(others={"a": {"retry": {}}}, **ALL)
    other = mahavishnu.dependency("a")

    def block(dependency: Dependency) -> Generator[None, None, None]:
        with dependency:
            yield

    for _ in range(3):
        first, second = block(world.stripe), block(other)
        next(first)
        next(second)
        assert len(list(surrounding())) == 2
        assert list(first) == []
        assert list(second) == []
    assert (list(surrounding()), world.calls("success"), world.calls("success", "a")) == ([], 3, 3)
    assert world.at_rest()


def test_a_block_of_a_generator_may_end_in_another_context() -> None:
    """As servers end those of dependencies and of streamed answers: its own call ends, and no other one."""
    world = World()

    def block() -> Generator[None, None, None]:
        with world.stripe, world.stripe:
            yield

    first, second = block(), block()
    copy_context().run(next, first)
    copy_context().run(next, second)
    with world.stripe:
        assert world.bulkhead.in_flight == 3
        with pytest.raises(LookupError):
            first.throw(LookupError())
        copy_context().run(second.close)
        assert (world.bulkhead.in_flight, len([*surrounding()])) == (1, 1)
    assert (world.calls("success"), world.calls("failure"), world.calls("cancelled")) == (1, 1, 1)
    assert world.at_rest()


def test_a_block_of_an_async_generator_that_is_given_up_returns_its_place() -> None:
    """Its consumer is cancelled, and somebody else closes it: he who has it, or the event loop."""
    world = World(auto=False, **ALL)

    async def stream() -> AsyncIterator[int]:
        async with world.stripe:
            yield 1

    async def consume(numbers: AsyncIterator[int]) -> None:
        async for _ in numbers:
            await _forever()

    async def scenario() -> None:
        kept: Any = stream()
        tasks = [asyncio.create_task(consume(one)) for one in (kept, stream())]
        await asyncio.sleep(0)
        assert world.bulkhead.in_flight == 2
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await kept.aclose()

    asyncio.run(scenario())
    assert world.at_rest()


def test_a_stack_in_a_generator_may_end_in_another_context() -> None:
    """What it enters for a generator is that one's block."""
    world = World()

    def block() -> Generator[None, None, None]:
        with ExitStack() as stack:
            stack.enter_context(world.stripe)
            yield

    async def async_block() -> AsyncIterator[int]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(world.stripe)
            yield 1

    async def scenario() -> None:
        async def begin() -> int:
            return await anext(numbers)

        numbers: Any = async_block()
        await asyncio.create_task(begin())
        assert world.bulkhead.in_flight == 1
        await numbers.aclose()

    one = block()
    copy_context().run(next, one)
    assert list(one) == []
    asyncio.run(scenario())
    assert world.calls("success") == 1
    assert world.at_rest()


def test_a_block_that_another_function_enters_is_known_by_its_context() -> None:
    """A class of one's own around it, used by many tasks at once: each leaves the call that it has entered."""
    world = World(auto=False, timeout="2s", bulkhead={"concurrency": 10})
    stripe: Any = world.stripe

    class Session:
        async def __aenter__(self) -> None:
            await stripe.__aenter__()

        async def __aexit__(self, *ended: object) -> None:
            await stripe.__aexit__(*ended)

    async def one(number: int) -> None:
        async with Session():
            await world.clock.sleep(number * SECOND)

    async def scenario() -> list[BaseException | None]:
        tasks = [asyncio.create_task(one(number)) for number in range(4)]
        for _ in range(4):
            await world.clock.settle()
            world.clock.advance(SECOND)
        return await asyncio.gather(*tasks, return_exceptions=True)

    ends = [type(end) for end in asyncio.run(scenario())]
    assert ends == [type(None), type(None), CallTimeout, CallTimeout]
    assert world.at_rest()


def test_a_block_that_never_began_says_so() -> None:
    """Nothing tells which call it should end."""
    world = World()
    with pytest.raises(RuntimeError, match="context"):
        world.stripe.__exit__(None, None, None)


def test_an_explicit_loop_retries_what_is_inside() -> None:
    """`for` and `async for` give numbered attempts, keep back what is tried again, and end with success."""
    world = World()
    numbers: list[int] = []
    for attempt in world.stripe.attempts():
        with attempt:
            numbers.append(attempt.number)
            if attempt.number < 3:
                raise TimeoutError

    async def scenario() -> str:
        async for attempt in world.stripe.attempts():
            with attempt:
                numbers.append(attempt.number)
                if attempt.number < 2:
                    raise ConnectionError
                return "answer"
        raise AssertionError

    assert asyncio.run(scenario()) == "answer"
    assert numbers == [1, 2, 3, 1, 2]
    assert world.at_rest()


def test_an_explicit_loop_raises_what_the_last_attempt_raised() -> None:
    """Exhausted, not worth repeating, or timed out: the error comes out of the block."""
    world = World()
    tries: list[int] = []

    def all_fail(fault: Exception) -> None:
        for attempt in world.stripe.attempts():
            with attempt:
                tries.append(attempt.number)
                raise fault

    with pytest.raises(ConnectionError):
        all_fail(ConnectionError())
    with pytest.raises(ValueError, match="wrong"):
        all_fail(ValueError("wrong"))
    assert tries == [1, 2, 3, 1]

    async def slow() -> None:
        async for attempt in world.stripe.attempts():
            with attempt:
                world.clock.advance("3s")
                await asyncio.sleep(0)
                await asyncio.sleep(0)

    with pytest.raises(CallTimeout):
        asyncio.run(slow())
    assert world.calls("timeout") == 3
    assert world.at_rest()


def test_an_attempt_that_is_not_used_is_an_error() -> None:
    """Forgetting `with attempt:` is told, and holds nothing."""
    world = World()
    with pytest.raises(RuntimeError, match="with attempt"):
        for _ in world.stripe.attempts():
            pass
    assert world.at_rest()


def test_an_attempt_that_is_given_up_before_it_is_used_holds_nothing() -> None:
    """Left between the loop and its `with`: the place is free, and no alarm cancels what the task does next."""
    world = World(auto=False, **ALL)

    def leave() -> None:
        for _ in world.stripe.attempts():
            raise LookupError

    with pytest.raises(LookupError):
        leave()
    assert world.at_rest()

    async def left() -> None:
        async for _ in world.stripe.attempts():
            raise LookupError

    async def scenario() -> None:
        for _ in range(9):  # more than there are places
            with pytest.raises(LookupError):
                await left()
        world.clock.advance("3s")
        await world.clock.settle()
        async for _ in world.stripe.attempts():
            break
        world.clock.advance("3s")
        await world.clock.settle()

    asyncio.run(scenario())
    assert world.at_rest()
    assert not list(surrounding())


# --- layers ---------------------------------------------------------------------------------------


def test_three_layers_of_three_attempts_make_three_calls() -> None:
    """Only the outermost repeats: 3 calls of a dead backend, not 27; in both worlds."""
    plain: dict[str, Any] = {"retry": {"attempts": 3, "budget": "100%"}}
    world = World(others={"a": plain, "b": plain}, **plain)
    a, b = mahavishnu.dependency("a"), mahavishnu.dependency("b")
    dead, dead_async = Flaky(999), Flaky(999)

    @a(idempotent=True)
    def outer() -> str:
        return middle()

    @b(idempotent=True)
    def middle() -> str:
        return world.stripe(idempotent=True)(dead.call)()

    @a(idempotent=True)
    async def outer_async() -> str:
        async for attempt in b.attempts():
            with attempt:
                return await asyncio.create_task(world.stripe(idempotent=True)(dead_async.call_async)())
        raise AssertionError

    with pytest.raises(ConnectionError):
        outer()
    with pytest.raises(ConnectionError):
        asyncio.run(outer_async())
    assert (dead.calls, dead_async.calls) == (3, 3)


def test_a_task_that_outlives_the_attempt_retries_by_itself() -> None:
    """What was started inside an attempt and goes on after it is no longer a layer of it."""
    world = World(others={"a": {"retry": {}}}, retry={})
    flaky = Flaky(2)

    async def scenario() -> str:
        over = asyncio.Event()

        async def later() -> str:
            await over.wait()
            return await world.stripe(idempotent=True)(flaky.call_async)()

        @mahavishnu.dependency("a")(idempotent=True)
        async def start() -> asyncio.Task[str]:
            return asyncio.create_task(later())

        task = await start()
        over.set()
        return await task

    assert asyncio.run(scenario()) == "ok"


def test_the_same_dependency_inside_itself_is_guarded_once() -> None:
    """A client used inside a decorated function takes no second place, and one call is judged once."""
    world = World(**all_but(bulkhead={"concurrency": 1}))
    client = world.stripe.httpx_client(transport=httpx.MockTransport(lambda _: httpx.Response(200)))

    @world.stripe
    def charge() -> int:
        with world.stripe:
            return client.get("https://x/").status_code

    assert charge() == 200
    assert (world.calls("success"), world.judged()) == (1, 1)
    assert world.at_rest()
