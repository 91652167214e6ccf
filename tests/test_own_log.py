"""The app's own log: its lines have the ids of the request, like ours."""

from __future__ import annotations

from typing import Any

import structlog
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import mahavishnu
from mahavishnu.structlog import with_request
from tests.otlp_receiver import Collector, Exporting
from tests.runtime.asgi_client import harden, site, spec_of
from tests.runtime.telemetry.test_otlp import served
from tests.runtime.tracing.traced import tracing

_IDS = ("request_id", "trace_id", "span_id")


class Own:
    """An app that logs by structlog, in a coroutine, in a thread and after its response; and what it has logged."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.known: list[str] = []
        self.log = structlog.wrap_logger(self, processors=[with_request])
        self.app = site(Route("/", self.handler), Route("/thread", self.in_thread))

    async def handler(self, request: Request) -> Response:
        self.known.append(mahavishnu.request_id())
        self.log.info("inside")
        return Response(background=BackgroundTask(self.log.info, "behind"))

    def in_thread(self, request: Request) -> Response:
        self.log.info("thread", request_id="mine")
        return Response()

    def info(self, **line: Any) -> None:
        """What structlog hands its lines to."""
        self.lines.append(line)


async def test_lines_of_the_apps_own_have_the_ids_of_the_request(receiver: Collector) -> None:
    """Those of its access line; what a line says itself stays, and outside of a request there are none."""
    own = Own()
    own.log.info("before")
    async with served(harden(own.app, tracing(receiver.url), clock=Exporting())) as house:
        await house.call()
        await house.call(path="/thread")
        own.log.info("outside")
    first, second = ([line.get(name) for name in _IDS] for line in house.lines if line["event"] == "request")
    ids = {line["event"]: [line.get(name) for name in _IDS] for line in own.lines}
    nothing = [None, None, None]
    assert all(first)
    assert ids["inside"] == ids["behind"] == first
    assert ids["thread"] == ["mine", *second[1:]]
    assert ids["before"] == ids["outside"] == nothing
    assert (own.known, mahavishnu.request_id()) == (first[:1], "")


async def test_without_traces_a_line_has_the_id_of_the_request_alone() -> None:
    own = Own()
    async with served(harden(own.app, spec_of())) as house:
        await house.call()
    (line,) = (line for line in house.lines if line["event"] == "request")
    assert own.lines[0] == {"event": "inside", "request_id": line["request_id"]}
