"""The access line, which is encoded by hand, says exactly what the logger would say."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path
from select import PIPE_BUF
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from mahavishnu.protocols import Decision
from mahavishnu.runtime.keys import Caller
from mahavishnu.runtime.limits.plan import Plan
from mahavishnu.runtime.telemetry.access_log import AccessLog
from mahavishnu.runtime.telemetry.logs import logger
from mahavishnu.runtime.telemetry.redaction import REDACTED
from mahavishnu.spec import Logs
from tests.runtime.asgi_client import harden, site, spec_of


class Served(NamedTuple):
    """A request as the log sees it."""

    plan: Plan = Plan(("/items/{item}", "GET"))
    path: str = "/items/1"
    status: int = 200
    caller: Caller = Caller("203.0.113.1")
    sent: int = 5
    refused: Decision | None = None
    fault: str | None = None
    request_id: str = "4f2a-1"
    broken: bool = False


ROOT = Path(__file__).parents[3]
SERVED = Served()
TOOK = 1_234_567
AT = 1_700_000_000_999_999_999
_TEXT = st.text(max_size=40) | st.sampled_from(
    ["\x1b[31m", "\n{}", '"', "\\", "\ud800", "é\u2028", "x" * 5000]
)
# Together no more than a record may hold: `where` is a place in the spec, which is never long.
_SERVED = st.builds(
    Served,
    st.builds(Plan, st.tuples(_TEXT, st.sampled_from(["GET", "_OTHER"]))),
    _TEXT,
    st.integers(100, 599),
    st.sampled_from(["203.0.113.1", "2001:db8::/64", "unknown"]).map(Caller),
    st.integers(0, 10**12),
    st.none()
    | st.just(Decision(False, "per_client"))
    | st.builds(Decision, st.just(False), st.just("dependencies.a.breaker"), where=st.text(max_size=40)),
    st.none() | _TEXT,
    st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True),
    st.booleans(),
)


def _written(settings: Logs, served: Served, took: int = TOOK) -> str:
    stream = StringIO()
    log = AccessLog(settings, stream)
    log.add(served, took, AT)
    log.flush()
    return stream.getvalue()


def _logged(settings: Logs, served: Served, took: int) -> str:
    stream = StringIO()
    log = logger(settings, stream)
    facts = {
        "method": served.plan.key[1],
        "route": served.plan.key[0],
        "path": served.path,
        "status": served.status,
        "duration_ms": took // 1000 / 1000,
        "client": served.caller.address,
        "bytes": served.sent,
        "refused_by": served.refused and served.refused.limit,
        "where": served.refused and (served.refused.where or None),
        "error": served.fault,
        "request_id": served.request_id,
    }
    said = {name: one for name, one in facts.items() if one is not None}
    failed = served.status >= 500 or (served.fault is not None and served.broken)
    (log.error if failed else log.info)("request", **said)
    return stream.getvalue()


def _untimed(text: str) -> str:
    return re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z", "now", text)


@given(_SERVED, st.integers(0, 10**15))
def test_the_line_is_the_logger_s_own_byte_for_byte(served: Served, took: int) -> None:
    """Whatever a request says, both ways write the same line, but for the time."""
    line, expected = _written(Logs(), served, took), _logged(Logs(), served, took)

    assert _untimed(line) == _untimed(expected)
    assert line.count("\n") == 1


def test_the_time_is_utc_and_of_the_second_in_which_it_ended() -> None:
    """The seconds are remembered between lines, and change when the clock does."""
    stream = StringIO()
    log = AccessLog(Logs(), stream)
    for at in (AT, AT + 1_000, AT + 12_346_000):
        log.add(SERVED, TOOK, at)
    log.flush()

    times = [json.loads(line)["timestamp"] for line in stream.getvalue().splitlines()]
    assert times == [
        "2023-11-14T22:13:20.999999Z",
        "2023-11-14T22:13:21.000000Z",
        "2023-11-14T22:13:21.012345Z",
    ]


async def test_the_time_is_when_the_request_ended_however_late_its_line_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It took 2 s and its line is written 5 s after its end: by the wall clock, that end was 5 s ago."""
    monkeypatch.setattr("time.time_ns", lambda: AT)

    async def slow(request: Request) -> Response:
        house.clock.advance("2s")
        return PlainTextResponse("ok")

    house = harden(site(Route("/", slow)), spec_of())
    house.clock.advance("1h")
    await house.call()
    house.clock.advance("5s")
    (line,) = house.lines
    assert (line["timestamp"], line["duration_ms"]) == ("2023-11-14T22:13:15.999999Z", 2000.0)


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


def test_lines_are_written_in_pieces_that_stay_whole() -> None:
    """No piece of several is longer than what a pipe takes at once, and none ends within a line."""
    pieces = list[str]()

    class Stream(StringIO):
        def write(self, text: str) -> int:
            pieces.append(text)
            return super().write(text)

    stream, one_by_one = Stream(), StringIO()
    log, alone = AccessLog(Logs(), stream), AccessLog(Logs(), one_by_one)
    served = [SERVED._replace(path="/" + "x" * (number * 37 % 900)) for number in range(60)]
    for one in (*served, SERVED._replace(path="/" + "é" * 5000)):
        log.add(one, TOOK, AT)
        alone.add(one, TOOK, AT)
        alone.flush()
    log.flush()
    assert "".join(pieces) == one_by_one.getvalue()
    assert len(pieces) > 5
    assert all(piece.endswith("}\n") for piece in pieces)
    assert all(len(piece) <= PIPE_BUF for piece in pieces if piece.count("\n") > 1)


WRITER = """
from mahavishnu.protocols import Decision
from mahavishnu.runtime.telemetry.access_log import AccessLog
from mahavishnu.spec import Logs
from tests.runtime.asgi_client import harden, run, site, spec_of
from tests.runtime.requests.test_access_log import AT, SERVED, TOOK
log = AccessLog(Logs())
for _ in range(100):
    for _ in range(64):
        log.add(SERVED, TOOK, AT)
    log.flush()
"""


@pytest.mark.proof
def test_workers_that_share_a_pipe_tear_no_line() -> None:
    """Three processes that write 64 lines at a time, faster than they are read."""
    out, into = os.pipe()
    writers = [subprocess.Popen([sys.executable, "-c", WRITER], stdout=into, cwd=ROOT) for _ in range(3)]
    os.close(into)
    with open(out, encoding="utf-8") as read:  # noqa: PTH123 - a descriptor has no path
        lines = [json.loads(line) for line in read]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert len(lines) == 3 * 100 * 64
