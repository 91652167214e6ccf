"""MV419: places that are taken by clients which only listen."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import Facts, warning
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code
from mahavishnu.policies.concurrency import Concurrency

CODE = Code(
    "MV419",
    "places that clients of MCP take while they do nothing",
    "A client of a session keeps a GET open as long as it is connected. With a number of places it holds one of them "
    "all that time: so many idle clients, and everybody else gets a 503.",
    "limits: {places: {concurrency: 6, match: {path: /mcp}}}, and `app = mcp.http_app()`",
    "Write `match: {path: /mcp, method: POST}`, for calls are POSTs; or `concurrency: adaptive`, which counts nobody "
    "who only listens; or make the app without sessions, by `stateless_http=True`.",
)


def check(facts: Facts) -> Iterator[Problem]:
    """Every number of places, for each of its sessions' paths that it is for."""
    paths = facts.app.sessions if facts.app else ()
    for name, limit in facts.spec.limits.items():
        if isinstance(limit, Concurrency) and limit.concurrency != "adaptive" and limit.mode != "off":
            match = limit.match
            path = next((one for one in paths if match is None or match.meets(one, "GET")), None)
            if path is not None:
                what = f"clients of `{path}` keep a GET open, each in one of the {limit.concurrency} places of `{name}`"
                help = f"write `match: {{path: {path}, method: POST}}`, for calls are POSTs, or `concurrency: adaptive`"
                yield warning(CODE, ("limits", name, "concurrency"), what, help)
