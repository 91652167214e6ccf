"""A synchronous attempt that outlasts its timeout: it cannot be ended, is counted as what it is, and told of once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import StringIO
from typing import Any

import httpx
import pytest

from mahavishnu.runtime.current import forget, use
from mahavishnu.runtime.service import Service
from mahavishnu.testing import VirtualClock
from tests.runtime.asgi_client import spec_of
from tests.runtime.calls.worlds import ALL, World, all_but

EVENT = "attempt outlasted its timeout"
BREAKER = {**ALL["breaker"], "min_calls": 2, "slow_call": "1s"}
Form = Callable[[World, Callable[[], str]], object]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What services say in their logs about such attempts."""
    log = StringIO()
    made: Any = Service.__init__

    def noted(self: Service, spec: Any, clock: Any, **more: Any) -> None:
        made(self, spec, clock, **{**more, "log_to": log})

    monkeypatch.setattr(Service, "__init__", noted)

    class Lines(list[dict[str, Any]]):
        def __iter__(self) -> Iterator[dict[str, Any]]:
            lines = map(json.loads, log.getvalue().splitlines())
            return (one for one in lines if one["event"] == EVENT)

    return Lines()


def decorated(world: World, work: Callable[[], str]) -> str:
    return world.stripe(work)()


def repeated(world: World, work: Callable[[], str]) -> str:
    return world.stripe(idempotent=True)(work)()


def block(world: World, work: Callable[[], str]) -> str:
    with world.stripe:
        return work()


def loop(world: World, work: Callable[[], str]) -> str:
    for attempt in world.stripe.attempts():
        with attempt:
            return work()
    raise AssertionError


FORMS: list[Form] = [decorated, repeated, block, loop]


def slow(world: World, seconds: float, fault: BaseException | None = None) -> Callable[[], str]:
    """What blocks its thread for so long."""

    def work() -> str:
        world.clock.advance(round(seconds * 10**9))
        if fault is not None:
            raise fault
        return "done"

    return work


@pytest.mark.parametrize("form", FORMS)
def test_a_late_success_is_handed_out_counted_and_told_once(form: Form, told: list[dict[str, Any]]) -> None:
    """Nobody throws away what is there; the log says once that nothing has ended it, and what would."""
    world = World(**all_but(retry=None))
    for _ in range(3):
        assert form(world, slow(world, 3)) == "done"

    assert (world.calls("success"), world.calls("timeout")) == (3, 0)
    (line,) = told
    assert (line["level"], line["dependency"], line["timeout"], line["took"]) == (
        "warning",
        "stripe",
        "2s",
        3.0,
    )
    assert "cannot be ended" in line["help"]
    assert 'dependency("stripe").httpx_client()' in line["help"]
    assert world.at_rest()


@pytest.mark.parametrize("form", FORMS)
def test_what_blocks_a_task_is_told_what_would_end_it(form: Form, told: list[dict[str, Any]]) -> None:
    """There the form itself is the mistake: `with` for `async with`."""
    world = World(**all_but(retry=None))

    async def task() -> object:
        return form(world, slow(world, 3))

    assert asyncio.run(task()) == "done"
    (line,) = told
    assert "was in a task" in line["help"]
    assert "write `async with`, `async for` or `async def`" in line["help"]
    assert "httpx_client" not in line["help"]


def test_a_late_success_is_slow_where_the_spec_says_so() -> None:
    """It opens the breaker as any slow call does."""
    world = World(**all_but(breaker=BREAKER))
    for _ in range(2):
        assert decorated(world, slow(world, 3)) == "done"
    with pytest.raises(world.stripe.Open):
        decorated(world, slow(world, 0))


@pytest.mark.parametrize("form", [decorated, block, loop])
def test_a_late_failure_is_told_too(form: Form, told: list[dict[str, Any]]) -> None:
    """Its client has a timeout, but not this one."""
    world = World(**all_but(retry={"attempts": 1}))
    with pytest.raises(TimeoutError):
        form(world, slow(world, 5, TimeoutError()))
    assert world.calls("timeout") == 1
    assert [one["took"] for one in told] == [5.0]


@pytest.mark.parametrize("seconds", [1, 2, 2.4])
@pytest.mark.parametrize("fault", [None, TimeoutError()])
def test_what_its_client_has_ended_is_no_news(
    seconds: float, fault: TimeoutError | None, told: list[dict[str, Any]]
) -> None:
    """A client with this very timeout is a little later than it."""
    world = World(**all_but(retry=None))
    with suppress(TimeoutError):
        decorated(world, slow(world, seconds, fault))
    assert [*told] == []


def test_nothing_else_is_told_of(told: list[dict[str, Any]]) -> None:
    """What has no timeout; what a task ends; what is read slowly from a client that holds the timeout itself."""
    world = World(others={"bank": {"retry": {"attempts": 2}}}, **ALL)
    bank = type(world.stripe)("bank")
    bank(slow(world, 60))()

    async def forever() -> None:
        await asyncio.Event().wait()

    async def in_a_task() -> None:
        task = asyncio.create_task(world.stripe(forever)())
        await world.clock.settle()
        world.clock.advance("10s")
        with pytest.raises(world.stripe.Timeout):
            await task

    asyncio.run(in_a_task())

    def answer(request: httpx.Request) -> httpx.Response:
        world.clock.advance("3s")  # each of its phases has its own two seconds
        return httpx.Response(200)

    with world.stripe.httpx_client(transport=httpx.MockTransport(answer)) as client:
        assert client.get("http://stripe/").status_code == 200
    assert [*told] == []


def test_a_new_spec_with_the_same_timeout_does_not_tell_it_again(told: list[dict[str, Any]]) -> None:
    """One with another timeout does."""
    clock = VirtualClock(auto=True)
    service = None
    counts: list[int] = []
    for timeout in ("1s", "1s", "2s"):
        spec = spec_of(dependencies={"stripe": {"timeout": timeout}})
        service = Service(spec, clock, before=service)
        forget()
        use(service)
        guard = service.dependencies["stripe"]
        began = clock.now()
        clock.advance("1m")
        guard.outlasted(began)
        counts.append(len([*told]))
    assert counts == [1, 1, 2]
