"""httpx clients whose every request is a guarded call; imported only by those who ask for one."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import httpx

from mahavishnu.errors import BreakerOpen, BulkheadFull, CallTimeout, DependencyError, Parked, Throttled
from mahavishnu.outcomes.faults import leaves_of, leaves_of_answer, worst
from mahavishnu.runtime import budget
from mahavishnu.runtime.calls.call import Call
from mahavishnu.runtime.calls.dependency import DependencyGuard
from mahavishnu.runtime.calls.fallback import bad, failed, interrupted, replaceable
from mahavishnu.runtime.calls.http_fallback import SAFE, Asked, asked, made_again_by
from mahavishnu.runtime.calls.interrupted import pause as interrupted_pause
from mahavishnu.runtime.calls.stand_in import NOTHING
from mahavishnu.runtime.spans import Facts
from mahavishnu.units import SECOND

Client = httpx.Client
AsyncClient = httpx.AsyncClient

_PHASES = ("connect", "read", "write", "pool")
_PORTS = {"http": 80, "https": 443}
_MOST = 2**16
"""Bytes of an answer that are read for the sake of its connection, though it may be thrown away."""
Find = Callable[[], DependencyGuard]


def client(find: Find, defaults: Mapping[str, Any], options: Mapping[str, Any]) -> Client:
    """A client of which every request is guarded, whichever way it takes: `transport`, `mounts` and `proxy` among the
    options are what is inside."""
    said = _guarded(options, partial(GuardedTransport, find), httpx.HTTPTransport)
    made = httpx.Client(**{**defaults, **said})
    made_again_by(find().name, made)
    return made


def async_client(find: Find, defaults: Mapping[str, Any], options: Mapping[str, Any]) -> AsyncClient:
    """As `client`, for tasks."""
    said = _guarded(options, partial(AsyncGuardedTransport, find), httpx.AsyncHTTPTransport)
    made = httpx.AsyncClient(**{**defaults, **said})
    made_again_by(find().name, made)
    return made


class RequestTimeout(CallTimeout, httpx.TimeoutException):
    """A CallTimeout that those who know httpx alone catch too, as the next three."""


class RequestRefused(BreakerOpen, httpx.TransportError):
    """A BreakerOpen of a request."""


class RequestThrottled(Throttled, httpx.TransportError):
    """A Throttled of a request."""


class NoPlace(BulkheadFull, httpx.PoolTimeout):
    """A BulkheadFull of a request."""


class RequestParked(Parked, httpx.TransportError):
    """A Parked of a request."""


class GuardedTransport(httpx.BaseTransport):
    """Sends each request through a dependency's policies; its permits return when the body is closed."""

    def __init__(self, find: Find, inside: httpx.BaseTransport) -> None:
        self._find = find
        self._inside = inside

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        with _in_its_words():
            guard = self._find()
            asked = _asked(guard, request) if guard.stands_by else None
            return self._handle(guard, request) if asked is None else self._backed(guard, request, asked)

    def _backed(self, guard: DependencyGuard, request: httpx.Request, asked: Asked) -> httpx.Response:
        """The answer, or what stands in for it."""
        try:
            response = self._handle(guard, request)
        except Exception as fault:
            if not replaceable(fault, guard.within()) or (found := asked.instead(fault)) is NOTHING:
                raise
            return cast("httpx.Response", found)
        if not failed(response) or guard.within():
            return asked.good(response)
        try:
            found = asked.instead(bad(guard.name, response))
        except BaseException:  # it is parked, or nobody waits for that any more
            response.close()
            raise
        if found is NOTHING:
            return response
        response.close()
        return cast("httpx.Response", found)

    def _handle(self, guard: DependencyGuard, request: httpx.Request) -> httpx.Response:
        call = guard.requests(guard, _repeatable(request))
        extensions = request.extensions
        while True:
            call.enter()
            try:
                request.extensions = _timed(extensions, call.limit)
                _tell(request, call)
                response = self._inside.handle_request(request)
                streamed = not response.is_closed
                if streamed and call.wants(response):
                    _read(response, call)
                    streamed = False
            except BaseException as fault:
                pause = call.failed(fault)
                if pause is None:
                    raise
            else:
                if streamed:
                    call.step_out()
                    _untimed(request, extensions)
                    response.stream = _Stream(response, call)
                    return response
                pause = call.answered(response)
                if pause is None:
                    return response
                response.close()
            guard.clock.pause(pause)

    def close(self) -> None:
        self._inside.close()


