"""What is dropped after a refusal is bounded: in bytes, in time, and in connections at once."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from itertools import repeat
from typing import Any

import pytest

from mahavishnu.protocols import Message, Receive
from mahavishnu.runtime.requests.linger import BYTES, ROOM, TIME, Linger
from mahavishnu.testing import VirtualClock
from tests.runtime.asgi_client import Answer, collector, harden, limits, run, scope_of, site
from tests.runtime.requests.test_intake import HANG_UP, Client, part

END: Message = {"type": "http.response.body", "body": b""}
STEP = TIME // 10


class World:
    """Refused requests that linger together, and how many bytes were taken of them."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.linger = Linger()
        self.taken = self.asked = 0

    def stay(self, receive: Receive, answer: Answer, **scope: Any) -> Coroutine[Any, Any, None]:
        """One of them."""

        async def counted() -> Message:
            self.asked += 1
            message = await receive()
            self.taken += len(message.get("body", b""))
            return message

        return self.linger(scope_of("POST", **scope), counted, collector(answer), self.clock)

    def client(self, *script: tuple[int, Message]) -> Receive:
        """A client that sends this, then nothing."""
        return Client(self.clock, *script).receive


@pytest.mark.parametrize(
    "script",
    [
        [(0, part(10)), (0, part(20)), (0, part(5, more=False))],
        [(0, part(35)), (0, HANG_UP)],
    ],
)
def test_it_ends_with_what_the_client_sends(script: list[tuple[int, Message]]) -> None:
    """With the body, or with the client: nothing is waited for, and nothing asked for, after that."""

    async def story() -> None:
        world, answer = World(), Answer()
        await world.stay(world.client(*script), answer)
        assert (world.taken, world.asked, answer.messages) == (35, len(script), [END])
        assert world.clock.now() == 0

    run(story())


def test_a_flood_is_dropped_up_to_a_bound() -> None:
    """Of what a server hands over at once, the last part may go beyond."""

    async def story() -> None:
        world, answer = World(), Answer()
        await world.stay(world.client(*repeat((0, part(2**16)), 1000)), answer)
        assert BYTES <= world.taken <= BYTES + 2**16
        assert answer.messages == [END]

    run(story())


@pytest.mark.parametrize("script", [[], [*repeat((STEP, part(1)), 100)]])
def test_silent_and_dripping_clients_are_held_for_the_time_and_no_longer(
    script: list[tuple[int, Message]],
) -> None:
    """A byte now and then does not prolong it."""

    async def story() -> None:
        world, answer = World(), Answer()
        task = asyncio.ensure_future(world.stay(world.client(*script), answer))
        for _ in range(10):
            await world.clock.settle(8)
            assert not task.done()
            world.clock.advance(STEP)
        await asyncio.wait_for(task, 10)
        assert answer.messages == [END]

    run(story())


def test_beyond_the_room_connections_are_closed_as_they_come() -> None:
    """Whatever a flood of silent clients costs, it is that of a few; when they have gone others stay again."""

    async def story() -> None:
        world, late = World(), Answer()
        staying = [asyncio.ensure_future(world.stay(world.client(), Answer())) for _ in range(ROOM)]
        await world.clock.settle(8)
        await world.stay(world.client((0, part(9, more=False))), late)
        assert (world.taken, late.messages) == (0, [END])
        for task in staying[1:]:
            task.cancel()
        await asyncio.gather(*staying[1:], return_exceptions=True)
        await world.stay(world.client((0, part(9, more=False))), late)
        assert (world.taken, late.messages) == (9, [END, END])
        staying[0].cancel()

    run(story())


def test_a_stream_of_http_2_is_not_waited_for() -> None:
    """There the refusal of one stream resets no connection."""

    async def story() -> None:
        world, answer = World(), Answer()
        await world.stay(world.client(), answer, http_version="2")
        assert (world.asked, answer.messages) == (0, [END])

    run(story())


def test_a_client_that_has_gone_is_no_fault() -> None:
    """A server may say so by an OSError when the end is sent."""

    async def gone(_: Message) -> None:
        raise ConnectionResetError

    async def story() -> None:
        world = World()
        await world.linger(scope_of("POST"), world.client((0, HANG_UP)), gone, world.clock)

    run(story())


def test_the_time_of_a_request_is_that_until_its_refusal() -> None:
    """Whoever reads the latencies does not see how long a client went on sending."""

    async def story() -> None:
        house, answer = harden(site(), limits(uploads={"body": "10B"})), Answer()
        receive = Client(house.clock, (STEP, part(1)), (STEP, part(1, more=False))).receive
        scope = scope_of("POST", headers={"content-length": "11"})
        task = asyncio.ensure_future(house.app(scope, receive, collector(answer)))
        await house.clock.settle(8)
        assert (answer.status, answer.json()["status"], answer.complete) == (413, 413, False)
        assert house.app.service.process_state.active == 0
        assert house.lines[-1]["duration_ms"] == 0
        for _ in range(2):
            assert not task.done()
            house.clock.advance(STEP)
            await house.clock.settle(8)
        await asyncio.wait_for(task, 10)
        assert answer.complete
        assert [line["status"] for line in house.lines if line["event"] == "request"] == [413]

    run(story())


@pytest.mark.parametrize("script", [[(0, part(11, more=False))], [(0, part(9)), (0, part(9, more=False))]])
def test_a_body_that_was_read_to_its_end_leaves_nothing_to_wait_for(
    script: list[tuple[int, Message]],
) -> None:
    """Its last part was too much: the answer is sent as one, and the connection is nobody's."""

    async def reads(_: Any, receive: Receive, __: Any) -> None:
        while (await receive()).get("more_body"):
            pass

    async def story() -> None:
        house, answer = harden(reads, limits(uploads={"body": "10B"})), Answer()
        await house.app(scope_of("POST"), Client(house.clock, *script).receive, collector(answer))
        assert (answer.status, len(answer.messages), answer.complete) == (413, 2, True)

    run(story())
