"""Where each client keeps its status: it is found there, whatever it means, and nowhere else."""

from __future__ import annotations

import http.client
import io
import socket
from collections.abc import Callable
from email.message import Message
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any, NoReturn, cast
from unittest.mock import Mock
from urllib.error import HTTPError

import httpx
import pytest
import requests
import urllib3
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.websockets import WebSocketDisconnect

from mahavishnu.errors import BreakerOpen
from mahavishnu.outcomes.faults import leaves_of, leaves_of_answer, outcome_of, outcome_of_answer, why
from mahavishnu.outcomes.statuses import MOST, READERS, own_status, status_of, status_of_fault
from mahavishnu.protocols import Outcome


def stand_in(module: str, name: str, base: type = object) -> Any:
    """A class of that module and name, of a client that is not installed here."""
    return type(name, (base,), {"__module__": module})


AioResponse = stand_in("aiohttp.client_reqrep", "ClientResponse")
AioError = stand_in("aiohttp.client_exceptions", "ClientResponseError", Exception)
AioContentError = stand_in("aiohttp.client_exceptions", "ContentTypeError", AioError)
BotoError = stand_in("botocore.exceptions", "ClientError", Exception)
NoSuchKey = stand_in("botocore.errorfactory", "NoSuchKey", BotoError)
Litestars = stand_in("litestar.exceptions.http_exceptions", "HTTPException", Exception)
Werkzeugs = stand_in("werkzeug.exceptions", "HTTPException", Exception)


def carrying(of: Any, **attributes: object) -> Any:
    made = of()
    for name, said in attributes.items():
        setattr(made, name, said)
    return made


def of_requests(status: int) -> requests.Response:
    made = requests.Response()
    made.status_code = status
    return made


def of_http_client(status: int) -> http.client.HTTPResponse:
    """What `urlopen` returns."""

    class Wire:
        def makefile(self, _: str) -> io.BytesIO:
            return io.BytesIO(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status)

    made = http.client.HTTPResponse(cast("socket.socket", Wire()))
    made.begin()
    return made


def of_boto(status: int, error: Any = BotoError) -> Any:
    return carrying(error, response={"ResponseMetadata": {"HTTPStatusCode": status}})


def raised_by_httpx(status: int) -> httpx.HTTPStatusError:
    request = httpx.Request("GET", "http://x")
    return httpx.HTTPStatusError("x", request=request, response=httpx.Response(status, request=request))


ANSWERS: dict[str, Callable[[int], Any]] = {
    "httpx": httpx.Response,
    "requests": of_requests,
    "aiohttp": lambda status: carrying(AioResponse, status=status),
    "urllib3": lambda status: urllib3.HTTPResponse(status=status),
    "urllib": of_http_client,
    "starlette": lambda status: JSONResponse({}, status),
}
FAULTS: dict[str, Callable[[int], Any]] = {
    "httpx": raised_by_httpx,
    "requests": lambda status: requests.HTTPError(response=of_requests(status)),
    "aiohttp": lambda status: carrying(AioError, status=status),
    "urllib": lambda status: HTTPError("http://x", status, "x", Message(), None),
    "botocore": of_boto,
    "an error that botocore makes": lambda status: of_boto(status, NoSuchKey),
    "a client with a response of its own": lambda status: carrying(
        stand_in("sdk", "Wrong", Exception), response=SimpleNamespace(status_code=status)
    ),
}
OWN: dict[str, Callable[[int], Any]] = {
    "starlette": HTTPException,
    "with an enum": lambda status: HTTPException(HTTPStatus(status)),
    "litestar": lambda status: carrying(Litestars, status_code=status),
    "werkzeug": lambda status: carrying(Werkzeugs, code=status, response=None),
}


@pytest.mark.parametrize("client", ANSWERS)
def test_the_status_of_an_answer_is_seen(client: str) -> None:
    """503 is a failure and a word for it, 404 is the caller's doing, 200 is plainly good."""
    make = ANSWERS[client]
    assert leaves_of_answer(make(503)) == ((Outcome.FAILURE, frozenset((503,))),)
    assert leaves_of_answer(make(404)) == ((Outcome.SUCCESS, frozenset((404,))),)
    assert (leaves_of_answer(make(200)), status_of(make(200))) == ((), 200)


