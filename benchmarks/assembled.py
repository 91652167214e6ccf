"""Everything put together from published parts: the usual way, and the quickest way."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response

from benchmarks.app import Payments, Sink, bare
from benchmarks.harness import peer
from benchmarks.peers import (
    AccessLog,
    Deadline,
    add_asgi_ratelimit,
    add_instrumentator,
    add_slowapi,
    quick_structlog,
    waiting,
)
from benchmarks.stacks import Setup, Stack

USUAL = "the usual stack, assembled by hand"
BEST = "the best published parts"


def usual(setup: Setup) -> Stack:
    """What a tutorial adds up to: one package for each concern, the rest as http middlewares."""
    sink, payments = Sink(), Payments()
    app = bare(payments.price, setup.routes)
    app.add_middleware(BaseHTTPMiddleware, dispatch=waiting(setup.deadline))
    add_slowapi(app, setup, three=True)
    counted = add_instrumentator(app, two=False)
    app.add_middleware(BaseHTTPMiddleware, dispatch=_recipe(_structlog(sink)))
    app.add_middleware(peer("asgi_correlation_id").CorrelationIdMiddleware)
    return Stack(
        USUAL,
        app,
        times=True,
        names=True,
        counted=counted,
        sink=sink,
        payments=payments,
        threads=True,
    )


def _structlog(sink: Sink) -> Any:
    structlog = peer("structlog")
    return structlog.wrap_logger(
        structlog.PrintLogger(sink),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.JSONRenderer(),
        ],
        cache_logger_on_first_use=True,
    )


def _recipe(log: Any) -> Callable[[Request, RequestResponseEndpoint], Any]:
    """The access log as it is passed from project to project."""
    context = peer("structlog").contextvars
    correlation_id = peer("asgi_correlation_id").correlation_id

    async def logged(request: Request, call_next: RequestResponseEndpoint) -> Response:
        context.clear_contextvars()
        context.bind_contextvars(request_id=correlation_id.get())
        began = time.perf_counter_ns()
        response = await call_next(request)
        log.info(
            "request",
            method=request.method,
            path=request.url.path,
            status=response.status_code,
            duration_ms=(time.perf_counter_ns() - began) / 1e6,
            client=request.client.host if request.client else None,
        )
        return response

    return logged


def best(setup: Setup) -> Stack:
    """The quickest package for each concern, and pure ASGI for the rest."""
    sink, payments = Sink(), Payments()
    app = bare(payments.price, setup.routes)
    app.add_middleware(Deadline, delay=setup.deadline)
    add_asgi_ratelimit(app, setup, three=True)
    counted = add_instrumentator(app, two=True)
    request_id = peer("asgi_correlation_id").correlation_id.get
    app.add_middleware(AccessLog, log=quick_structlog(sink), request_id=request_id)
    app.add_middleware(peer("asgi_correlation_id").CorrelationIdMiddleware)
    return Stack(
        BEST,
        app,
        times=True,
        names=True,
        counted=counted,
        sink=sink,
        payments=payments,
    )
