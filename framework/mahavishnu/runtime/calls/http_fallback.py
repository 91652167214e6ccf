"""What stands in for an httpx request that failed: a response that is marked, or a dead letter."""

from __future__ import annotations

import asyncio
import base64
import json
import pickle
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from hashlib import blake2b
from typing import Any

import httpx

from mahavishnu.runtime.calls.degraded import DEGRADED, word
from mahavishnu.runtime.calls.stale import Copies
from mahavishnu.runtime.calls.stand_in import (
    NOTHING,
    DeadLetterFallback,
    Fallbacks,
    LastAnswer,
    Ticket,
    unkept,
)
from mahavishnu.runtime.context import Degraded
from mahavishnu.runtime.dead_letters.codec import Unreadable
from mahavishnu.runtime.dead_letters.handlers import Unhandled, handle
from mahavishnu.runtime.dead_letters.letters import REQUEST, Letter

SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""Methods that change nothing (RFC 9110, section 9.2.1)."""
_KEY = "idempotency-key"
# What a request says of its way, of its form or of this one try, not of what is asked.
_OF_THE_WAY = frozenset(
    """accept-encoding baggage connection content-length keep-alive te trailer transfer-encoding upgrade traceparent
    tracestate user-agent via x-request-id idempotency-key""".split()  # noqa: SIM905 - read as words
)
_OF_ONE_ANSWER = frozenset((b"connection", b"keep-alive", b"set-cookie", b"transfer-encoding", b"age"))
_Found = Callable[[], httpx.Client | httpx.AsyncClient | None]
_CLIENTS: dict[str, list[_Found]] = {}
"""By dependency, those that nobody had closed when the newest was made; they are not kept alive for that."""
_lock = threading.Lock()


class Asked:
    """One request in whose place something may stand, and what is noted of it before it is made."""

    def __init__(self, fallbacks: Fallbacks, noted: Any, *, head: bool = False) -> None:
        self._fallbacks = fallbacks
        self._ticket = Ticket(fallbacks, noted)
        self._head = head

    def good(self, response: httpx.Response) -> httpx.Response:
        """A good answer: what the cache may keep of it is kept once it was read to its end."""
        stand_in = self._fallbacks.stand_in
        if isinstance(stand_in, LastAnswer) and _may_be_kept(response):
            keep = partial(self._keep, stand_in, response)
            if isinstance(response.stream, httpx.ByteStream):  # it is whole: nobody reads it once more
                keep(b"".join(response.stream))
            else:
                response.stream = _Copied(response.stream, keep, stand_in.stale.copies)
        return response

    def instead(self, error: Exception) -> Any:
        """What stands in, or NOTHING; raises Parked."""
        return self._response(self._ticket.instead(error))

    async def instead_async(self, error: Exception) -> Any:
        """As `instead`, for tasks."""
        return self._response(await self._ticket.instead_async(error))

    def leave(self, error: Exception) -> None:
        """Keep what can be kept of a request that nobody waits for any more."""
        self._ticket.leave(error)

    def _keep(self, last: LastAnswer, response: httpx.Response, body: bytes) -> None:
        headers = [one for one in response.headers.raw if one[0].lower() not in _OF_ONE_ANSWER]
        last.stale.put(self._ticket.noted, pickle.dumps((headers, body)))

    def _response(self, found: Any) -> Any:
        if found is NOTHING:
            return found
        value, age = found
        if not isinstance(self._fallbacks.stand_in, LastAnswer):
            return self._fixed(value)
        headers, body = value
        marks = [*self._mark(age), (b"age", str(age).encode())]
        return httpx.Response(200, headers=[*headers, *marks], stream=httpx.ByteStream(body))

    def _fixed(self, value: Any) -> httpx.Response:
        """A response that has yet to be read, as every one that a transport hands out: httpx measures it by that."""
        whole = httpx.Response(200, headers=self._mark(None), json=value)
        body = b"" if self._head else whole.content
        return httpx.Response(200, headers=whole.headers, stream=httpx.ByteStream(body))

    def _mark(self, age: int | None) -> list[tuple[bytes, bytes]]:
        kind = self._fallbacks.stand_in.kind if self._fallbacks.stand_in else ""
        return [(DEGRADED, word(Degraded(self._fallbacks.name, kind, age)).encode())]


class _Unkept(Asked):
    """A request with an effect that nobody may make again: it is sent, and if it fails that is told as a loss."""

    def __init__(self, fallbacks: Fallbacks, box: DeadLetterFallback, method: str) -> None:
        super().__init__(fallbacks, None)
        self._box = box
        self._reason = f'{method} is kept only when it is sent whole, with extensions={{"idempotent": True}}'
        box.warn(self._reason)

    def instead(self, error: Exception) -> Any:
        self._box.lose(error, self._reason)
        return unkept(self._fallbacks, error)

    async def instead_async(self, error: Exception) -> Any:
        return self.instead(error)

    def leave(self, error: Exception) -> None:
        self._box.lose(error, self._reason)


def asked(
    fallbacks: Fallbacks, request: httpx.Request, repeatable: bool, propagate: str | None
) -> Asked | None:
    """The request as one in whose place something may stand; None where nothing may."""
    box = fallbacks.stand_in
    if fallbacks.idle() or box is None or (isinstance(box, DeadLetterFallback) and request.method in SAFE):
        return None
    if not repeatable:
        return _Unkept(fallbacks, box, request.method) if isinstance(box, DeadLetterFallback) else None
    if isinstance(box, DeadLetterFallback):
        key = request.headers.setdefault(_KEY, box.new_key())
        return Asked(fallbacks, box.letter(REQUEST, key, _written(request, propagate, box.hides)))
    question = _question(request, propagate) if isinstance(box, LastAnswer) else None
    return Asked(fallbacks, question, head=request.method == "HEAD")


def made_again_by(name: str, client: httpx.Client | httpx.AsyncClient) -> None:
    """Letters of requests are from now on made again by this client; once it is closed, by another one that is open."""
    with _lock:
        _CLIENTS[name] = [*(one for one in _CLIENTS.get(name, ()) if _opened(one)), weakref.ref(client)]
    handle(name, REQUEST, partial(_again, name))


async def _again(name: str, letter: Letter) -> None:
    """Send the request of a letter, by the client that was made last of those that are open."""
    client = next((one for found in reversed(_CLIENTS[name]) if (one := _opened(found)) is not None), None)
    if client is None:
        raise Unhandled
    request = _read(client, letter)
    if isinstance(client, httpx.AsyncClient):
        response = await client.send(request)
    else:
        response = await asyncio.to_thread(client.send, request)
    if response.is_error:  # not where it leads elsewhere: the first call would have taken that for an answer
        response.raise_for_status()


def _opened(found: _Found) -> httpx.Client | httpx.AsyncClient | None:
    client = found()
    return None if client is None or client.is_closed else client


def _written(request: httpx.Request, propagate: str | None, hides: Callable[[str], bool]) -> bytes:
    """A request as bytes, without credentials: the client that makes it again brings its own."""
    headers = [pair for pair in _said(request, propagate) if not hides(pair[0])]
    said = {
        "method": request.method,
        "url": str(request.url.copy_with(userinfo=b"")),
        "headers": headers,
        "body": base64.b64encode(request.content).decode(),
    }
    return json.dumps(said, separators=(",", ":")).encode()


def _read(client: httpx.Client | httpx.AsyncClient, letter: Letter) -> httpx.Request:
    """The request of a letter again; raises Unreadable."""
    try:
        said = json.loads(letter.payload)
        request = client.build_request(
            said["method"],
            said["url"],
            headers=[*((name, value) for name, value in said["headers"]), (_KEY, letter.key)],
            content=base64.b64decode(said["body"]),
            extensions={"idempotent": True},
        )
        # Not the URL that it has built: the client's own `params` would replace those that were asked for.
        request.url = _entitled(httpx.URL(said["url"]), client.base_url)
    except (ValueError, KeyError, TypeError) as fault:
        raise Unreadable(f"what was kept is no request: {type(fault).__name__}") from None
    return request


def _entitled(url: httpx.URL, base: httpx.URL) -> httpx.URL:
    """The URL with the credentials that the client's own has for that place."""
    theirs = (url.scheme, url.netloc) == (base.scheme, base.netloc)
    return url.copy_with(userinfo=base.userinfo) if theirs and base.userinfo else url


