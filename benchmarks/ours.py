"""Hardening as its users write it, and the hand-written bound that does the very same jobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from benchmarks.app import Payments, Sink, bare
from benchmarks.fused import Fused, One, Rate, Three
from benchmarks.stacks import EVERYONE, NAMED, PER_ROUTE, On, Setup, Stack, total
from benchmarks.table import Handing
from mahavishnu.asgi import Hardening
from mahavishnu.runtime.calls.call import Terms
from mahavishnu.runtime.calls.flat import guarded
from mahavishnu.runtime.calls.operation import Operation
from mahavishnu.runtime.current import forget
from mahavishnu.spec import Spec

BOUND = "the lower bound, by hand"


def hardened(
    setup: Setup, *, on: On, name: str = "Hardening, everything on", store: str = "memory://"
) -> Stack:
    """The middleware with these layers; metrics and request ids are always there."""
    sink, payments = Sink(), Payments()

    spec = Spec.model_validate({**_spec(setup, on), "store": store})
    price: Any = payments.price
    if on.rest:
        operation = Operation("payments", payments.price, Terms())
        price = guarded(lambda _: guards["payments"], operation, spec.dependencies["payments"])
    app = bare(price, setup.routes)
    forget()  # one process has one spec; a benchmark has several
    hardening = Hardening(app, spec, log_to=cast("Any", sink))
    guards, metrics = hardening.service.dependencies, hardening.service.metrics
    return Stack(
        name,
        hardening,
        limits=on.limits > 0,
        breaks=on.rest,
        times=on.deadline,
        names=True,
        counted=lambda: total(metrics.expose()[0], "http_server_request_duration_seconds_count"),
        sink=sink if on.log else None,
        flush=hardening.service.process_state.ended.settle,
        payments=payments,
    )


def bound(setup: Setup, *, on: On, name: str = BOUND) -> Stack:
    """The hand-written lower bound with these layers, but for the rest."""
    sink, payments = Sink(), Payments()
    outer = Fused(
        bare(payments.price, setup.routes),
        _quota(setup, on),
        setup.deadline if on.deadline else None,
        sink if on.log else None,
    )
    return Stack(
        name,
        outer,
        limits=on.limits > 0,
        times=on.deadline,
        names=True,
        counted=lambda: sum(sum(cell.counts) for cell in outer.cells),
        sink=sink if on.log else None,
        flush=outer.flush,
        payments=payments,
    )


def handing(setup: Setup) -> Stack:
    """The bare application, its routes found as the bound finds them."""
    payments = Payments()
    app = Handing(bare(payments.price, setup.routes))
    return Stack("the route table alone", app, limits=False, payments=payments)


def _spec(setup: Setup, on: On) -> Mapping[str, Any]:
    limits: dict[str, Any] = {}
    if on.limits:
        limits["per_client"] = {"rate": setup.rate}
    if on.limits == 3:
        limits["per_route"] = {"rate": f"{PER_ROUTE}/hour", "per": ["client", "route"]}
        limits["everyone"] = {"rate": f"{EVERYONE}/second", "per": "global"}
    if on.deadline:
        limits["deadline"] = {"timeout": f"{setup.deadline * 1000:.0f}ms"}
    if on.rest:
        limits |= {"at_once": {"concurrency": 1000, "queue": 100}, "upload": {"body": "1Mi"}}
    spec: dict[str, Any] = {
        "mahavishnu": 1,
        "service": {"name": "shop", "app": "shop.main:app"},
        "limits": limits,
        "observability": {"logs": {"level": "info" if on.log else "error"}},
    }
    if on.rest:
        breaker = {"failure_rate": "50%", "min_calls": 5}
        spec["dependencies"] = {"payments": {"timeout": "2s", "breaker": breaker}}
        spec["security"] = {"headers": "strict"}
    return spec


def _quota(setup: Setup, on: On) -> One | Three | None:
    if not on.limits:
        return None
    client = Rate(setup.requests, NAMED[setup.period])
    if on.limits == 1:
        return One(client)
    return Three(client, Rate(PER_ROUTE, 3600, "per_route"), Rate(EVERYONE, 1, "everyone"))