class AsyncGuardedTransport(httpx.AsyncBaseTransport):
    """As GuardedTransport, for tasks; the dependency's timeout ends with the head of the response."""

    def __init__(self, find: Find, inside: httpx.AsyncBaseTransport) -> None:
        self._find = find
        self._inside = inside

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        with _in_its_words():
            guard = self._find()
            asked = _asked(guard, request) if guard.stands_by else None
            if asked is None:
                return await self._handle(guard, request)
            return await self._backed(guard, request, asked)

    async def _backed(self, guard: DependencyGuard, request: httpx.Request, asked: Asked) -> httpx.Response:
        try:
            response = await self._handle(guard, request)
        except Exception as fault:
            if (
                not replaceable(fault, guard.within())
                or (found := await asked.instead_async(fault)) is NOTHING
            ):
                raise
            return cast("httpx.Response", found)
        except CancelledError as cancelled:
            if (left := interrupted(cancelled, guard)) is not None:
                asked.leave(left)
            raise
        if not failed(response) or guard.within():
            return asked.good(response)
        try:
            found = await asked.instead_async(bad(guard.name, response))
        except BaseException:  # it is parked, or nobody waits for that any more
            await response.aclose()
            raise
        if found is NOTHING:
            return response
        await response.aclose()
        return cast("httpx.Response", found)

    async def _handle(self, guard: DependencyGuard, request: httpx.Request) -> httpx.Response:
        call = guard.requests(guard, _repeatable(request))
        extensions = request.extensions
        while True:
            await call.enter_async()
            try:
                request.extensions = _timed(extensions, call.limit)
                _tell(request, call)
                response = await self._inside.handle_async_request(request)
                streamed = not response.is_closed
                if streamed and call.wants(response):
                    await _read_async(response)
                    streamed = False
            except BaseException as fault:
                pause = call.failed(fault)
                if pause is None:
                    raise
                failure: object = fault
            else:
                if streamed:
                    call.step_out()
                    _untimed(request, extensions)
                    response.stream = _AsyncStream(response, call)
                    return response
                pause = call.answered(response)
                if pause is None:
                    return response
                await response.aclose()
                failure = response
            try:
                await interrupted_pause(guard.clock, pause, guard, failure)
            finally:
                del failure  # this frame is in its traceback

    async def aclose(self) -> None:
        await self._inside.aclose()


