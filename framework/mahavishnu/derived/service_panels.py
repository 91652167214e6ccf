"""Panels of the service itself: its requests, and what its processes use."""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache

from mahavishnu.contract import Contract
from mahavishnu.derived.panels import QUANTILES, Panel, panel_of
from mahavishnu.promql import Expr, Number, highest, quantile, total
from mahavishnu.series import CPU, CPU_LIMIT, HTTP_ACTIVE, HTTP_DURATION, MEMORY, MEMORY_LIMIT, UP
from mahavishnu.signals import WINDOW
from mahavishnu.units import Duration


@lru_cache(maxsize=4)
def request_panels(made: Contract) -> tuple[Panel, ...]:
    """Rate, errors and duration of requests, by route."""
    requests = HTTP_DURATION.count_rate(WINDOW)
    status = "http_response_status_code"
    overall = _part(total(_failed(WINDOW)), total(requests))
    every = made.spec.slos.values()
    budgets = sorted(1 - one.objective.ratio for one in every if not (one.match or one.under or one.query))
    unders = _unders(made)
    return (
        *by_route(made, WINDOW),
        panel_of(made, "Answers per second, by status", {"": total(requests, status)}, "reqps", (status,)),
        panel_of(made, "Share answered with 5xx", {"": overall}, "percentunit", (), budgets),
        panel_of(
            made,
            "Duration",
            {f"p{one * 100:.0f}": _slowest(one, WINDOW) for one in QUANTILES},
            "s",
            (),
            unders,
        ),
        panel_of(made, "Requests being served", {"": HTTP_ACTIVE.select()}, "short", ("instance",)),
    )


@lru_cache(maxsize=16)
def by_route(made: Contract, window: Duration) -> tuple[Panel, ...]:
    route, requests = "http_route", HTTP_DURATION.count_rate(window)
    share = _part(total(_failed(window), route), total(requests, route))
    slowest = _slowest(Decimal("0.95"), window, route)
    return (
        panel_of(made, "Requests per second", {"": total(requests, route)}, "reqps", (route,)),
        panel_of(made, "Share answered with 5xx, by route", {"": share}, "percentunit", (route,)),
        panel_of(made, "Duration by route (p95)", {"": slowest}, "s", (route,), _unders(made)),
    )


def _unders(made: Contract) -> list[Decimal]:
    """How fast requests were promised to be."""
    return sorted({one.under.seconds for one in made.spec.slos.values() if one.under is not None})


def process_panels(made: Contract) -> tuple[Panel, ...]:
    """What the processes use of what they were given."""
    deploy, here = made.spec.deploy, ("instance",)
    memory = {"": MEMORY.select(), "given": highest(MEMORY_LIMIT.select())}
    cores = {"": CPU.rate(WINDOW), "given": highest(CPU_LIMIT.select())}
    given, least = deploy.resources, Decimal(deploy.replicas.min)
    return (
        panel_of(made, "Replicas that answer", {"": total(UP.select())}, "short", (), [least]),
        panel_of(made, "Memory", memory, "bytes", here, [Decimal(int(given.memory))]),
        panel_of(made, "Processor cores used", cores, "short", here, [given.cpu.cores]),
    )


def _failed(window: Duration) -> Expr:
    return HTTP_DURATION.count_rate(window, http_response_status_code_re="5..")


def _part(some: Expr, every: Expr) -> Expr:
    """The share of some in all, 0 where there never were any."""
    return some.or_(Number(Decimal(0)) * every) / (every > 0)


def _slowest(share: Decimal, window: Duration, *by: str) -> Expr:
    return quantile(share, total(HTTP_DURATION.bucket_rate(window), "le", *by))
