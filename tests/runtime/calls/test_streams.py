"""Blocks in generators: the timeout of a dependency ends nobody who reads what they hand out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from mahavishnu.errors import CallTimeout
from tests.runtime.calls.worlds import SECOND, World

Form = Callable[[World], AsyncIterator[int]]
PARTS = 3


async def block(world: World) -> AsyncIterator[int]:
    async with world.stripe:
        for number in range(PARTS):
            yield number


async def loop(world: World) -> AsyncIterator[int]:
    async for attempt in world.stripe.attempts():
        with attempt:
            for number in range(PARTS):
                yield number


async def stack(world: World) -> AsyncIterator[int]:
    async with AsyncExitStack() as entered:
        await entered.enter_async_context(world.stripe)
        for number in range(PARTS):
            yield number


async def manager(world: World) -> AsyncIterator[int]:
    async with _session(world):
        for number in range(PARTS):
            yield number


async def client(world: World) -> AsyncIterator[int]:
    async with _Client(world):
        for number in range(PARTS):
            yield number


FORMS: list[Form] = [block, loop, stack, manager, client]


@asynccontextmanager
async def _session(world: World) -> AsyncGenerator[None]:
    async with world.stripe:
        yield


class _Client:
    """A class of one's own around a dependency."""

    def __init__(self, world: World) -> None:
        self._stripe: Any = world.stripe

    async def __aenter__(self) -> None:
        await self._stripe.__aenter__()

    async def __aexit__(self, *how: object) -> None:
        await self._stripe.__aexit__(*how)


def _world(told: list[dict[str, Any]] | None = None) -> World:
    world = World(auto=False, timeout="2s", bulkhead={"concurrency": 4})

    def tell(event: str, **facts: Any) -> None:
        if told is not None:
            told.append({"event": event, **facts})

    world.service.dependencies["stripe"].tell = tell
    return world


@pytest.mark.parametrize("form", FORMS)
async def test_a_slow_reader_is_not_ended_for_the_dependencys_timeout(form: Form) -> None:
    """His task is cancelled by nobody, he gets every part, and what is counted is how the block has ended."""
    told: list[dict[str, Any]] = []
    world = _world(told)
    got: list[int] = []

    async def reads() -> int:
        async for number in form(world):
            got.append(number)
            await world.clock.sleep(SECOND)
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    task = asyncio.create_task(reads())
    for _ in range(PARTS):
        await world.clock.settle()
        world.clock.advance("1s")
    assert await task == 0
    assert got == [0, 1, 2]
    assert (world.calls("success"), world.calls("timeout"), world.calls("cancelled")) == (1, 0, 0)
    assert world.at_rest()
    (line,) = told
    assert (line["event"], line["took"]) == ("attempt outlasted its timeout", 3.0)
    assert 'dependency("stripe").httpx_async_client().stream' in line["help"]


@pytest.mark.parametrize("form", FORMS)
async def test_places_are_back_when_a_generator_is_closed(form: Form) -> None:
    """However late that is; nothing has failed."""
    world = _world()
    numbers: Any = form(world)
    assert await anext(numbers) == 0
    world.clock.advance("9s")
    await world.clock.settle()
    assert world.bulkhead.in_flight == 1
    await numbers.aclose()
    assert (world.calls("cancelled"), world.calls("timeout")) == (1, 0)
    assert world.at_rest()


async def test_what_is_inside_of_a_context_manager_still_ends_with_the_timeout() -> None:
    """contextlib makes it of a generator, but what runs in between is the block, in its own task."""
    world = _world()

    async def uses() -> None:
        async with _session(world):
            await asyncio.Event().wait()

    async def stacks() -> None:
        async with AsyncExitStack() as entered:
            await entered.enter_async_context(_session(world))
            await asyncio.Event().wait()

    tasks = [asyncio.create_task(uses()), asyncio.create_task(stacks())]
    await world.clock.settle()
    world.clock.advance("2s")
    for task in tasks:
        with pytest.raises(CallTimeout):
            await task
    assert world.calls("timeout") == 2
    assert world.at_rest()


async def test_a_call_of_a_function_in_a_generator_still_ends_with_the_timeout() -> None:
    """Nothing is handed out in its midst, so it is the generator's own wait that ends."""
    world = _world()

    async def fetch() -> int:
        async with world.stripe:
            await asyncio.Event().wait()
        return 1

    async def numbers() -> AsyncIterator[int]:
        yield await fetch()

    async def reads() -> list[int]:
        return [number async for number in numbers()]

    task = asyncio.create_task(reads())
    await world.clock.settle()
    world.clock.advance("2s")
    with pytest.raises(CallTimeout):
        await task
    assert world.at_rest()