@pytest.mark.parametrize("client", FAULTS)
def test_the_status_of_an_error_is_seen(client: str) -> None:
    """As that of an answer; and it is among the words that the spec may use."""
    make = FAULTS[client]
    assert (outcome_of(make(503)), outcome_of(make(404))) == (Outcome.FAILURE, Outcome.SUCCESS)
    ((_, words),) = leaves_of(make(404))
    assert 404 in words
    assert why(make(503)).endswith(": status 503")


def test_an_error_beside_a_good_status_is_a_failure() -> None:
    """As aiohttp raises it for HTML where JSON was to come."""
    assert outcome_of(carrying(AioContentError, status=200)) is Outcome.FAILURE


class Row:
    """What an app returns: its attributes are no status, and to read one may run a query."""

    status = 503
    code = 503

    @property
    def status_code(self) -> NoReturn:
        raise AssertionError("somebody looked")


class Delivered(Exception):
    """An error of the app that knows a status of its own domain."""

    status = "503"
    status_code = 503

    @property
    def response(self) -> NoReturn:
        raise RuntimeError("there is none")


@pytest.mark.parametrize(
    "answer",
    [
        Row(),
        Mock(status_code=503, status=503),
        Mock(spec=httpx.Response, status_code=503),
        {"status_code": 503, "status": 503},
        SimpleNamespace(status_code=503, status=503, code=503),
        carrying(AioResponse, status=None),
        carrying(AioResponse, status="503"),
        carrying(AioResponse, status=True),
        carrying(AioResponse, status=999),
        503,
        None,
    ],
    ids=lambda one: type(one).__name__,
)
def test_nothing_else_is_taken_for_a_response(answer: object) -> None:
    """Rows, mocks, mappings; nor a status that is none. Nobody even looks into what is no client's."""
    assert (status_of(answer), outcome_of_answer(answer)) == (None, Outcome.SUCCESS)


def test_an_error_that_cannot_be_looked_at_is_a_failure() -> None:
    """Its call has to end all the same."""
    assert (status_of_fault(Delivered()), outcome_of(Delivered())) == (None, Outcome.FAILURE)


@pytest.mark.parametrize("framework", OWN)
def test_what_the_app_itself_answers_is_no_failed_call(framework: str) -> None:
    """4xx is a success, as a client's is; 5xx is a failure, as any exception is. It is no word of the dependency."""
    make = OWN[framework]
    for status, outcome in ((404, Outcome.SUCCESS), (429, Outcome.SUCCESS), (502, Outcome.FAILURE)):
        ((said, words),) = leaves_of(make(status))
        assert (said, status in words, own_status(make(status))) == (outcome, False, status)


def test_a_request_that_does_not_fit_is_no_failed_call() -> None:
    """FastAPI answers 422, through each dependency that yields."""
    assert outcome_of(RequestValidationError([])) is Outcome.SUCCESS


@pytest.mark.parametrize("gone", [ClientDisconnect(), WebSocketDisconnect(1001)], ids=repr)
def test_a_client_that_has_gone_says_nothing(gone: Exception) -> None:
    """Its going is thrown through the same blocks; it tells as little as a cancellation."""
    assert outcome_of(gone) is Outcome.CANCELLED


@pytest.mark.parametrize(
    ("cause", "status", "outcome"),
    [
        (httpx.ConnectError("x"), 400, Outcome.FAILURE),
        (TimeoutError(), 404, Outcome.TIMEOUT),
        (raised_by_httpx(503), 424, Outcome.FAILURE),
        (raised_by_httpx(404), 502, Outcome.SUCCESS),
        (BreakerOpen("other", "breaker", "open"), 503, Outcome.CANCELLED),
        (KeyError("no such item"), 404, Outcome.SUCCESS),
        (KeyError("no such item"), 500, Outcome.FAILURE),
    ],
    ids=repr,
)
@pytest.mark.parametrize("hidden", [False, True])
def test_what_a_client_raised_is_seen_behind_the_apps_answer(
    cause: Exception, status: int, outcome: Outcome, hidden: bool
) -> None:
    """`except httpx.ConnectError: raise HTTPException(400)` tells of a dependency that failed."""

    def answer() -> NoReturn:
        try:
            raise cause
        except type(cause) as fault:
            raise HTTPException(status) from (None if hidden else fault)

    with pytest.raises(HTTPException) as caught:
        answer()
    assert outcome_of(caught.value) is outcome


def test_types_are_not_kept_for_ever() -> None:
    """A mock has a type of its own: a test suite, or a process, makes as many as it likes."""
    for _ in range(3 * MOST):
        status_of(Mock())
    assert len(READERS) <= MOST
    assert status_of(httpx.Response(503)) == 503
