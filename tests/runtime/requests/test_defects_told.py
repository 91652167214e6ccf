"""An error that nobody has foreseen: its line says what it was and where it came from, and nothing secret."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mahavishnu.runtime.telemetry.defects import noted
from tests.runtime.asgi_client import harden, site, spec_of


async def failing(_: Request) -> Response:
    url = "http://bob:pw@crm/customer?api_key=KEY123&email=bob%40example.com"
    try:
        httpx.Response(503, request=httpx.Request("GET", url)).raise_for_status()
    except httpx.HTTPError as cause:
        raise ValueError("token=OUTER") from cause
    raise AssertionError


@pytest.mark.parametrize("logs", [{}, {"redact": ["client"]}])
async def test_its_line_has_the_traceback_and_the_id(logs: dict[str, Any]) -> None:
    """As it is written by hand, and as the logger writes it."""
    house = harden(site(Route("/", failing)), spec_of(observability={"logs": logs}))
    with pytest.raises(ValueError, match="OUTER"):
        await house.call()
    (line,) = [one for one in house.lines if one["event"] == "request"]
    assert (line["error"], line["level"]) == ("ValueError", "error")
    first, kind, cause, *_, last = line["traceback"]
    assert first.startswith(f"{__file__}:")
    assert first.endswith("in failing")
    assert (kind, cause) == ("ValueError", "caused by HTTPStatusError: status 503")
    assert last.endswith("in raise_for_status")
    assert line["request_id"]
    for secret in ("KEY123", "bob", "pw", "OUTER"):
        assert secret not in json.dumps(line)


def test_it_stays_short_whatever_is_raised() -> None:
    """A thousand frames, errors in a circle, and a group."""

    def deep(left: int) -> None:
        if left:
            deep(left - 1)
        raise ValueError

    with pytest.raises(ValueError) as raised:  # noqa: PT011 - it has no text
        deep(500)
    other = ExceptionGroup("y", [RuntimeError(), KeyError()])
    other.__cause__, raised.value.__cause__ = raised.value, other
    lines = noted(raised.value)
    assert sum(map(len, lines)) <= 2500
    assert any("more" in one for one in lines)
    assert [one for one in lines if one.startswith("caused by")] == [
        "caused by ExceptionGroup",
        "caused by RuntimeError",
        "caused by KeyError",
    ]
