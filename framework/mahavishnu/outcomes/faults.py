"""What an exception or an answer says about a dependency, read without importing any client library."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Annotated, Literal, cast

from pydantic import AfterValidator, Field, StringConstraints

from mahavishnu.errors import BreakerOpen, BulkheadFull, DependencyError, RateLimited, Throttled
from mahavishnu.ground.unfit import unfit
from mahavishnu.outcomes.statuses import own_status, package, status_of, status_of_fault
from mahavishnu.protocols import Leaf, Outcome, Word
from mahavishnu.units import SECOND


def _named(name: str) -> str:
    """An exception by its name, which has its module unless it is Python's own."""
    known = getattr(builtins, name, None)
    if "." not in name and not (isinstance(known, type) and issubclass(known, Exception)):
        raise unfit(f"no exception of Python is called `{name}`", "write its module before it")
    return name


Status = Annotated[int, Field(strict=True, ge=400, le=599)]
Fault = Annotated[
    str,
    StringConstraints(pattern=r"^([A-Za-z_]\w*\.)*[A-Z]\w*$", max_length=200),
    Field(examples=["shop.errors.Declined"]),
    AfterValidator(_named),
]
Words = tuple[Literal["timeout", "connect", "result"] | Status | Fault, ...]
"""How an attempt may end: `timeout`, `connect`, `result` (an answer that the decorator's `failed` calls one), a
status of an HTTP response, or an exception by its name (`ValueError`, `shop.errors.Declined`), subclasses included."""

_DIGITS = 10  # of seconds; three hundred years are as good as any more
# Classes of clients that are no builtin TimeoutError or ConnectionError, by (top package, name); and those of servers
# whose own client has gone, which is thrown through a dependency of FastAPI that yields.
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
    ("starlette", "ClientDisconnect"): "gone",
    ("starlette", "WebSocketDisconnect"): "gone",
    ("litestar", "WebSocketDisconnect"): "gone",
    ("uvicorn", "ClientDisconnected"): "gone",
    ("socket", "gaierror"): "connect",
    ("builtins", "TimeoutError"): "timeout",
    ("builtins", "ConnectionError"): "connect",
}


def _kinds(of: type) -> frozenset[str]:
    found = {_KINDS.get((package(each), each.__name__)) for each in of.__mro__}
    return frozenset(kind for kind in found if kind is not None) | {name_of(each) for each in of.__mro__}


kinds: Callable[[type], frozenset[str]] = lru_cache(maxsize=256)(_kinds)
"""The words that an exception class answers to: `timeout`, `connect`, its own name and those it inherits."""


def name_of(of: type) -> str:
    """The name by which the spec knows an exception class."""
    return of.__qualname__ if of.__module__ == "builtins" else f"{of.__module__}.{of.__qualname__}"


def why(error: BaseException) -> str:
    """An error in a few words: its kind, and a status; never its text, which may hold anything."""
    if isinstance(error, DependencyError):
        return error.what
    status = status_of_fault(error)
    return type(error).__name__ if status is None else f"{type(error).__name__}: status {status}"


def leaves(fault: BaseException) -> Iterator[BaseException]:
    """The exceptions inside a group, however deep; the exception itself when it is no group."""
    if not isinstance(fault, BaseExceptionGroup):
        yield fault
        return
    group = cast("BaseExceptionGroup[BaseException]", fault)
    for each in group.exceptions:
        yield from leaves(each)


def leaves_of(fault: BaseException) -> tuple[Leaf, ...]:
    """What each exception in a fault is by itself, and the words for it."""
    return tuple((_outcome(each), _words(each)) for each in leaves(fault))


def leaves_of_answer(answer: object, failed: bool = False) -> tuple[Leaf, ...]:
    """What an answer is, if it is not plainly good: its status says so, or the caller (`failed`)."""
    status = status_of(answer)
    if failed:
        return ((Outcome.FAILURE, _RESULT if status is None else _RESULT | {status}),)
    if status is None or status < 400:
        return ()
    return ((Outcome.SUCCESS if status < 500 else Outcome.FAILURE, frozenset((status,))),)


