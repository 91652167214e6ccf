"""A store on a real cluster whose nodes come and go: as long as it is well, it is found."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.runtime.redis.servers import Cluster, cluster
from tests.runtime.redis.test_store import Fleet, fleet

KEYS = "{mahavishnu:shop}"


@pytest.fixture
def nodes() -> Iterator[Cluster]:
    """A cluster of this test, which may end what it wants of it."""
    with cluster() as one:
        yield one


async def _disturb(one: Fleet, what: Cluster, place: int) -> None:
    """The primary ends its connections; wait until that is noticed, and over."""
    lost = one.calls("ok")
    what.primaries[place].client().execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    await asyncio.sleep(0.05)
    await one.until(up=True)
    assert (await one.take()).admitted
    assert one.calls("ok") == lost + 1


@pytest.mark.proof
@pytest.mark.parametrize("distance", [0, 1], ids=["the node of our keys", "another one"])
def test_a_cluster_is_found_again_without_the_node_of_the_url(nodes: Cluster, distance: int) -> None:
    """It is dead for good: the store goes on with the nodes that it has heard of, one loss after another."""

    async def story() -> None:
        ours = nodes.of(KEYS)
        named = (ours + distance) % 3
        async with fleet(nodes.primaries[named].url) as one:
            assert (await one.take()).admitted
            await asyncio.to_thread(nodes.kill, named)
            await one.until(up=True)
            await _disturb(one, nodes, ours)
            if distance:
                await asyncio.to_thread(nodes.kill, ours)
                await asyncio.sleep(0.05)
                await one.until(up=True)
                assert (await one.take()).admitted

    asyncio.run(story())


def test_a_slot_that_moves_is_followed_to_and_fro(nodes: Cluster) -> None:
    """A planned failover; the node that was asked stays up, as a replica."""

    async def story() -> None:
        ours = nodes.of(KEYS)
        async with fleet(nodes.primaries[ours].url) as one:
            for _ in range(3):
                await asyncio.to_thread(nodes.fail_over, ours)
                await one.take()
                await asyncio.sleep(0.05)
                await one.until(up=True)
                assert (await one.take()).admitted
            assert one.calls("ok") >= 3

    asyncio.run(story())