def _said(request: httpx.Request, propagate: str | None) -> list[tuple[str, str]]:
    """The headers that say what is asked."""
    return [
        pair for pair in request.headers.multi_items() if pair[0] not in _OF_THE_WAY and pair[0] != propagate
    ]


def _question(request: httpx.Request, propagate: str | None) -> bytes:
    """What tells one question from another: credentials and all that is asked, so that nobody gets another's answer."""
    said = json.dumps([request.method, str(request.url), sorted(_said(request, propagate))]).encode()
    return blake2b(said + b"\0" + request.content, digest_size=24).digest()


def _may_be_kept(response: httpx.Response) -> bool:
    said = response.headers
    return (
        response.status_code == 200
        and "no-store" not in said.get("cache-control", "").lower()
        and said.get("vary") != "*"
    )


class _Copied(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that is copied as it is read; nothing is held back, and only what was read to its end is kept."""

    def __init__(self, inside: Any, keep: Callable[[bytes], object], copies: Copies) -> None:
        self._inside = inside
        self._keep = keep
        self._copies = copies
        self._parts: list[bytes] | None = []
        self._size = 0

    def __iter__(self) -> Iterator[bytes]:
        for part in self._inside:
            self._copy(part)
            yield part
        self._end()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._inside:
            self._copy(part)
            yield part
        self._end()

    def close(self) -> None:
        self._drop()
        self._inside.close()

    async def aclose(self) -> None:
        self._drop()
        await self._inside.aclose()

    def __del__(self) -> None:
        self._drop()

    def _copy(self, part: bytes) -> None:
        if self._parts is None:
            return
        if not self._copies.take(len(part)):
            self._drop()
            return
        self._size += len(part)
        self._parts.append(part)

    def _end(self) -> None:
        if self._parts is not None:
            self._keep(b"".join(self._parts))
        self._drop()

    def _drop(self) -> None:
        self._parts = None
        if self._size:
            self._copies.give_back(self._size)
            self._size = 0