class _Streamed:
    """The end of a streamed call: reported once, at the body's first fault or when it is closed.

    An answer that is dropped without being closed ends its call when the garbage collector finds it.
    """

    def __init__(self, response: httpx.Response, call: Call) -> None:
        self._inside: Any = response.stream
        self._leaves = leaves_of_answer(response)
        self._call: Call | None = call

    def _part(self) -> None:
        if self._call is not None:
            self._call.progress()

    def _fault(self, fault: BaseException) -> None:
        # Whoever stops reading closes the stream next, and the answer was a good one until then.
        if not isinstance(fault, GeneratorExit):
            self._end(fault)

    def _end(self, fault: BaseException | None = None) -> None:
        call, self._call = self._call, None
        if call is not None:
            said = self._leaves if fault is None else leaves_of(fault)
            call.end(worst(outcome for outcome, _ in said), said, fault)

    def __del__(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.guard.drop(call, self._leaves)


class _Stream(_Streamed, httpx.SyncByteStream):
    def __iter__(self) -> Iterator[bytes]:
        try:
            for part in self._inside:
                self._part()
                yield part
        except BaseException as fault:
            self._fault(fault)
            raise

    def close(self) -> None:
        try:
            self._inside.close()
        finally:
            self._end()


class _AsyncStream(_Streamed, httpx.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._inside:
                self._part()
                yield part
        except BaseException as fault:
            self._fault(fault)
            raise

    async def aclose(self) -> None:
        try:
            await self._inside.aclose()
        finally:
            self._end()


class _Begun(httpx.SyncByteStream):
    """A body of which the beginning was read."""

    def __init__(self, inside: Any) -> None:
        self._inside = inside
        self.rest: Iterator[bytes] = iter(inside)
        self.parts: list[bytes] = []

    def __iter__(self) -> Iterator[bytes]:
        yield from self.parts
        yield from self.rest

    def close(self) -> None:
        self._inside.close()


class _AsyncBegun(httpx.AsyncByteStream):
    def __init__(self, inside: Any) -> None:
        self._inside = inside
        self.rest: AsyncIterator[bytes] = aiter(inside)
        self.parts: list[bytes] = []

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self.parts:
            yield part
        async for part in self.rest:
            yield part

    async def aclose(self) -> None:
        await self._inside.aclose()


@contextmanager
def _in_its_words() -> Generator[None, None, None]:
    """Whoever replaced a client keeps the `except httpx.HTTPError` around it: ours are such errors, too."""
    try:
        yield
    except DependencyError as error:
        for kind, twin in _TWINS.items():
            if type(error) is kind:
                raise twin(*error.said) from error.__cause__
        raise


_TWINS: dict[type[DependencyError], Callable[..., DependencyError]] = {
    CallTimeout: RequestTimeout,
    BreakerOpen: RequestRefused,
    Throttled: RequestThrottled,
    BulkheadFull: NoPlace,
    Parked: RequestParked,
}


def _asked(guard: DependencyGuard, request: httpx.Request) -> Asked | None:
    fallbacks, repeatable = guard.fallbacks, _repeatable(request)
    if fallbacks is None or (not repeatable and guard.within()):  # what is around it is made again
        return None
    return asked(fallbacks, request, repeatable, guard.settings.propagate)


def _read(response: httpx.Response, call: Call) -> None:
    """Read an answer that may be thrown away, so that it can also still be handed out; of a long one the beginning.

    Raises httpx.ReadTimeout once the attempt's time is up, which in a task ends by itself.
    """
    begun, room = _Begun(response.stream), _MOST
    try:
        while room > 0 and (part := next(begun.rest, None)) is not None:
            begun.parts.append(part)
            room -= len(part)
            if call.over():
                raise httpx.ReadTimeout("the attempt's time was up before its answer was whole")
    except BaseException:
        begun.close()
        raise
    if room <= 0:
        response.stream = begun
        return
    begun.close()
    response.stream = httpx.ByteStream(b"".join(begun.parts))


async def _read_async(response: httpx.Response) -> None:
    begun, room = _AsyncBegun(response.stream), _MOST
    try:
        while room > 0 and (part := await anext(begun.rest, None)) is not None:
            begun.parts.append(part)
            room -= len(part)
    except BaseException:
        await begun.aclose()
        raise
    if room <= 0:
        response.stream = begun
        return
    await begun.aclose()
    response.stream = httpx.ByteStream(b"".join(begun.parts))


def _repeatable(request: httpx.Request) -> bool:
    """Whether sending it twice does no harm (a safe method, or the request says so) and is possible."""
    safe = request.method in SAFE or request.extensions.get("idempotent") is True
    return safe and isinstance(request.stream, httpx.ByteStream)


def _timed(extensions: Mapping[str, Any], limit: int | None) -> dict[str, Any]:
    """The request's extensions with no phase of it longer than the limit (ns)."""
    if limit is None:
        return dict(extensions)
    seconds = limit / SECOND
    said = extensions.get("timeout", {})
    phases = {phase: _shorter(said.get(phase), seconds) for phase in _PHASES}
    return {**extensions, "timeout": phases}


def _untimed(request: httpx.Request, extensions: Mapping[str, Any]) -> None:
    """From its head on each part of a response may take as long as the request itself says, which a transport reads
    when the body begins."""
    if "timeout" in extensions:
        request.extensions["timeout"]["read"] = extensions["timeout"].get("read")


def _tell(request: httpx.Request, call: Call) -> None:
    """Tell the dependency how long this attempt may take, in the header that its `propagate` names, and its trace."""
    tracing = call.guard.tracing
    if tracing is not None:
        url = request.url
        place: Facts = {"server.address": url.host, "server.port": url.port or _PORTS.get(url.scheme, 0)}
        tracing.tell({"http.request.method": request.method, **place})
        tracing.carry(request.headers)
    name, left = call.guard.settings.propagate, call.left()
    if name is not None and left is not None:
        request.headers[name] = budget.write(name, left)


def _shorter(said: float | None, limit: float) -> float:
    return limit if said is None else min(said, limit)


def _guarded(
    options: Mapping[str, Any], guard: Callable[[Any], object], plain: Callable[..., object]
) -> dict[str, Any]:
    """The client's options, every transport among them guarded; the proxy is the one inside, not one beside it."""
    inside = options.get("transport") or plain(**_for_transport(options))
    said: Mapping[str, Any] = options.get("mounts") or {}
    mounts = {where: one and guard(one) for where, one in said.items()}
    rest = {name: value for name, value in options.items() if name != "proxy"}
    return {**rest, "transport": guard(inside), "mounts": mounts}


def _for_transport(options: Mapping[str, Any]) -> dict[str, Any]:
    """The client's options that httpx hands to its own transport."""
    names = ("verify", "cert", "trust_env", "http1", "http2", "limits", "proxy")
    return {name: options[name] for name in names if name in options}
