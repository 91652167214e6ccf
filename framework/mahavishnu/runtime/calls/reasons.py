"""Why an attempt failed, in a few words for people: what the dependency did, and never what anybody has sent."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from mahavishnu.errors import BadAnswer
from mahavishnu.outcomes.faults import counting, kinds_of, leaves, name_of
from mahavishnu.outcomes.statuses import package, status_of_fault
from mahavishnu.protocols import Leaf
from mahavishnu.units import Duration

_MS = 1_000_000
_DEEPEST, _MOST = 12, 50  # errors that are looked at: they may stand in a circle
_LONGEST = 100
_CLIENTS = frozenset(("aiohttp", "anyio", "httpx", "requests", "urllib", "urllib3"))
_OF_OTHERS: tuple[type[BaseException], ...] = (OSError, BaseExceptionGroup)
"""Whose errors are mostly about what is behind them."""
_OF_ERRNO = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset",
    errno.ECONNABORTED: "connection aborted",
    errno.EPIPE: "connection closed",
    errno.EHOSTUNREACH: "no route to it",
    errno.ENETUNREACH: "no route to it",
    errno.ETIMEDOUT: "no connection in time",
}


def reason(fault: BaseException | None, said: Sequence[Leaf], took: int, timeout: int | None) -> str:
    """Why an attempt failed that took so long, of which so much was allowed (ns), with this error or, where there is
    none, with an answer of which this is said."""
    if fault is None:
        return _of_answer(words for _, words in said)
    error = counting(fault)
    if isinstance(error, BadAnswer):
        return error.what
    status = status_of_fault(error)
    if status is not None:
        return f"it answered {status}"
    words = kinds_of(error)
    if "timeout" in words:
        after = _length(took if timeout is None else min(took, timeout))
        return f"not connected after {after}" if "connect" in words else f"timed out after {after}"
    found = _of_connection(error) if "connect" in words or isinstance(error, OSError) else None
    return found or name_of(type(error))[:_LONGEST]


def cut(had: int) -> str:
    """Why an attempt has ended that had so much time (ns), which was all that its request had left."""
    return f"the request's deadline came first, after {_length(had)}"


def _of_answer(said: Iterable[frozenset[int | str]]) -> str:
    statuses = sorted(word for words in said for word in words if isinstance(word, int))
    return f"it answered {statuses[-1]}" if statuses else "it answered, and `failed` calls that a failure"


def _length(ns: int) -> str:
    return str(Duration(max(1, round(ns / _MS)) * _MS))


def _of_connection(error: BaseException) -> str | None:
    """What the system says of a connection, which clients wrap; None where it says nothing."""
    return next((text for one in islice(_behind(error), _MOST) if (text := _of_system(one))), None)


def _of_system(error: BaseException) -> str | None:
    if isinstance(error, socket.gaierror):
        return "its name is not resolved"
    if isinstance(error, ssl.SSLCertVerificationError):
        return "its certificate is not valid"
    if isinstance(error, ssl.SSLError):
        return "TLS failed"
    return _OF_ERRNO.get(error.errno or 0) if isinstance(error, OSError) else None


def _behind(error: BaseException, depth: int = _DEEPEST) -> Iterator[BaseException]:
    """It, and what it was made of, as far as that is about this connection and not of the code around."""
    yield error
    of_client = isinstance(error, _OF_OTHERS) or package(type(error)) in _CLIENTS
    if not depth or not of_client:
        return
    told: object = getattr(error, "reason", None) if package(type(error)) in ("urllib", "urllib3") else None
    # httpcore hides what its errors are made of from tracebacks (`from None`).
    for one in (told, error.__cause__ or error.__context__, *leaves(error)):
        if isinstance(one, BaseException) and one is not error:
            yield from _behind(one, depth - 1)
