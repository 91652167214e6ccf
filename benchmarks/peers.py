"""One peer around the app, as its documentation shows it, or in the thinnest possible shell of pure ASGI."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from benchmarks.app import Payments, Sink, bare
from benchmarks.harness import peer
from benchmarks.limiters import Ask, limits, limits_async, pyrate, throttled
from benchmarks.stacks import EVERYONE, PER_ROUTE, Build, Setup, Stack, exposed, total

Added = Callable[[Starlette, Setup], None]


def _with(name: str, add: Added, **does: Any) -> Build:
    def build(setup: Setup) -> Stack:
        payments = Payments()
        app = bare(payments.price, setup.routes)
        add(app, setup)
        return Stack(name, app, payments=payments, **does)

    return build


# --- nothing ----------------------------------------------------------------------------------------------


def _add_empty(app: Starlette, _: Setup) -> None:
    app.add_middleware(BaseHTTPMiddleware, dispatch=_nothing)


async def _nothing(request: Request, call_next: RequestResponseEndpoint) -> Response:
    return await call_next(request)


# --- limits -----------------------------------------------------------------------------------------------


def add_slowapi(app: Starlette, setup: Setup, *, three: bool = False) -> None:
    """slowapi's middleware with default limits, as its documentation shows it; the third is for all routes."""
    slow = peer("slowapi")
    util, errors, middleware = peer("slowapi.util"), peer("slowapi.errors"), peer("slowapi.middleware")
    more = {"application_limits": [f"{EVERYONE}/second"]} if three else {}
    rates = [setup.rate, f"{PER_ROUTE}/hour"] if three else [setup.rate]
    app.state.limiter = slow.Limiter(key_func=util.get_remote_address, default_limits=rates, **more)
    app.add_exception_handler(errors.RateLimitExceeded, slow._rate_limit_exceeded_handler)  # noqa: SLF001 - as documented
    app.add_middleware(middleware.SlowAPIMiddleware)


def add_asgi_ratelimit(app: Starlette, setup: Setup, *, three: bool = False) -> None:
    """asgi-ratelimit, the quickest published limiter for ASGI; it counts each client in all three windows."""
    ratelimit, simple = peer("ratelimit"), peer("ratelimit.backends.simple")
    windows = {"hour": PER_ROUTE, "month": 10**9} if three else {}
    app.add_middleware(
        ratelimit.RateLimitMiddleware,
        authenticate=_client,
        backend=simple.MemoryBackend(),
        config={r"^/": [ratelimit.Rule(**windows, **{setup.period: setup.requests}, zone="all")]},
    )


async def _client(scope: Scope) -> tuple[str, str]:
    return scope["client"][0], "default"


class Asking:
    """Whoever answers `ask` decides; nothing else is done."""

    def __init__(self, app: ASGIApp, ask: Ask) -> None:
        self._app = app
        self._ask = ask

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or await self._ask(scope["client"][0]):
            await self._app(scope, receive, send)
        else:
            await PlainTextResponse("too many requests", 429)(scope, receive, send)


def _asking(name: str, ask: Callable[[int], Ask], **does: Any) -> Build:
    def add(app: Starlette, setup: Setup) -> None:
        app.add_middleware(Asking, ask=ask(setup.requests))

    return _with(f"{name}, in a bare shell", add, **does)


# --- metrics ----------------------------------------------------------------------------------------------


def add_instrumentator(app: Starlette, *, two: bool) -> Callable[[], float]:
    """prometheus-fastapi-instrumentator, with its default metrics or the two that matter."""
    registry = peer("prometheus_client").CollectorRegistry()
    instrumentator = peer("prometheus_fastapi_instrumentator").Instrumentator(registry=registry)
    if two:
        metrics = peer("prometheus_fastapi_instrumentator.metrics")
        instrumentator.add(metrics.latency(registry=registry)).add(metrics.requests(registry=registry))
    instrumentator.instrument(app)
    return lambda: total(exposed(registry), "http_requests_total")


def _instrumentator(name: str, *, two: bool) -> Build:
    def build(setup: Setup) -> Stack:
        payments = Payments()
        app = bare(payments.price, setup.routes)
        return Stack(name, app, limits=False, payments=payments, counted=add_instrumentator(app, two=two))

    return build


def starlette_exporter(setup: Setup) -> Stack:
    """starlette_exporter, as documented."""
    payments = Payments()
    app = bare(payments.price, setup.routes)
    client, exporter = peer("prometheus_client"), peer("starlette_exporter")
    app.add_middleware(exporter.PrometheusMiddleware, app_name=f"bench_{id(app)}", prefix=f"bench_{id(app)}")

    def counted() -> float:
        return total(exposed(client.REGISTRY), f"bench_{id(app)}_requests_total")

    return Stack("starlette_exporter", app, limits=False, payments=payments, counted=counted)


