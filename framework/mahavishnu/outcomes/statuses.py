"""Where clients keep the status of an answer, and frameworks that of an error; no other object is looked into."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_Read = Callable[[Any], object]
MOST = 256
"""Types that are remembered; some code makes one for every object."""
_FORKS = {"httpx2": "httpx", "httpcore": "httpx", "httpcore2": "httpx"}


def _at(name: str) -> _Read:
    return lambda one: getattr(one, name, None)


def _of_botocore(fault: Any) -> object:
    return fault.response.get("ResponseMetadata", {}).get("HTTPStatusCode")


# By (top package, class), subclasses included. A row of a database or a mock may have such attributes too: to read one
# there may run code, and says nothing of a dependency.
_CLIENTS: Mapping[tuple[str, str], _Read] = {
    ("httpx", "Response"): _at("status_code"),
    ("requests", "Response"): _at("status_code"),
    ("starlette", "Response"): _at("status_code"),
    ("aiohttp", "ClientResponse"): _at("status"),
    ("aiohttp", "ClientResponseError"): _at("status"),
    ("urllib3", "HTTPResponse"): _at("status"),
    ("urllib3", "BaseHTTPResponse"): _at("status"),
    ("http", "HTTPResponse"): _at("status"),
    ("urllib", "HTTPError"): _at("code"),
    ("botocore", "ClientError"): _of_botocore,
}
_FRAMEWORKS: Mapping[tuple[str, str], _Read] = {
    ("starlette", "HTTPException"): _at("status_code"),
    ("fastapi", "RequestValidationError"): lambda _: 422,
    ("litestar", "HTTPException"): _at("status_code"),
    ("werkzeug", "HTTPException"): _at("code"),
}


def package(of: type) -> str:
    """The top package of a class; forks of httpx go by its name."""
    top = of.__module__.partition(".")[0]
    return _FORKS.get(top, top)


class _Readers(dict[type, _Read | None]):
    """What reads the status of objects of a type; None where none of it has one. Every answer of a call asks."""

    def __init__(self, table: Mapping[tuple[str, str], _Read]) -> None:
        super().__init__()
        self._table = table

    def __missing__(self, of: type) -> _Read | None:
        if len(self) >= MOST:
            self.clear()
        found = (self._table.get((package(each), each.__name__)) for each in of.__mro__)
        self[of] = read = next((one for one in found if one is not None), None)
        return read


READERS = _Readers(_CLIENTS)
_OWN = _Readers(_FRAMEWORKS)


def status_of(answer: object) -> int | None:
    """The HTTP status of a client's response; None for anything else."""
    read = READERS[type(answer)]
    return None if read is None else _status(read(answer))


def status_of_fault(fault: BaseException) -> int | None:
    """The HTTP status behind an exception such as httpx.HTTPStatusError; None when there is none."""
    response = response_of(fault)
    # The response of an error is one, whoever made it: clients that are not known here, and stand-ins of tests.
    return status_of(response) if READERS[type(response)] else _status(getattr(response, "status_code", None))


def response_of(fault: BaseException) -> object:
    """The response behind an exception, which may be the exception itself; None when there is none."""
    if READERS[type(fault)] is not None:
        return fault
    if _OWN[type(fault)] is not None:
        return None
    try:
        return getattr(fault, "response", None)
    except Exception:  # noqa: BLE001 - whatever it runs, the call has to end
        return None


def own_status(fault: BaseException) -> int | None:
    """The status that the app itself answers with by raising this; None when it is no such exception."""
    read = _OWN[type(fault)]
    return None if read is None else _status(read(fault))


def _status(said: object) -> int | None:
    return int(said) if isinstance(said, int) and 100 <= said <= 599 else None
