"""A link that is kept up: while it is down nobody asks or waits, and one task tries again in the background."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from typing import Any

from mahavishnu.protocols import Clock
from mahavishnu.runtime.redis.address import Address
from mahavishnu.runtime.redis.known import Known
from mahavishnu.runtime.redis.link import GONE, LATE, Link, Word, detail, failure, nothing, words_of
from mahavishnu.runtime.redis.nodes import HOPS, Nodes
from mahavishnu.runtime.redis.reasons import OF_THE_SERVER, SLOW, reason
from mahavishnu.units import SECOND

Probe = Callable[[Link], Awaitable[object]]
"""Asks over a new link what will be asked of it, for some errors only show then; its answer is judged."""

_OPENING = 1.0  # seconds that a connection, its greeting and its probe may take together
_ROW = 3  # so many late answers or errors in a row mean that it is the server
_FIRST, _LAST = SECOND // 4, 2 * SECOND
_STEADY = 5 * SECOND


class Line:
    """The way to a server from one event loop, with its breaker: down after a failure, up after a probe."""

    def __init__(
        self,
        address: Address,
        name: str,
        clock: Clock,
        probe: Probe,
        known: Known,
        seen: Callable[[float, int], object] = nothing,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self._nodes = Nodes(address)
        self._name, self._clock, self._probe, self._known, self._seen = name, clock, probe, known, seen
        self._waits = known.worth_waiting()
        self._link: Link | None = None
        self._opening: asyncio.Future[None] | None = self.loop.create_future()
        self._pause = 0
        self._since = clock.now()
        self._resolver = ThreadPoolExecutor(1, "mahavishnu-store")
        self._end: AsyncGenerator[None, None] | None = self._lasting()
        self.reason = "not connected yet"
        """Why it is down, in words."""
        self._keeper: asyncio.Task[None] | None = None
        self._try()

    @property
    def up(self) -> bool:
        """Whether calls are let through."""
        return self._link is not None

    @property
    def retry_after(self) -> int:
        """After how many ns it may be worth asking again."""
        return max(SECOND, self._pause)

    def call(self, *words: Word) -> asyncio.Future[Any] | None:
        """Ask; None when it is down. The answer must be `judge`d, unless it is a good one."""
        return None if self._link is None else self._link.call(*words)

    def send(self, packed: bytes) -> asyncio.Future[Any] | None:
        """As `call`, of a command that is packed already."""
        return None if self._link is None else self._link.send(packed)

    def desert(self, asked: asyncio.Future[Any], heir: Callable[[Any], object]) -> None:
        """Nobody waits for this answer any more; if it comes all the same, or has come by now, it is for `heir`."""
        if asked.done() and not asked.cancelled() and asked.result() is not LATE:
            heir(asked.result())
        elif self._link is not None:
            self._link.desert(asked, heir)

    async def opened(self) -> bool:
        """Wait for the very first connection, as long as a try lasts; never a second time, nor for a lost server."""
        if self._opening is not None and self._waits:
            await asyncio.wait((self._opening,), timeout=2 * _OPENING)  # it ends before, and says how
        return self.up

    def judge(self, answer: object) -> None:
        """A bad answer: down at once when the server said that it cannot, else after a few in a row.

        Of those that are late the link tells by itself, for who has asked may have gone away.
        """
        link = self._link
        if link is None or answer is LATE:
            return
        if answer is GONE:  # which may also be said by an earlier connection
            bad, why = link.gone, link.why
        else:
            why = self._words(answer) or "no answer of ours"
            bad = failure(answer) in OF_THE_SERVER or link.wrong >= _ROW
            self._follow(answer)
        if bad:
            self._down(why)

    def close(self) -> None:
        """Let go of everything; it is not used again."""
        self._end = None
        if self._keeper is not None:
            self._keeper.cancel()
        link, self._link = self._link, None
        if link is not None:
            link.close()
        self._resolver.shutdown(wait=False, cancel_futures=True)

    async def _lasting(self) -> AsyncGenerator[None, None]:
        """Close it with the event loop: `asyncio.run` ends what is still being generated, and nothing else of ours."""
        try:
            yield
        finally:
            self.close()

    def _lost(self, link: Link) -> None:
        """The connection has ended by itself."""
        if link is self._link:
            self._down(link.why)

    def _slow(self, link: Link) -> None:
        """Answers have not come in time."""
        if link is self._link and link.late >= _ROW:
            self._down(SLOW)

    def _down(self, why: str) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()
        # Who fails soon after it came up is given more and more time; who was well is asked again at once.
        steady = self._clock.now() - self._since >= _STEADY
        self._pause = 0 if steady else self._longer()
        self._say(why)
        self._try()

    def _say(self, reason: str) -> None:
        """Tell it once, in either direction and when the reason has changed."""
        if reason != self.reason:
            self.reason = reason
            self._known.say(reason)

    def _longer(self) -> int:
        return min(_LAST, max(_FIRST, 2 * self._pause))

    def _try(self) -> None:
        # In a context of its own: it outlives the request that happens to be the first.
        self._keeper = self.loop.create_task(self._keep(), context=Context())

    async def _keep(self) -> None:
        """Try until it is up."""
        if self._opening is not None and self._end is not None:
            await anext(self._end)
        while self._link is None:
            await self._clock.sleep(round(self._pause * random.uniform(0.8, 1.2)))  # noqa: S311  only apart, not secret
            try:
                link = await self._opened()
            except Exception as fault:  # noqa: BLE001  also a host that is no name: whoever stops to try never comes back
                self._say(reason(fault))
                self._nodes.failed()
                self._pause = self._longer()
            else:
                self._since, self._link = self._clock.now(), link
                self._say("")
            if self._opening is not None:
                self._opening.set_result(None)
                self._opening = None

    async def _opened(self) -> Link:
        """As `_open`, in time; it may have ended since, for it is handed over some turns of the event loop later."""
        link = await asyncio.wait_for(self._open(), _OPENING)
        if link.gone:
            raise _Refused(link.why)
        return link

    async def _open(self) -> Link:
        """A link over which the probe was answered, at whichever node of a cluster that is."""
        for _ in range(HOPS):
            link = await self._connect()
            try:
                answer = await self._greet(link)
            except BaseException:
                link.close()
                raise
            if failure(answer) is None and answer not in (LATE, GONE):
                link.within(self._nodes.at.deadline / SECOND)
                self._nodes.answered()
                link.call("CLUSTER", "SLOTS").add_done_callback(self._learn)
                return link
            link.close()
            if not self._follow(answer):
                raise _Refused(self._words(answer) or (SLOW if answer is LATE else link.why))
        raise _Refused("sent from node to node")

    def _follow(self, answer: object) -> bool:
        """Whether it says that another node serves our keys (`MOVED slot host:port`); that is where to go."""
        return failure(answer) == "MOVED" and self._nodes.moved(detail(answer))

    def _learn(self, asked: asyncio.Future[Any]) -> None:
        """Nobody waits for what else there is to ask, should this node be lost."""
        if not asked.cancelled():
            self._nodes.learn(asked.result())

    def _words(self, answer: object) -> str | None:
        return words_of(answer, self._nodes.at.login)

    async def _greet(self, link: Link) -> object:
        """Say who we are, and ask the first question; a wrong password must not look like a wrong question."""
        to = self._nodes.at
        asked = [link.call("AUTH", *to.login)] if to.login else []
        asked.append(link.call("CLIENT", "SETNAME", self._name))
        if to.database:
            asked.append(link.call("SELECT", to.database))
        answer: object = None
        for one in asked:
            answer = await one
            if failure(answer) not in (None, *_HARMLESS):
                return answer
        if to.database and failure(answer) is not None:  # what is asked from now on is asked of another
            raise _Refused(f"it has no database {to.database}")
        return await self._probe(link)

    async def _connect(self) -> Link:
        to = self._nodes.at

        def link() -> Link:
            return Link(_OPENING, self._lost, self._slow, self._seen)

        if to.path is not None:
            return (await self.loop.create_unix_connection(link, to.path))[1]
        name = to.host if to.tls else None
        last: OSError = OSError(f"{to.host} has no address")
        for place in await self._places(to.host, to.port):
            try:
                made = self.loop.create_connection(link, *place, ssl=to.tls, server_hostname=name)
                return (await made)[1]
            except OSError as fault:
                last = fault
        raise last

    async def _places(self, host: str, port: int) -> list[tuple[str, int]]:
        """The host's addresses; looked up in a thread of our own, which a dead resolver may block."""
        found = await self.loop.run_in_executor(
            self._resolver, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        return [(str(one[4][0]), port) for one in found]


_HARMLESS = ("ERR", "NOPERM")  # an older server knows no names, one without a password no login


class _Refused(Exception):
    """The server is there, and does not serve us."""
