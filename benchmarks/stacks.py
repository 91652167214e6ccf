"""The stacks around the app: ours, single peers, the usual assembly, the best published parts, the bound."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from benchmarks.app import Call, Payments, Sink, bare
from benchmarks.fused import Closed, Fused
from benchmarks.harness import peer
from mahavishnu.asgi import Hardening
from mahavishnu.runtime.current import forget
from mahavishnu.spec import Spec

FULL = "Hardening, everything on"
ONE = "Hardening, one rate limit"
BOUND = "the lower bound, by hand"
NAMED = {"minute": 60, "day": 86_400}


@dataclass(frozen=True, slots=True)
class Setup:
    """The numbers of a stack: requests per period and client, seconds for a response, routes of the app."""

    requests: int = 100
    period: str = "minute"
    deadline: float = 10.0
    routes: int = 5

    @property
    def rate(self) -> str:
        """The rate as most libraries write it."""
        return f"{self.requests}/{self.period}"


@dataclass(frozen=True, slots=True)
class Stack:
    """An app with its protection, and where to see what the protection did."""

    name: str
    app: ASGIApp
    limits: bool = True
    """A client beyond the rate is refused."""
    breaks: bool = False
    """A dependency that keeps failing is no longer called."""
    times: bool = False
    """A slow request is ended."""
    names: bool = False
    """Responses carry a request id."""
    counted: Callable[[], float] | None = None
    """How many requests its metrics have seen."""
    sink: Sink | None = None
    """Where its access log goes."""
    flush: Callable[[], None] = field(default=lambda: None)
    payments: Payments = field(default_factory=Payments)
    threads: bool = False
    """It leaves work to threads."""


Build = Callable[[Setup], Stack]


def plain(setup: Setup) -> Stack:
    """The bare application."""
    payments = Payments()
    return Stack("bare Starlette", bare(payments.price, setup.routes), limits=False, payments=payments)


# --- ours -------------------------------------------------------------------------------------------------


def hardened(setup: Setup, *, full: bool) -> Stack:
    """The middleware with everything on, or with one rate limit and no access log (metrics are always on)."""
    sink, payments = Sink(), Payments()

    async def price(item: str) -> int:
        return await guards["payments"].call_async(payments.price, False, item)

    app = bare(price if full else payments.price, setup.routes)
    forget()  # one process has one spec; a benchmark has several
    hardening = Hardening(app, Spec.model_validate(_spec(setup, full)), log_to=cast("Any", sink))
    guards, metrics = hardening.service.dependencies, hardening.service.metrics
    return Stack(
        FULL if full else ONE,
        hardening,
        breaks=full,
        times=full,
        names=True,
        counted=lambda: _count(metrics.expose()[0], "http_server_request_duration_seconds_count"),
        sink=sink if full else None,
        payments=payments,
    )


def _spec(setup: Setup, full: bool) -> Mapping[str, Any]:
    spec: dict[str, Any] = {
        "mahavishnu": 1,
        "service": {"name": "shop", "app": "shop.main:app"},
        "limits": {"per_client": {"rate": setup.rate}},
        "observability": {"logs": {"level": "error"}},
    }
    if full:
        spec["limits"] |= {
            "at_once": {"concurrency": 1000, "queue": 100},
            "upload": {"body": "1Mi"},
            "deadline": {"timeout": f"{setup.deadline * 1000:.0f}ms"},
        }
        spec["dependencies"] = {"payments": {"breaker": {"failure_rate": "50%", "min_calls": 5}}}
        spec["observability"] = {"logs": {"level": "info"}}
        spec["security"] = {"headers": "strict"}
    return spec


# --- single peers -----------------------------------------------------------------------------------------


def empty_base_http(setup: Setup) -> Stack:
    """Starlette's BaseHTTPMiddleware with nothing in it."""
    payments = Payments()
    app = bare(payments.price, setup.routes)
    app.add_middleware(BaseHTTPMiddleware, dispatch=_nothing)
    return Stack("an empty BaseHTTPMiddleware", app, limits=False, payments=payments)


async def _nothing(request: Request, call_next: RequestResponseEndpoint) -> Response:
    return await call_next(request)


def slowapi(setup: Setup) -> Stack:
    """slowapi's middleware with a default limit, as its documentation shows it."""
    payments = Payments()
    app = bare(payments.price, setup.routes)
    _add_slowapi(app, setup)
    return Stack("slowapi, its middleware", app, payments=payments, threads=True)


def _add_slowapi(app: Starlette, setup: Setup) -> None:
    slow = peer("slowapi")
    util, errors, middleware = peer("slowapi.util"), peer("slowapi.errors"), peer("slowapi.middleware")
    app.state.limiter = slow.Limiter(key_func=util.get_remote_address, default_limits=[setup.rate])
    app.add_exception_handler(errors.RateLimitExceeded, slow._rate_limit_exceeded_handler)  # noqa: SLF001 - as documented
    app.add_middleware(middleware.SlowAPIMiddleware)


