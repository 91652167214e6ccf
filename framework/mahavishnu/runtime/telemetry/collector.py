"""An OpenTelemetry collector as it is reached by HTTP: one request, from any thread, and never in the way."""

from __future__ import annotations

import asyncio
import codecs
import os
import socket
import threading
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException
from typing import Any, NamedTuple, TypeVar
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit

from mahavishnu.errors import MahavishnuError
from mahavishnu.ground import hurried
from mahavishnu.runtime.secret_values import secret
from mahavishnu.runtime.telemetry.remarks import worded
from mahavishnu.units import SECOND

T = TypeVar("T")

LAST = 3 * SECOND
"""How long a last word may take: less than the margin between a server's time to end and its end, ns."""
_HEADERS = "OTEL_EXPORTER_OTLP_HEADERS"
_TYPE = "application/x-protobuf"
_LONGEST, _REMARK = 64 * 1024, 4096
_PASSING = frozenset((429, 502, 503, 504))
# Hosts are encoded so. A fork in the middle of its first import, in a thread, would never find it.
codecs.lookup("idna")


class Failure(NamedTuple):
    """Why a collector has not taken what it was sent, and after how many seconds it wants to be asked again.

    `final`: it would say the same of the same again. `partial`: it has taken the rest.
    """

    reason: str
    after: float = 0
    final: bool = False
    partial: bool = False


def refused(number: int, what: str, said: str) -> Failure:
    """A collector that has taken all but so many, and what it says of these."""
    reason = worded(f"{number} {what} were rejected", said.encode(), headers().values())
    return Failure(reason, final=True, partial=True)


def post(url: str, path: str, body: bytes, timeout: float) -> bytes | Failure:
    """Send one request to a collector; its answer when it has taken it. All waits for it end after so many seconds.

    To connect may take as long again, for each address that its name has.
    """
    place = _place(url, path)
    request = urllib.request.Request(place, body, {**headers(), "Content-Type": _TYPE}, method="POST")  # noqa: S310 - http(s) by the spec
    try:
        with _OPENER.open(request, timeout=timeout) as answer:
            return bytes(answer.read1(_LONGEST))
    except HTTPError as fault:
        with fault:
            after = _seconds(fault.headers.get("retry-after", ""))
            reason = worded(f"HTTP {fault.code}", _said(fault), headers().values())
            return Failure(reason, after, fault.code not in _PASSING)
    except OSError as fault:
        return Failure(str(fault) or type(fault).__name__)
    except (ValueError, HTTPException) as fault:
        return Failure(type(fault).__name__)  # its words may hold a header, which may be a secret


def _said(fault: HTTPError) -> bytes:
    """What stands below an error, as far as it comes; in time, like all of an answer."""
    try:
        return fault.read(_REMARK)
    except (OSError, HTTPException, ValueError):
        return b""


def _place(url: str, path: str) -> str:
    """Where a collector at this URL takes what goes to this path; the query stays behind it."""
    said = urlsplit(url)
    return said._replace(path=said.path.rstrip("/").removesuffix(path) + path).geturl()


def headers() -> dict[str, str]:
    """What OpenTelemetry's own variable, or the secret of its name, says: `key=value,key=value`, percent-encoded."""
    try:
        said = secret(_HEADERS)
    except MahavishnuError:
        return {}
    pairs = (pair.partition("=") for pair in said.split(",") if "=" in pair)
    return {name.strip(): unquote(value.strip()) for name, _, value in pairs}


def instance(*, worker: bool) -> str:
    """Which process this is: the one of its host and pid; workers are one, that of their parent."""
    return f"{socket.gethostname()}-{os.getppid() if worker else os.getpid()}"


async def aside(call: Callable[[], T]) -> T:
    """As `asyncio.to_thread`, but the process does not wait for it when it ends: a name may take minutes to look up."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def work() -> None:
        tell: Callable[[Any], None] = done.set_result
        try:
            result: Any = call()
        except Exception as fault:  # noqa: BLE001 - it is raised where it is waited for
            tell, result = done.set_exception, fault
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(_tell_once, done, tell, result)

    begun(work)
    return await done


def begun(work: Callable[[], None]) -> threading.Thread | None:
    """A thread that does this, and that the process does not wait for when it ends.

    None where it is done already: Python 3.12 begins no thread once the main one has ended, and at the end of a process
    nothing else waits to be done.
    """
    thread = threading.Thread(target=work, daemon=True)
    try:
        thread.start()
    except RuntimeError:
        if threading.main_thread().is_alive():
            raise
        work()
        return None
    return thread


def _tell_once(done: asyncio.Future[Any], tell: Callable[[Any], None], result: Any) -> None:
    if not done.done():  # nor given up
        tell(result)


def _seconds(said: str) -> float:
    """What `Retry-After` asks for; a date, which collectors do not send, is not waited for."""
    return min(float(said), 300) if said.isascii() and said.isdigit() else 0


_OPENER = hurried.opener()
