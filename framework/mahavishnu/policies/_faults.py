"""What an exception or an answer says about a dependency, read without importing any client library."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from typing import cast

from mahavishnu.errors import BreakerOpen, BulkheadFull
from mahavishnu.policy import Outcome

_SECOND = 1_000_000_000
# Classes of clients that are no builtin TimeoutError or ConnectionError, by (top package, name).
_KINDS = {
    ("httpx", "TimeoutException"): "timeout",
    ("httpx", "ConnectTimeout"): "connect",
    ("httpx", "NetworkError"): "connect",
    ("httpx", "RemoteProtocolError"): "connect",
    ("requests", "Timeout"): "timeout",
    ("requests", "ConnectionError"): "connect",
    ("urllib3", "TimeoutError"): "timeout",
    ("urllib3", "NewConnectionError"): "connect",
    ("urllib3", "ProtocolError"): "connect",
    ("aiohttp", "ClientConnectionError"): "connect",
    ("grpc", "FutureTimeoutError"): "timeout",
    ("socket", "gaierror"): "connect",
    ("builtins", "TimeoutError"): "timeout",
    ("builtins", "ConnectionError"): "connect",
}
_FORKS = {"httpx2": "httpx", "httpcore": "httpx", "httpcore2": "httpx"}


def kinds(of: type) -> frozenset[str]:
    """Which words of `retry_on` an exception class answers to: `timeout`, `connect`, both or none."""
    found = {_KINDS.get((_package(each), each.__name__)) for each in of.__mro__}
    return frozenset(kind for kind in found if kind is not None)


def status_of(answer: object) -> int | None:
    """The HTTP status that a response carries in `status_code`; None when it carries none."""
    status = getattr(answer, "status_code", None)
    return status if type(status) is int else None


def status_of_fault(fault: BaseException) -> int | None:
    """The HTTP status behind an exception such as httpx.HTTPStatusError; None when there is none."""
    return status_of(getattr(fault, "response", None))


def leaves(fault: BaseException) -> Iterator[BaseException]:
    """The exceptions inside a group, however deep; the exception itself when it is no group."""
    if not isinstance(fault, BaseExceptionGroup):
        yield fault
        return
    group = cast("BaseExceptionGroup[BaseException]", fault)
    for each in group.exceptions:
        yield from leaves(each)


def outcome_of(fault: BaseException) -> Outcome:
    """What a breaker must think of an attempt that ended so; a group with one failure is one failure."""
    found = {_outcome(each) for each in leaves(fault)}
    for worst in (Outcome.FAILURE, Outcome.TIMEOUT, Outcome.CANCELLED):
        if worst in found:
            return worst
    return Outcome.SUCCESS


def outcome_of_answer(answer: object) -> Outcome:
    """5xx is a failure of the dependency, anything else a success."""
    status = status_of(answer)
    return Outcome.SUCCESS if status is None or status < 500 else Outcome.FAILURE


def retry_after(answer: object, wall: Callable[[], float]) -> int | None:
    """How long a response's `Retry-After` asks to wait, in ns; None when it does not say so clearly.

    A date is measured from the response's own `Date` where it has one, so that clocks need not agree.
    """
    said = _header(answer, "retry-after")
    if said is None:
        return None
    if said.isascii() and said.isdigit():
        return int(said) * _SECOND if len(said) < 10 else None
    until = _date(said)
    if until is None:
        return None
    since = _date(_header(answer, "date") or "")
    return max(0, round((until - (wall() if since is None else since)) * _SECOND))


def _outcome(fault: BaseException) -> Outcome:
    if not isinstance(fault, Exception):
        return Outcome.CANCELLED
    # A refusal says nothing about a dependency: nobody was called.
    if isinstance(fault, BreakerOpen | BulkheadFull):
        return Outcome.CANCELLED
    if "timeout" in kinds(type(fault)):
        return Outcome.TIMEOUT
    status = status_of_fault(fault)
    return Outcome.FAILURE if status is None or status >= 500 else Outcome.SUCCESS


def _package(of: type) -> str:
    top = of.__module__.partition(".")[0]
    return _FORKS.get(top, top)


def _header(answer: object, name: str) -> str | None:
    get = getattr(getattr(answer, "headers", None), "get", None)
    value = get(name) if callable(get) else None
    return value.strip() if isinstance(value, str) else None


def _date(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None