def asgi_ratelimit(setup: Setup) -> Stack:
    """asgi-ratelimit, the quickest published limiter for ASGI."""
    payments = Payments()
    app = bare(payments.price, setup.routes)
    _add_asgi_ratelimit(app, setup)
    return Stack("asgi-ratelimit", app, payments=payments)


def _add_asgi_ratelimit(app: Starlette, setup: Setup) -> None:
    ratelimit, simple = peer("ratelimit"), peer("ratelimit.backends.simple")
    app.add_middleware(
        ratelimit.RateLimitMiddleware,
        authenticate=_client,
        backend=simple.MemoryBackend(),
        config={r"^/": [ratelimit.Rule(**{setup.period: setup.requests}, zone="all")]},
    )


async def _client(scope: Scope) -> tuple[str, str]:
    return scope["client"][0], "default"


# --- the usual assembly -----------------------------------------------------------------------------------


def usual(setup: Setup) -> Stack:
    """What a tutorial adds up to: one package for each concern, the rest as http middlewares."""
    sink, payments = Sink(), Payments()
    circuits = peer("purgatory").AsyncCircuitBreakerFactory(default_threshold=5)

    async def price(item: str) -> int:
        async with await circuits.get_breaker("payments"):
            return await payments.price(item)

    async def limited(request: Request, call_next: RequestResponseEndpoint) -> Response:
        try:
            return await asyncio.wait_for(call_next(request), setup.deadline)
        except TimeoutError:
            return JSONResponse({"detail": "too slow"}, 504)

    app = bare(price, setup.routes)
    app.add_middleware(BaseHTTPMiddleware, dispatch=limited)
    _add_slowapi(app, setup)
    registry = peer("prometheus_client").CollectorRegistry()
    peer("prometheus_fastapi_instrumentator").Instrumentator(registry=registry).instrument(app)
    app.add_middleware(BaseHTTPMiddleware, dispatch=_recipe(_structlog(sink)))
    app.add_middleware(peer("asgi_correlation_id").CorrelationIdMiddleware)
    return Stack(
        "the usual stack, assembled by hand",
        app,
        breaks=True,
        times=True,
        names=True,
        counted=lambda: _count(_exposed(registry), "http_requests_total"),
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


# --- the best published parts -----------------------------------------------------------------------------


def best(setup: Setup) -> Stack:
    """The quickest package for each concern, and pure ASGI for the rest."""
    sink, payments = Sink(), Payments()
    protect = peer("circuitbreaker").CircuitBreaker(failure_threshold=5, name=f"payments-{id(payments)}")
    app = bare(cast("Call", protect(payments.price)), setup.routes)
    app.add_middleware(_Deadline, delay=setup.deadline)
    _add_asgi_ratelimit(app, setup)
    registry = peer("prometheus_client").CollectorRegistry()
    metrics = peer("prometheus_fastapi_instrumentator.metrics")
    (
        peer("prometheus_fastapi_instrumentator")
        .Instrumentator(registry=registry)
        .add(metrics.latency(registry=registry))
        .add(metrics.requests(registry=registry))
        .instrument(app)
    )
    app.add_middleware(_AccessLog, log=_quick_structlog(sink))
    app.add_middleware(peer("asgi_correlation_id").CorrelationIdMiddleware)
    return Stack(
        "the best published parts",
        app,
        breaks=True,
        times=True,
        names=True,
        counted=lambda: _count(_exposed(registry), "http_requests_total"),
        sink=sink,
        payments=payments,
    )


class _Deadline:
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


def _quick_structlog(sink: Sink) -> Any:
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


class _AccessLog:
    """The access log in pure ASGI."""

    def __init__(self, app: ASGIApp, log: Any) -> None:
        self._app = app
        self._log = log
        self._request_id = peer("asgi_correlation_id").correlation_id

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
                request_id=self._request_id.get(),
                method=scope["method"],
                path=scope["path"],
                status=status,
                duration_ms=(time.perf_counter_ns() - began) / 1e6,
                client=scope["client"][0],
            )


# --- the bound --------------------------------------------------------------------------------------------


def bound(setup: Setup) -> Stack:
    """The hand-written lower bound."""
    sink, payments = Sink(), Payments()
    outer = Fused(
        bare(Closed(payments.price), setup.routes), setup.requests, NAMED[setup.period], setup.deadline, sink
    )
    return Stack(
        BOUND,
        outer,
        breaks=True,
        times=True,
        names=True,
        counted=lambda: sum(sum(cell[:-1]) for cell in outer.cells.values()),
        sink=sink,
        flush=outer.flush,
        payments=payments,
    )


def _exposed(registry: Any) -> bytes:
    return cast("bytes", peer("prometheus_client").generate_latest(registry))


def _count(exposition: bytes, name: str) -> float:
    lines = exposition.decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


def lines_of(sink: Sink) -> list[dict[str, Any]]:
    """The kept log, parsed."""
    return [json.loads(line) for line in "".join(sink.kept or ()).splitlines()]
