"""Bodies that drip: judged by the time in which somebody waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mahavishnu.clock import SystemClock
from mahavishnu.protocols import Message
from mahavishnu.runtime.requests.intake import GRACE, BodyTooSlow, Intake, patience
from mahavishnu.testing import VirtualClock
from tests.runtime.asgi_client import run

SECOND = 10**9


def part(size: int, *, more: bool = True) -> Message:
    """A part of a body."""
    return {"type": "http.request", "body": b"x" * size, "more_body": more}


HANG_UP: Message = {"type": "http.disconnect"}


class Client:
    """Sends its messages, each after so long; then nothing, for ever."""

    def __init__(self, clock: VirtualClock, *script: tuple[int, Message]) -> None:
        self.clock = clock
        self.script = list(script)
        self.cancelled = 0

    async def receive(self) -> Message:
        """What the server hands to the app."""
        try:
            if not self.script:
                await asyncio.Event().wait()
            delay, message = self.script[0]
            if delay:
                await self.clock.sleep(delay)
            self.script.pop(0)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        else:
            return message


class World:
    """An intake at work, and how often it was late."""

    def __init__(self, *script: tuple[int, Message], **settings: Any) -> None:
        self.clock = VirtualClock()
        self.client = Client(self.clock, *script)
        self.late = 0
        said: dict[str, Any] = {"within": None, "rate": None, **settings}
        self.intake = Intake(self.client.receive, self.clock, self._count, **said)

    def _count(self) -> None:
        self.late += 1

    async def read(self) -> int:
        """A handler that reads the whole body."""
        size = 0
        while True:
            message = await self.intake()
            size += len(message.get("body", b""))
            if message["type"] == "http.disconnect" or not message["more_body"]:
                return size

    async def passing(self, work: Coroutine[Any, Any, Any], seconds: int = 60) -> Any:
        """Let virtual time pass until the work is done, a tenth of a second at a time."""
        task = asyncio.ensure_future(work)
        for _ in range(seconds * 10):
            await self.clock.settle(8)
            if task.done():
                break
            self.clock.advance(SECOND // 10)
        return await task


async def test_a_body_that_arrives_in_time_is_read_whole() -> None:
    """To the very moment; no timer is left."""
    world = World((SECOND, part(10)), (4 * SECOND, part(10, more=False)), within=5 * SECOND + 1)
    assert await world.passing(world.read()) == 20
    assert (world.late, world.clock.timers, world.intake.slow) == (0, 0, False)


async def test_a_body_that_drips_is_ended_when_its_time_is_over() -> None:
    """However busily it drips; the app gets the same answer each time it asks again."""
    world = World(*[(SECOND // 2, part(1))] * 100, within=5 * SECOND)
    with pytest.raises(BodyTooSlow):
        await world.passing(world.read())
    assert (world.clock.now() // SECOND, world.late, world.client.cancelled) == (5, 1, 1)
    for _ in range(3):
        with pytest.raises(BodyTooSlow):
            await world.intake()
    assert (world.late, world.clock.timers) == (1, 0)


async def test_a_rate_is_judged_over_the_whole_body_with_some_grace() -> None:
    """100 B/s: silence costs five seconds; what came quickly buys time for a pause, bursts are no offence."""
    silent = World(rate=100)
    with pytest.raises(BodyTooSlow):
        await silent.passing(silent.read())
    assert silent.clock.now() == GRACE
    pausing = World((0, part(1000)), (9 * SECOND, part(0)), (9 * SECOND, part(0, more=False)), rate=100)
    with pytest.raises(BodyTooSlow):
        await pausing.passing(pausing.read())
    assert pausing.clock.now() == 10 * SECOND + GRACE
    steady = World(*[(4 * SECOND, part(400))] * 10, (0, part(0, more=False)), rate=100)
    assert await steady.passing(steady.read()) == 4000
    dripping = World(*[(4 * SECOND, part(360))] * 10, rate=100)
    with pytest.raises(BodyTooSlow):
        await dripping.passing(dripping.read())
    assert dripping.clock.now() == 158 * SECOND // 10


@given(st.integers(0, 10**9), st.integers(1, 10**12), st.integers(1, 10**9))
def test_patience_grows_with_what_has_come_and_ends_at_the_deadline(
    read: int, within: int, rate: int
) -> None:
    """The stricter of the two holds, and a byte more never shortens it."""
    both = patience(read, within, rate)
    assert both == min(patience(read, within, None), patience(read, None, rate))
    assert patience(read, None, rate) >= GRACE
    assert patience(read + 1, within, rate) >= both


async def test_an_app_that_is_slow_to_read_blames_nobody() -> None:
    """A minute of work between two parts is not the client's."""
    world = World((0, part(1)), (SECOND, part(1)), (SECOND, part(1, more=False)), within=3 * SECOND, rate=1)

    async def slow() -> None:
        for _ in range(3):
            await world.intake()
            await world.clock.sleep(60 * SECOND)

    await world.passing(slow(), 300)
    assert world.late == 0


async def test_a_client_that_hangs_up_was_not_slow() -> None:
    """It is told to the app, and nothing is counted; nor when it stays silent after the whole body."""
    world = World((SECOND, part(1)), (SECOND, HANG_UP), (90 * SECOND, HANG_UP), within=3 * SECOND)
    assert await world.passing(world.read()) == 1
    whole = World((SECOND, part(1, more=False)), (90 * SECOND, HANG_UP), within=3 * SECOND)
    assert await whole.passing(whole.read()) == 1
    for one in (world, whole):
        assert await one.passing(one.intake(), 100) is HANG_UP
        assert (one.late, one.clock.timers) == (0, 0)


async def test_observing_counts_once_and_reads_on() -> None:
    """What would have been refused is read to its end."""
    world = World(*[(SECOND, part(1))] * 9, (0, part(1, more=False)), within=2 * SECOND, enforced=False)
    assert await world.passing(world.read()) == 10
    assert (world.late, world.clock.timers, world.client.cancelled) == (1, 0, 0)


@pytest.mark.parametrize("enforced", [True, False])
async def test_a_cancellation_from_outside_stays_one(enforced: bool) -> None:
    """The server gives the request up: no timer is left, nothing is counted, and it can be asked again."""
    world = World((SECOND, part(7, more=False)), within=3 * SECOND, enforced=enforced)
    task = asyncio.ensure_future(world.intake())
    await world.clock.settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (world.late, world.clock.timers) == (0, 0)
    assert await world.passing(world.read()) == 7


async def test_both_cancellations_in_one_moment() -> None:
    """The outer one is passed on, as asyncio has it."""
    world = World(within=SECOND)
    task = asyncio.ensure_future(world.intake())
    await world.clock.settle()
    world.clock.advance(SECOND)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_timeout_of_the_server_is_its_own() -> None:
    """Only the limit's own time becomes the limit's error."""

    async def receive() -> Message:
        raise TimeoutError("the socket")

    intake = Intake(receive, VirtualClock(), lambda: None, within=SECOND, rate=None)
    with pytest.raises(TimeoutError, match="the socket"):
        await intake()


def test_the_real_clock_ends_it_too() -> None:
    """The same on the event loop's own time, whether the first part is missing or a later one."""

    async def scenario(parts: int) -> None:
        script = iter([part(1)] * parts)

        async def receive() -> Message:
            for message in script:
                return message
            await asyncio.Event().wait()
            raise AssertionError("unreachable")

        intake = Intake(receive, SystemClock(), lambda: None, within=10**7, rate=None)
        for _ in range(parts):
            await intake()
        with pytest.raises(BodyTooSlow):
            await intake()

    run(scenario(0))
    run(scenario(3))
