"""One server for the tests of a file, emptied before each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.runtime.redis.servers import Server, server


@pytest.fixture(scope="module")
def shared() -> Iterator[Server]:
    with server() as one:
        yield one


@pytest.fixture
def redis(shared: Server) -> Server:
    """A running server that knows nothing yet."""
    with shared.client() as client:
        client.flushall()
    return shared
