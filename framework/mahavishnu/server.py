"""For uvicorn: a connection whose next request begins too late is closed, and none waits for Nagle's algorithm."""

# An ASGI app never sees a request whose head is incomplete, so a middleware cannot end a client that sends one
# header a minute (slowloris); the server's protocol can. Other servers, and proxies such as nginx
# (`client_header_timeout`), have an option of their own. A TLS handshake is asyncio's: it ends after a minute.

from __future__ import annotations

import asyncio
import socket
from asyncio.trsock import TransportSocket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from mahavishnu.ground import variables
from mahavishnu.runtime.current import current
from mahavishnu.spec import Service
from mahavishnu.units import SECOND

_TOO_LATE = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class _HeadDeadline(asyncio.Protocol):
    """What is put before a protocol of uvicorn: while no request is being served, the next head must come in time.

    So must what is left of a body whose request has been answered. A pause between two requests is not meant:
    that is uvicorn's `--timeout-keep-alive`, which has to begin again where such a body has interrupted it.
    """

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    cycle: Any
    timeout_keep_alive: float
    timeout_keep_alive_handler: Callable[[], None]
    timeout_keep_alive_task: asyncio.TimerHandle | None
    _waiting: asyncio.TimerHandle | None = None
    _heard = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        _send_at_once(transport)
        self._expect()

    def data_received(self, data: bytes) -> None:
        self._heard = True
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()
        elif self.transport.get_protocol() is not self:
            return
        elif self._rest_is_over():
            self._stop_waiting()
            pause, over = self.timeout_keep_alive, self.timeout_keep_alive_handler
            self.timeout_keep_alive_task = self.loop.call_later(pause, over)
        elif self._waiting is None:
            self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, *event: Any) -> None:
        """The connection is another protocol's from here on."""
        self._stop_waiting()
        inside: Any = super()
        inside.handle_websocket_upgrade(*event)

    def _rest_is_over(self) -> bool:
        """Whether what has come is the end of the body of a request that is answered, and no more; said once."""
        if self.cycle is None or not self.cycle.more_body or not self._between():
            return False
        self.cycle.more_body = False  # uvicorn leaves it as it is, once there is an answer
        return True

    def _between(self) -> bool:
        """Whether the last request has come whole, and nothing of the next one."""
        raise NotImplementedError

    def _expect(self) -> None:
        if (delay := head_timeout()) is not None and not self.transport.is_closing():
            self._waiting = self.loop.call_later(delay, self._too_late)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _too_late(self) -> None:
        self._waiting = None
        if self._heard and (service := current()) is not None:
            service.head_timeouts.inc()
        if self.transport.get_write_buffer_size():
            self.transport.abort()  # it does not read either
            return
        if self._heard and self.cycle is None:  # a browser that connects ahead of time expects no answer
            self.transport.write(_TOO_LATE)
        self.transport.close()


class _OfH11(_HeadDeadline):
    """Before the protocol that reads by h11."""

    conn: Any

    def _between(self) -> bool:
        return bool(self.conn.their_state is self.conn.our_state and not self.conn.trailing_data[0])


class _OfHttptools(_HeadDeadline):
    """Before the protocol that reads by httptools, which tells it what it has read."""

    scope: Any
    _whole: Any = None
    """The last request that has come whole."""

    def on_message_complete(self) -> None:
        self._whole = self.cycle
        inside: Any = super()
        inside.on_message_complete()

    def _between(self) -> bool:
        # The next one begins with a scope of its own.
        return self._whole is self.cycle and self.cycle.scope is self.scope


def head_timeout() -> float | None:
    """The seconds that a head may take, by the spec at work or the default before there is one; None: for ever."""
    if variables.disabled():
        return None
    service = current()
    timeout: int = (
        Service.model_fields["head_timeout"].default if service is None else service.spec.service.head_timeout
    )
    return timeout / SECOND


def _send_at_once(transport: asyncio.BaseTransport) -> None:
    """Turn Nagle's algorithm off, as asyncio does for sockets of its own.

    It does not for those that uvicorn binds for several workers: the body of each response on a kept connection would
    wait for the client's delayed acknowledgement of the head, 40 ms.
    """
    inside = transport.get_extra_info("socket")
    if isinstance(inside, TransportSocket) and inside.family in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError):  # it is closed already
            inside.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def with_deadline(protocol: type[asyncio.Protocol]) -> type[asyncio.Protocol]:
    """One of uvicorn's protocol classes, with the deadline for heads."""
    kind = _OfHttptools if hasattr(protocol, "on_message_complete") else _OfH11
    return type(f"HeadDeadline{protocol.__name__}", (kind, protocol), {})


HeadDeadline = with_deadline(AutoHTTPProtocol)
"""uvicorn's own choice (httptools where it is installed, else h11): `uvicorn --http mahavishnu.server:HeadDeadline`."""
