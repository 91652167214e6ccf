"""HTTP requests that end in time: one deadline for all that is waited for, however slowly the other side drips."""

from __future__ import annotations

import time
from functools import partial
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from io import BufferedReader, RawIOBase
from socket import socket
from typing import Any, cast
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
)

_PIECE = 16 * 1024
"""What goes out by TLS at once, in bytes."""


def opener() -> OpenerDirector:
    """What opens URLs and follows no redirect: that would go without a body, but with the headers' secrets."""
    made = OpenerDirector()
    for handler in (ProxyHandler, _Plain, _Secure, HTTPDefaultErrorHandler, HTTPErrorProcessor):
        made.add_handler(handler())
    return made


class _Plain(HTTPHandler):
    """Opens `http` URLs."""

    def http_open(self, req: Request) -> HTTPResponse:
        """As any handler; a request's timeout is that of the whole."""
        return self.do_open(_Connection, req)


class _Secure(HTTPSHandler):
    """Opens `https` URLs."""

    def https_open(self, req: Request) -> HTTPResponse:
        """As any handler; a request's timeout is that of the whole."""
        return self.do_open(_SecureConnection, req)


class _Deadline:
    """A moment, from which nobody waits any longer."""

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds

    def bind(self, sock: socket) -> None:
        """The next wait of a socket ends by then; raises TimeoutError where it is over."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        sock.settimeout(left)


class _Connection(HTTPConnection):
    """A connection whose timeout is that of the one request which it is made for.

    To connect and to agree on TLS has as much time again, each; what resolves a name knows no time.
    """

    def __init__(self, host: str, *, timeout: float = 0, **options: Any) -> None:
        super().__init__(host, timeout=timeout, **options)
        self._deadline = _Deadline(timeout)
        self.response_class = cast("type[HTTPResponse]", partial(_Response, self._deadline))

    def send(self, data: Any) -> None:
        """As any connection; bytes only."""
        if self.sock is None:
            self.connect()
        for start in range(0, len(data), _PIECE):  # by TLS each piece has a time of its own
            self._deadline.bind(cast("socket", self.sock))
            super().send(data[start : start + _PIECE])


class _SecureConnection(_Connection, HTTPSConnection):
    """The same by TLS."""


class _Response(HTTPResponse):
    """A response that is read until a deadline."""

    def __init__(self, deadline: _Deadline, sock: socket, *options: Any, **named: Any) -> None:
        super().__init__(sock, *options, **named)
        self.fp = BufferedReader(_Bounded(deadline, sock, self.fp.detach()))


class _Bounded(RawIOBase):
    """What comes in by a socket, until a deadline."""

    def __init__(self, deadline: _Deadline, sock: socket, inside: RawIOBase) -> None:
        self._deadline, self._sock, self._inside = deadline, sock, inside

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        """Read what is there, once something is."""
        self._deadline.bind(self._sock)
        return self._inside.readinto(buffer)

    def close(self) -> None:
        """The socket may be closed with it."""
        self._inside.close()
        super().close()
