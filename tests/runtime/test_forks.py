"""A fork is a process of its own: it counts for itself, and serves no request."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mahavishnu import dependency
from mahavishnu.asgi import Hardening
from mahavishnu.runtime.context import current_request
from mahavishnu.runtime.current import current
from mahavishnu.testing import VirtualClock
from tests.runtime.asgi_client import harden, run, site, spec_of
from tests.runtime.telemetry.test_otlp import served

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="only where processes fork"),
]
CALLS = "mahavishnu_dependency_calls_total"


def in_a_fork(work: Callable[[], Any]) -> Any:
    """What this returns in a fork."""
    context = multiprocessing.get_context("fork")
    answers: Any = context.SimpleQueue()
    process = context.Process(target=lambda: answers.put(work()))
    process.start()
    process.join(20)
    assert process.exitcode == 0
    return answers.get()


def counted(outcome: str) -> float:
    """How many calls of `stripe` have ended so."""
    service = current()
    assert service is not None
    return service.metrics.total(CALLS, {"dependency": "stripe", "outcome": outcome})


def test_what_is_forked_in_a_request_is_not_held_to_its_deadline() -> None:
    """As a worker of a pool that a handler has started: it lives on, and makes calls for others."""
    clock = VirtualClock()
    told: dict[str, Any] = {}

    async def handler(request: Request) -> Response:
        with dependency("stripe"):
            pass

        def work() -> Mapping[str, Any]:
            clock.advance("1h")
            with dependency("stripe"):
                serves = current_request() is not None
            return {"counted": counted("success"), "serves": serves}

        told.update(in_a_fork(work))
        told["here"] = current_request() is not None
        return Response()

    async def scenario() -> None:
        spec = spec_of(limits={"request": {"timeout": "2s"}}, dependencies={"stripe": {"timeout": "1s"}})
        async with served(harden(site(Route("/", handler)), spec, clock=clock)) as house:
            assert await house.status() == 200
            assert counted("success") == 1

    run(scenario())
    assert told == {"counted": 1, "serves": False, "here": True}


def test_the_middleware_that_a_server_has_made_before_it_forks_its_workers_is_theirs() -> None:
    """As with `gunicorn --preload`: it has not begun yet."""
    hardening = Hardening(site(), spec_of(dependencies={"stripe": {}}), clock=VirtualClock())
    assert in_a_fork(lambda: current() is hardening.service)
