"""Retry: how long it waits, what it repeats, and that all callers together cannot make a bad day worse."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Callable
from email.message import Message
from types import SimpleNamespace
from typing import Any
from urllib.error import HTTPError, URLError

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mahavishnu.errors import BreakerOpen, BulkheadFull, CallTimeout, RateLimited
from mahavishnu.outcomes.faults import (
    kinds,
    leaves_of,
    leaves_of_answer,
    outcome_of,
    outcome_of_answer,
    retry_after,
)
from mahavishnu.policies.retry import RESERVE, Retrier, Retry
from mahavishnu.protocols import Outcome, Site
from mahavishnu.testing import VirtualClock
from tests.metering import metrics_for, value

MS = 1_000_000
SECOND = 1000 * MS
WALL = 1_700_000_000  # Tue, 14 Nov 2023 22:13:20 GMT


def retrier(draw: Callable[[], float] = lambda: 0.5, **said: Any) -> tuple[Retrier, Callable[[str], float]]:
    """A retrier whose dice always fall alike, and a reader of its counter."""
    settings = Retry.model_validate(said)
    metrics = metrics_for(settings)
    site = Site("stripe", VirtualClock(), metrics, None, draw)
    made = Retrier(settings, site, wall=lambda: WALL)
    return made, lambda outcome: value(metrics, "mahavishnu_retries_total", outcome=outcome)


def test_the_pause_is_drawn_between_nothing_and_a_ceiling_that_doubles() -> None:
    """Full jitter: U(0, min(max, base * 2^(n-1))), in whole nanoseconds."""
    always, _ = retrier(lambda: 0.999999, attempts=10, base="100ms", max="1s")
    ceilings = [round((always.pause(attempt, None, None) or 0) / MS) for attempt in range(1, 7)]
    assert ceilings == [100, 200, 400, 800, 1000, 1000]
    never, _ = retrier(lambda: 0.0)
    assert never.pause(1, None, None) == 0


def test_after_the_last_attempt_it_gives_up() -> None:
    """`attempts` counts all tries, the first included."""
    made, count = retrier(attempts=3)
    assert [made.pause(attempt, None, None) is None for attempt in (1, 2, 3)] == [False, False, True]
    assert (count("retried"), count("exhausted")) == (2, 1)


def test_a_retry_after_is_honoured_and_spread() -> None:
    """Never sooner than the server asked, and up to `base` later, so that not all come back at once."""
    made, _ = retrier(base="100ms", max="2s")
    assert made.pause(1, SECOND, None) == SECOND + 50 * MS
    assert made.pause(1, 0, None) == 50 * MS + 50 * MS


def test_a_retry_after_beyond_the_deadline_is_not_waited_for() -> None:
    """With a deadline, what fits in it is waited for; without one, what is not above `max`."""
    made, count = retrier(base="100ms", max="2s")
    assert made.pause(1, 5 * SECOND, 6 * SECOND) == 5 * SECOND + 50 * MS
    assert made.pause(1, 5 * SECOND, 5 * SECOND + 50 * MS - 1) is None
    assert made.pause(1, 5 * SECOND, None) is None
    assert made.pause(1, 2 * SECOND, None) is not None
    assert count("deadline") == 2


def test_a_pause_that_does_not_fit_is_not_begun() -> None:
    """A retry that could only begin after the deadline costs nothing: the budget is not touched."""
    made, count = retrier(base="100ms")
    assert made.pause(1, None, 50 * MS - 1) is None
    assert made.pause(1, None, 50 * MS) == 50 * MS
    assert (count("deadline"), made.fullness()) == (1, 1 - 1 / RESERVE)


def test_the_budget_is_shared_and_refills_with_calls() -> None:
    """The reserve is spent, then every fifth call pays for one retry at 20%."""
    made, count = retrier(budget="20%")
    for _ in range(RESERVE):
        assert made.pause(1, None, None) is not None
    assert made.fullness() == 0
    granted = 0
    for _ in range(100):
        made.deposit()
        granted += made.pause(1, None, None) is not None
    assert granted == 20
    assert count("budget") == 80


@given(st.lists(st.integers(0, 5), min_size=1, max_size=400), st.sampled_from(["1%", "10%", "20%", "100%"]))
def test_retries_never_exceed_the_reserve_and_the_share(calls: list[int], budget: str) -> None:
    """For any schedule of successes and wishes: retries <= reserve + budget * successes, at every moment."""
    made, count = retrier(budget=budget)
    share = Retry.model_validate({"budget": budget}).budget.ratio
    for number, wishes in enumerate(calls, start=1):
        made.deposit()
        for _ in range(wishes):
            made.pause(1, None, None)
        assert count("retried") <= RESERVE + share * number
        assert 0 <= made.fullness() <= 1


def test_what_is_left_of_the_budget_is_shown() -> None:
    """From 1 to 0, as it is spent."""
    metrics = metrics_for(Retry())
    made = Retrier(Retry(), Site("stripe", VirtualClock(), metrics, None, lambda: 0.5))
    left = [value(metrics, "mahavishnu_retry_budget_ratio", dependency="stripe")]
    made.pause(1, None, None)
    left.append(value(metrics, "mahavishnu_retry_budget_ratio", dependency="stripe"))
    assert left == [1, 1 - 1 / RESERVE]
    assert not made.busy()


def test_a_quiet_day_saves_no_more_than_the_reserve() -> None:
    """A million calls without a fault fill the budget once."""
    made, _ = retrier(budget="100%")
    for _ in range(1000):
        made.deposit()
    assert sum(made.pause(1, None, None) is not None for _ in range(1000)) == RESERVE


def test_it_is_busy_while_somebody_changes_the_budget() -> None:
    """Who must not wait, as a finalizer, asks before."""
    made, _ = retrier()
    seen: list[bool] = []
    made.budget.told = lambda: seen.append(made.busy())
    assert made.pause(1, None, None) is not None
    made.deposit()
    assert (seen, made.busy()) == ([True, True], False)


def test_threads_cannot_spend_a_token_twice() -> None:
    """Sixteen threads want 100 retries each of a reserve of ten."""
    made, count = retrier()
    threads = [
        threading.Thread(target=lambda: [made.pause(1, None, None) for _ in range(100)]) for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (count("retried"), count("budget")) == (RESERVE, 1600 - RESERVE)


def _status_error(status: int) -> httpx.HTTPStatusError:
    request = httpx.Request("GET", "http://x")
    return httpx.HTTPStatusError("x", request=request, response=httpx.Response(status, request=request))


@pytest.mark.parametrize(
    ("fault", "wanted"),
    [
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (CallTimeout("stripe", "timeout", "slow"), True),
        (socket.gaierror(), True),
        (URLError(socket.gaierror()), True),
        (URLError(ConnectionRefusedError()), True),
        (URLError(TimeoutError()), True),
        (URLError(ssl.SSLError()), False),
        (URLError("unknown url type: x"), False),
        (HTTPError("http://x", 503, "Busy", Message(), None), True),
        (HTTPError("http://x", 500, "Broken", Message(), None), False),
        (httpx.ConnectError("x"), True),
        (httpx.ReadTimeout("x"), True),
        (httpx.RemoteProtocolError("x"), True),
        (httpx.PoolTimeout("x"), True),
        (_status_error(503), True),
        (_status_error(500), False),
        (_status_error(404), False),
        (ValueError(), False),
        (httpx.InvalidURL("x"), False),
        (httpx.UnsupportedProtocol("x"), False),
        (BreakerOpen("stripe", "breaker", "open", 1), False),
        (BulkheadFull("stripe", "bulkhead", "full"), False),
        (asyncio.CancelledError(), False),
        (KeyboardInterrupt(), False),
        (ExceptionGroup("x", [TimeoutError(), ExceptionGroup("y", [ConnectionError()])]), True),
        (ExceptionGroup("x", [TimeoutError(), ValueError()]), False),
    ],
    ids=repr,
)
def test_only_what_may_pass_by_itself_is_repeated(fault: BaseException, wanted: bool) -> None:
    """By default: timeouts, connections, 502, 503, 504, whichever library says so."""
    made, _ = retrier()
    assert made.wants(leaves_of(fault)) is wanted


def test_what_is_repeated_can_be_said() -> None:
    """A connect timeout is both; a status is repeated only when it is listed."""
    connect, _ = retrier(retry_on=["connect", 429])
    assert connect.wants(leaves_of(httpx.ConnectTimeout("x")))
    assert not connect.wants(leaves_of(httpx.ReadTimeout("x")))
    assert connect.wants(leaves_of_answer(httpx.Response(429)))
    assert not connect.wants(leaves_of_answer(httpx.Response(503)))
    assert not connect.wants(leaves_of_answer("no response at all"))
    assert kinds(httpx.ConnectTimeout) >= {"connect", "timeout", "httpx.ConnectTimeout", "Exception"}


def _response(**headers: str) -> httpx.Response:
    return httpx.Response(503, headers={name.replace("_", "-"): text for name, text in headers.items()})


@pytest.mark.parametrize(
    ("answer", "asked"),
    [
        (_response(retry_after="3"), 3 * SECOND),
        (_response(retry_after=" 0 "), 0),
        (_response(retry_after="Tue, 14 Nov 2023 22:13:30 GMT"), 10 * SECOND),
        (_response(retry_after="Tue, 14 Nov 2023 22:13:10 GMT"), 0),
        (
            _response(retry_after="Fri, 01 Jan 2100 00:00:07 GMT", date="Fri, 01 Jan 2100 00:00:00 GMT"),
            7 * SECOND,
        ),
        (_response(retry_after="-1"), None),
        (_response(retry_after="1.5"), None),
        (_response(retry_after="soon"), None),
        (SimpleNamespace(headers={"retry-after": "\u0663"}), None),
        (_response(retry_after="9" * 400), 9_999_999_999 * SECOND),
        (_response(retry_after="0" * 400 + "5"), 5 * SECOND),
        (_response(retry_after="Tue, 99 Nov 2023 22:13:10 GMT"), None),
        (_response(), None),
        ("no response at all", None),
        (None, None),
    ],
)
def test_a_retry_after_is_read_in_both_forms(answer: object, asked: int | None) -> None:
    """Seconds, or a date measured from the server's own; what is unclear counts as not said, what is absurd is."""
    assert retry_after(answer, lambda: WALL) == asked