# --- access logs ------------------------------------------------------------------------------------------


class AccessLog:
    """An access log in pure ASGI; `request_id` names the request, where something has named it."""

    def __init__(self, app: ASGIApp, log: Any, request_id: Callable[[], str | None] = lambda: None) -> None:
        self._app = app
        self._log = log
        self._request_id = request_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter_ns()
        status = 500

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                nonlocal status
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            self._log.info(
                "request",
                request_id=self._request_id(),
                method=scope["method"],
                path=scope["path"],
                status=status,
                duration_ms=(time.perf_counter_ns() - began) / 1e6,
                client=scope["client"][0],
            )


def quick_structlog(sink: Sink) -> Any:
    """structlog with orjson and bytes, the quickest it can be."""
    structlog = peer("structlog")
    return structlog.wrap_logger(
        structlog.BytesLogger(sink),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(serializer=peer("orjson").dumps),
        ],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        cache_logger_on_first_use=True,
    )


def stdlib_structlog(sink: Sink) -> Any:
    """structlog through the standard library's logging, as its documentation recommends for whole projects."""
    structlog, logging = peer("structlog"), peer("logging")
    handler = logging.StreamHandler(cast("Any", sink))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ]
        )
    )
    under = logging.Logger(f"bench-{id(sink)}", logging.INFO)
    under.addHandler(handler)
    return structlog.wrap_logger(
        under,
        processors=[
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _logging(name: str, log: Callable[[Sink], Any]) -> Build:
    def build(setup: Setup) -> Stack:
        sink, payments = Sink(), Payments()
        app = bare(payments.price, setup.routes)
        app.add_middleware(AccessLog, log=log(sink))
        return Stack(name, app, limits=False, payments=payments, sink=sink)

    return build


# --- request ids, deadlines -------------------------------------------------------------------------------


def _add_correlation_id(app: Starlette, _: Setup) -> None:
    app.add_middleware(peer("asgi_correlation_id").CorrelationIdMiddleware)


class Deadline:
    """asyncio.timeout around the app."""

    def __init__(self, app: ASGIApp, delay: float) -> None:
        self._app = app
        self._delay = delay

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.timeout(self._delay):
                await self._app(scope, receive, send)
        except TimeoutError:
            await JSONResponse({"detail": "too slow"}, 504)(scope, receive, send)


def _add_deadline(app: Starlette, setup: Setup) -> None:
    app.add_middleware(Deadline, delay=setup.deadline)


def waiting(delay: float) -> Callable[[Request, RequestResponseEndpoint], Awaitable[Response]]:
    """asyncio.wait_for in an http middleware, as tutorials have it."""

    async def limited(request: Request, call_next: RequestResponseEndpoint) -> Response:
        try:
            return await asyncio.wait_for(call_next(request), delay)
        except TimeoutError:
            return JSONResponse({"detail": "too slow"}, 504)

    return limited


def _add_wait_for(app: Starlette, setup: Setup) -> None:
    app.add_middleware(BaseHTTPMiddleware, dispatch=waiting(setup.deadline))


empty_base_http = _with("an empty BaseHTTPMiddleware", _add_empty, limits=False)
slowapi = _with("slowapi, its middleware", add_slowapi, threads=True)
asgi_ratelimit = _with("asgi-ratelimit", add_asgi_ratelimit)

ONE_LIMIT: tuple[Build, ...] = (
    asgi_ratelimit,
    _asking("throttled-py GCRA", lambda rate: throttled("gcra", rate)),
    _asking("limits fixed window", lambda rate: limits("FixedWindowRateLimiter", rate), threads=True),
    _asking("limits (async) fixed window", limits_async),
    _asking("pyrate-limiter, a GCRA bucket per client", lambda rate: pyrate("StateBucket", rate)),
    slowapi,
)
METRICS: tuple[Build, ...] = (
    _instrumentator("prometheus-fastapi-instrumentator, two metrics", two=True),
    _instrumentator("prometheus-fastapi-instrumentator", two=False),
    starlette_exporter,
)
LOGS: tuple[Build, ...] = (
    _logging("structlog and orjson", quick_structlog),
    _logging("structlog through logging", stdlib_structlog),
)
REQUEST_IDS: tuple[Build, ...] = (
    _with("asgi-correlation-id", _add_correlation_id, limits=False, names=True),
)
DEADLINES: tuple[Build, ...] = (
    _with("asyncio.timeout", _add_deadline, limits=False, times=True),
    _with("asyncio.wait_for, in an http middleware", _add_wait_for, limits=False, times=True),
)
