"""The access line, which is encoded by hand, says exactly what the logger would say."""

from __future__ import annotations

import json
import re
from io import StringIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mahavishnu.runtime.context import REQUEST_ID
from mahavishnu.runtime.logs import REDACTED, AccessLog, Served, logger
from mahavishnu.spec import Logs

SERVED = Served("GET", "/items/{item}", "/items/1", 200, 1_234_567, "203.0.113.1", 5)
_TEXT = st.text(max_size=40) | st.sampled_from(
    ["\x1b[31m", "\n{}", '"', "\\", "\ud800", "é\u2028", "x" * 5000]
)
_SERVED = st.builds(
    Served,
    st.sampled_from(["GET", "_OTHER"]),
    _TEXT,
    _TEXT,
    st.integers(100, 599),
    st.integers(0, 10**15),
    st.sampled_from(["203.0.113.1", "2001:db8::/64", "unknown"]),
    st.integers(0, 10**12),
    st.none() | st.just("per_client"),
    st.none() | _TEXT,
)


def _written(settings: Logs, served: Served) -> str:
    stream = StringIO()
    AccessLog(settings, stream)(served)
    return stream.getvalue()


def _logged(settings: Logs, served: Served) -> str:
    stream = StringIO()
    log = logger(settings, stream)
    (log.error if served.status >= 500 else log.info)("request", **served.facts())
    return stream.getvalue()


def _untimed(text: str) -> str:
    return re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z", "now", text)


@given(_SERVED, st.sampled_from(["", "4f2a-1", 'a"b']))
def test_the_line_is_the_logger_s_own_byte_for_byte(served: Served, request_id: str) -> None:
    """Whatever a request says, both ways write the same line, but for the time."""
    token = REQUEST_ID.set(request_id)
    try:
        line, expected = _written(Logs(), served), _logged(Logs(), served)
    finally:
        REQUEST_ID.reset(token)

    assert _untimed(line) == _untimed(expected)
    assert line.count("\n") == 1


def test_the_time_is_utc_and_of_the_second_in_which_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """The seconds are remembered between lines, and change when the clock does."""
    now = [1_700_000_000_999_999_999]
    monkeypatch.setattr("time.time_ns", lambda: now[0])
    stream = StringIO()
    log = AccessLog(Logs(), stream)
    log(SERVED)
    now[0] += 1_000
    log(SERVED)

    times = [json.loads(line)["timestamp"] for line in stream.getvalue().splitlines()]
    assert times == ["2023-11-14T22:13:20.999999Z", "2023-11-14T22:13:21.000000Z"]


@pytest.mark.parametrize(
    ("level", "status", "lines"), [("warning", 200, 0), ("warning", 500, 1), ("info", 200, 1)]
)
def test_the_level_is_kept(level: Any, status: int, lines: int) -> None:
    """A request is information, and an error from 500 on; the spec says what is written."""
    assert len(_written(Logs(level=level), SERVED._replace(status=status)).splitlines()) == lines


def test_a_field_that_the_spec_redacts_is_redacted_here_too() -> None:
    """`redact: [client]` hides the client of the access line."""
    assert json.loads(_written(Logs(redact=("client",)), SERVED))["client"] == REDACTED


def test_people_get_text() -> None:
    """`format: console` writes no JSON."""
    assert "event=request" in _written(Logs(format="console"), SERVED)