def counting(fault: BaseException) -> BaseException:
    """The error by which an attempt is counted that ended so: the worst of a group, and behind the app's own answer
    what a client has raised, where it was made of that."""
    each = min(leaves(fault), key=lambda one: _WORST.index(_outcome(one)), default=fault)
    cause = each.__cause__ or each.__context__
    own = own_status(each) is not None
    return cause if own and isinstance(cause, Exception) and _of_client(cause) else each


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """What a whole is whose parts are these: a group with one failure is one failure; nothing is a success."""
    found = set(outcomes)
    return next((each for each in _WORST if each in found), Outcome.SUCCESS)


def outcome_of(fault: BaseException) -> Outcome:
    """What everybody must think of an attempt that ended so, unless they are told otherwise."""
    return worst(_outcome(each) for each in leaves(fault))


def outcome_of_answer(answer: object) -> Outcome:
    """5xx is a failure of the dependency, anything else a success."""
    return worst(outcome for outcome, _ in leaves_of_answer(answer))


def retry_after(answer: object, wall: Callable[[], float]) -> int | None:
    """How long a response's `Retry-After` asks to wait, in ns; None when it does not say so clearly.

    A date is measured from the response's own `Date` where it has one, so that clocks need not agree.
    """
    said = _header(answer, "retry-after")
    if said is None:
        return None
    if said.isascii() and said.isdigit():
        return int("0" + said.lstrip("0")[:_DIGITS]) * SECOND
    until = _date(said)
    if until is None:
        return None
    since = _date(_header(answer, "date") or "")
    return max(0, round((until - (wall() if since is None else since)) * SECOND))


_WORST = (Outcome.FAILURE, Outcome.TIMEOUT, Outcome.CANCELLED, Outcome.SUCCESS)
_RESULT: frozenset[Word] = frozenset(("result",))
REFUSALS = (BreakerOpen, BulkheadFull, Throttled)
"""The errors of a call that was never made."""


def _words(fault: BaseException) -> frozenset[Word]:
    status = status_of_fault(fault)
    return kinds_of(fault) if status is None else kinds_of(fault) | {status}


def kinds_of(fault: BaseException) -> frozenset[str]:
    """The words for its class; and for what urllib has wrapped, whose own class says nothing."""
    own = kinds(type(fault))
    reason = getattr(fault, "reason", None) if "urllib.error.URLError" in own else None
    return own | kinds(type(reason)) if isinstance(reason, OSError) else own


def _outcome(fault: BaseException) -> Outcome:
    if not isinstance(fault, Exception):
        return Outcome.CANCELLED
    # A refusal says nothing about a dependency: nobody was called. Nor does who has asked the app, and is gone.
    if isinstance(fault, (*REFUSALS, RateLimited)) or "gone" in kinds(type(fault)):
        return Outcome.CANCELLED
    own = own_status(fault)
    if own is not None:
        return _outcome_of_own(fault, own)
    if "timeout" in kinds_of(fault):
        return Outcome.TIMEOUT
    status = status_of_fault(fault)
    # An error beside a good status is about something else, like a body that is no JSON.
    return Outcome.SUCCESS if status is not None and 300 <= status < 500 else Outcome.FAILURE


def _outcome_of_own(fault: Exception, status: int) -> Outcome:
    """The app's own answer says nothing of the dependency, unless it was made of what a client has raised."""
    cause = fault.__cause__ or fault.__context__
    if isinstance(cause, Exception) and _of_client(cause):
        return _outcome(cause)
    return Outcome.SUCCESS if status < 500 else Outcome.FAILURE


def _of_client(fault: Exception) -> bool:
    told = isinstance(fault, REFUSALS) or status_of_fault(fault) is not None
    return told or not kinds_of(fault).isdisjoint(("timeout", "connect"))


def _header(answer: object, name: str) -> str | None:
    get = getattr(getattr(answer, "headers", None), "get", None)
    value = get(name) if callable(get) else None
    return value.strip() if isinstance(value, str) else None


def _date(text: str) -> float | None:
    try:
        said = parsedate_to_datetime(text)
        return (said if said.tzinfo else said.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
