"""One connection for all: the calls of one turn of the event loop leave in one write, answers come in order."""

# The only door to hiredis, which packs and parses. The time of a call begins when it is written, so that a
# stall of our own event loop is not taken for one of the server.

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from contextvars import Context
from ssl import SSLError
from typing import Any, cast
from weakref import WeakKeyDictionary

import hiredis
from hiredis import ProtocolError, Reader, ReplyError

from mahavishnu.runtime.redis import reasons

LATE = object()
"""The answer of a call that got none in time."""
GONE = object()
"""The answer of a call whose connection was lost."""
_MORE = object()
Word = str | int | bytes
_pack: Callable[[tuple[Word, ...]], bytes] = cast("Any", hiredis).pack_command


def pack(*words: Word) -> bytes:
    """A command as it is sent."""
    return _pack(words)


class Link(asyncio.Protocol):
    """A connection at work; `lost` is called once, when it has ended, `seen` for answers: how long they took, how many.

    `slow` is called when answers have not come in time, whether or not anybody still waits for them. An answer is
    what hiredis makes of it, a ReplyError for an error; or LATE, or GONE. Nothing is raised.
    """

    def __init__(
        self,
        deadline: float,
        lost: Callable[[Link], object],
        slow: Callable[[Link], object],
        seen: Callable[[float, int], object],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._deadline = deadline
        self._lost, self._slow, self._seen = lost, slow, seen
        self._reader = Reader(notEnoughData=_MORE)
        self._transport: asyncio.Transport | None = None
        self._words: list[bytes] = []
        self._asked: list[asyncio.Future[Any]] = []
        self._sent: deque[_Batch] = deque()
        self._armed: asyncio.TimerHandle | None = None
        self._context = Context()
        self._heirs: WeakKeyDictionary[asyncio.Future[Any], Callable[[Any], object]] = WeakKeyDictionary()
        self._unheard: WeakKeyDictionary[asyncio.Future[Any], Any] = WeakKeyDictionary()
        self.late = self.wrong = 0
        """How many calls in a row got no answer in time, or an error."""
        self.why = reasons.SILENT
        """Where it has ended: why, in words."""

    @property
    def gone(self) -> bool:
        """Whether the connection has ended."""
        return self._transport is None

    def call(self, *words: Word) -> asyncio.Future[Any]:
        """Ask, together with whatever else is asked in this turn of the event loop."""
        return self.send(_pack(words))

    def send(self, packed: bytes) -> asyncio.Future[Any]:
        """As `call`, of a command that is packed already."""
        future = self._loop.create_future()
        if self._transport is None:
            future.set_result(GONE)
            return future
        if not self._asked:
            self._loop.call_soon(self._flush, context=self._context)
        self._asked.append(future)
        self._words.append(packed)
        return future

    def desert(self, asked: asyncio.Future[Any], heir: Callable[[Any], object]) -> None:
        """Nobody waits for this answer any more; if it comes all the same, or has come by now, it is for `heir`."""
        if asked in self._unheard:
            heir(self._unheard.pop(asked))
        else:
            self._heirs[asked] = heir

    def within(self, deadline: float) -> None:
        """From now on an answer may take this long, seconds."""
        self._deadline = deadline
        self._disarm()
        if self._sent:
            self._arm(self._sent[0])

    def close(self) -> None:
        """Let go of the connection at once; whoever still waits is told GONE."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()
        self._forget()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if isinstance(
            exc, SSLError
        ):  # which comes after the handshake: it is the last thing that a server says
            self.why = reasons.reason(exc)
        self._forget()
        self._lost(self)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        self.why = reasons.LOST
        now = self._loop.time()
        try:
            answer = self._reader.gets()
            while answer is not _MORE:
                answer = self._answered(self._sent[0], answer, now)
        except (IndexError, ProtocolError):
            self.why = reasons.STRANGE
            self.close()

    def _answered(self, batch: _Batch, answer: object, now: float) -> object:
        """Hand on this answer and those that are here of the same write; what comes after them."""
        gets, calls = self._reader.gets, batch.calls
        due = len(calls)
        self.late = 0
        while calls and answer is not _MORE:
            future = calls.popleft()
            self.wrong = self.wrong + 1 if type(answer) is ReplyError else 0
            if not future.done():
                future.set_result(answer)
            else:
                self._unclaimed(future, answer)
            answer = gets()
        self._seen(now - batch.at, due - len(calls))
        if not calls:
            self._sent.popleft()
        return answer

    def _unclaimed(self, asked: asyncio.Future[Any], answer: Any) -> None:
        """Who has asked was cancelled, and may not know it yet."""
        heir = self._heirs.pop(asked, None)
        if heir is None:
            self._unheard[asked] = answer
        else:
            heir(answer)

    def _flush(self) -> None:
        """Send what this turn has asked."""
        asked, words = self._asked, self._words
        self._asked, self._words = [], []
        if self._transport is None:
            return
        batch = _Batch(self._loop.time(), asked)
        self._sent.append(batch)
        self._transport.write(b"".join(words))
        if self._armed is None:
            self._arm(batch)

    def _arm(self, batch: _Batch) -> None:
        at = batch.at + self._deadline
        self._armed = self._loop.call_at(at, self._overdue, context=self._context)

    def _overdue(self) -> None:
        """Give up what was sent too long ago; its answers may still come, and are then ignored."""
        self._armed = None
        now = self._loop.time()
        for batch in self._sent:
            if batch.at + self._deadline > now:
                self._arm(batch)
                break
            self.late += batch.expire()
        if self.late:
            self._slow(self)  # at the end, for who is told may close

    def _forget(self) -> None:
        waiting = [future for batch in self._sent for future in batch.waiting()]
        waiting += [future for future in self._asked if not future.done()]
        self._sent.clear()
        self._asked, self._words = [], []
        self._disarm()
        for future in waiting:
            future.set_result(GONE)

    def _disarm(self) -> None:
        if self._armed is not None:
            self._armed.cancel()
            self._armed = None


class _Batch:
    """The calls of one write whose answers are due, and when they were written."""

    __slots__ = ("at", "calls", "expired")

    def __init__(self, at: float, calls: Iterable[asyncio.Future[Any]]) -> None:
        self.at = at
        self.calls = deque(calls)
        self.expired = False

    def waiting(self) -> list[asyncio.Future[Any]]:
        """Those that nobody has answered."""
        return [future for future in self.calls if not future.done()]

    def expire(self) -> int:
        """Give up on it; how many answers are newly late, those included that nobody waits for any more."""
        if self.expired:
            return 0
        self.expired = True
        for future in self.waiting():
            future.set_result(LATE)
        return len(self.calls)


def nothing(*_: object) -> None:
    """For whoever wants to hear nothing."""


def failure(answer: object) -> str | None:
    """The first word of an error (`READONLY`, `LOADING`, …); None when the answer is none."""
    return reasons.name_of(str(answer)) if isinstance(answer, ReplyError) else None


def words_of(answer: object, secrets: Iterable[str] = ()) -> str | None:
    """An error as people are told of it, without these secrets; None when the answer is none."""
    return reasons.words_of(str(answer), secrets) if isinstance(answer, ReplyError) else None


def detail(answer: object) -> str:
    """An error's whole text."""
    return str(answer)