@pytest.mark.parametrize("said", ["Tue Nov 14 22:13:30 2023", "Tue, 14 Nov 2023 22:13:30 -0000"])
def test_a_date_that_names_no_zone_is_none_of_this_host(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old form of asctime has none: HTTP's dates are those of Greenwich, wherever the process runs."""
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        assert retry_after(_response(retry_after=said), lambda: WALL) == 10 * SECOND
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        (ValueError(), Outcome.FAILURE),
        (TimeoutError(), Outcome.TIMEOUT),
        (httpx.ReadTimeout("x"), Outcome.TIMEOUT),
        (_status_error(500), Outcome.FAILURE),
        (_status_error(404), Outcome.SUCCESS),
        (BreakerOpen("other", "breaker", "open", 1), Outcome.CANCELLED),
        (BulkheadFull("other", "bulkhead", "full"), Outcome.CANCELLED),
        (RateLimited("tools", "too often", 1), Outcome.CANCELLED),
        (URLError(TimeoutError()), Outcome.TIMEOUT),
        (URLError(ConnectionRefusedError()), Outcome.FAILURE),
        (asyncio.CancelledError(), Outcome.CANCELLED),
        (KeyboardInterrupt(), Outcome.CANCELLED),
        (SystemExit(), Outcome.CANCELLED),
        (GeneratorExit(), Outcome.CANCELLED),
        (BaseExceptionGroup("x", [asyncio.CancelledError(), ValueError()]), Outcome.FAILURE),
        (
            BaseExceptionGroup("x", [ExceptionGroup("y", [ExceptionGroup("z", [TimeoutError()])])]),
            Outcome.TIMEOUT,
        ),
        (BaseExceptionGroup("x", [KeyboardInterrupt(), asyncio.CancelledError()]), Outcome.CANCELLED),
        (ExceptionGroup("x", [_status_error(404)]), Outcome.SUCCESS),
    ],
    ids=repr,
)
def test_what_a_fault_says_about_the_dependency(fault: BaseException, outcome: Outcome) -> None:
    """4xx is the caller's fault, cancellation and refusal are nobody's, a group with a failure is one."""
    assert outcome_of(fault) is outcome


def test_what_an_answer_says_about_the_dependency() -> None:
    """5xx is a failure; anything without a status is a success."""
    assert outcome_of_answer(httpx.Response(500)) is Outcome.FAILURE
    assert outcome_of_answer(httpx.Response(499)) is Outcome.SUCCESS
    assert outcome_of_answer({"status_code": 500}) is Outcome.SUCCESS
