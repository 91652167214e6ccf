"""The bound for a limit on Redis: GCRA in Lua, the calls of one turn of the event loop in one write.

One connection, no reconnecting, no deadline, no cluster: what it costs to ask at the least.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from typing import Any

from benchmarks.harness import peer

SCRIPT = """
local now = redis.call('TIME')
now = now[1] * 1000000 + now[2]
local arrival = tonumber(redis.call('GET', KEYS[1])) or now
if arrival < now then arrival = now end
local after = arrival + tonumber(ARGV[1])
if after - now > tonumber(ARGV[2]) then return {0, after - now - tonumber(ARGV[2])} end
redis.call('SET', KEYS[1], string.format('%.0f', after), 'PX', math.ceil((after - now) / 1000))
return {1, after - now}
"""
SHA = hashlib.sha1(SCRIPT.encode()).hexdigest()  # noqa: S324 - how Redis names scripts


def script_arguments(requests: int, seconds: int) -> tuple[int, int]:
    """The step and the horizon of a rate, in microseconds."""
    return seconds * 1_000_000 // requests, seconds * 1_000_000


def command(*parts: str | bytes | int) -> bytes:
    """A command as it is sent."""
    words = [part if isinstance(part, bytes) else str(part).encode() for part in parts]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


class Pipeline(asyncio.Protocol):
    """A connection to Redis that sends what was asked within one turn of the loop at once."""

    def __init__(self) -> None:
        self._reader: Any = peer("hiredis").Reader()
        self._asked: deque[asyncio.Future[Any]] = deque()
        self._out: list[bytes] = []
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        self._transport = transport

    def ask(self, sent: bytes) -> asyncio.Future[Any]:
        """What Redis answers to a command."""
        loop = asyncio.get_running_loop()
        if not self._out:
            loop.call_soon(self._flush)
        self._out.append(sent)
        answer: asyncio.Future[Any] = loop.create_future()
        self._asked.append(answer)
        return answer

    def _flush(self) -> None:
        self._transport.write(b"".join(self._out))
        self._out.clear()

    def data_received(self, data: bytes) -> None:
        """Hand out the answers in the order of the questions."""
        self._reader.feed(data)
        while (answer := self._reader.gets()) is not False:
            self._asked.popleft().set_result(answer)


class Gcra:
    """One limit for each client on that connection."""

    def __init__(self, path: str, requests: int, seconds: int) -> None:
        self._path = path
        step, horizon = script_arguments(requests, seconds)
        self._head = b"*6\r\n$7\r\nEVALSHA\r\n$40\r\n%b\r\n$1\r\n1\r\n" % SHA.encode()
        self._tail = b"".join(b"$%d\r\n%d\r\n" % (len(str(one)), one) for one in (step, horizon))
        self._line: Pipeline | None = None

    async def ask(self, client: str) -> bool:
        """Whether one more request of this client is admitted."""
        if self._line is None:
            self._line = await connected(self._path)
            await self._line.ask(command("SCRIPT", "LOAD", SCRIPT))
        key = client.encode()
        answer = await self._line.ask(b"%b$%d\r\nb:%b\r\n%b" % (self._head, len(key) + 2, key, self._tail))
        return bool(answer[0])


async def connected(path: str) -> Pipeline:
    """A connection to the Redis at this socket."""
    _, line = await asyncio.get_running_loop().create_unix_connection(Pipeline, path)
    return line
