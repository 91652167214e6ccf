"""One spec at work in one process: its contract, series, limits and log, shared by everything that enforces it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TextIO

from mahavishnu.contract import contract, spec_hash
from mahavishnu.load import Loaded
from mahavishnu.policy import Clock, Histogram
from mahavishnu.runtime.dependency import build_dependencies
from mahavishnu.runtime.engine import Engine, Plan
from mahavishnu.runtime.lag import Lag
from mahavishnu.runtime.logs import AccessLog, logger
from mahavishnu.runtime.memory_store import MemoryStore
from mahavishnu.runtime.metrics import Metrics
from mahavishnu.runtime.process import Usage, usage
from mahavishnu.series import (
    CPU,
    CPU_LIMIT,
    HTTP_ACTIVE,
    HTTP_DURATION,
    LIMIT_STORE_KEYS,
    MEMORY,
    MEMORY_LIMIT,
    METHODS,
    SPEC_INFO,
)
from mahavishnu.spec import Spec


class Service:
    """Everything that enforces a spec in this process; `process` reads the operating system's numbers."""

    def __init__(
        self,
        spec: Spec,
        clock: Clock,
        process: Callable[[], Usage] = usage,
        log_to: TextIO | None = None,
        hash: str | None = None,
    ) -> None:
        self.clock = clock
        self.spec = spec
        self.contract = contract(spec)
        self.hash = hash or self.contract.hash
        self.metrics = Metrics(self.contract.signals)
        self.store = MemoryStore(clock)
        self.engine = Engine(self.contract, clock, self.metrics, self.store)
        self.lag = Lag(clock, self.metrics, self.engine.lagging)
        self.dependencies = build_dependencies(spec, clock, self.metrics)
        self.log = logger(spec.observability.logs, log_to)
        self.access = AccessLog(spec.observability.logs, log_to)
        self.active = 0
        self.draining = False
        self._show(process)

    def observe(self, plan: Plan, status: int, seconds: float) -> None:
        """Record one finished HTTP request; the plan's route must be a template of the app, or `unmatched`."""
        cell = plan.cells.get(status)
        if cell is None:
            cell = plan.cells[status] = self._cell(*plan.key, min(max(status, 100), 599))
        cell.observe(seconds)

    def _cell(self, route: str, method: str, status: int) -> Histogram:
        return self.metrics.histogram(
            HTTP_DURATION,
            http_request_method=method,
            http_route=route,
            http_response_status_code=str(status),
        )

    def _show(self, process: Callable[[], Usage]) -> None:
        resources = self.spec.deploy.resources
        gauge = self.metrics.gauge
        gauge(MEMORY, lambda: process().memory)
        gauge(MEMORY_LIMIT, lambda: int(resources.memory))
        gauge(CPU_LIMIT, lambda: float(resources.cpu.cores))
        gauge(HTTP_ACTIVE, lambda: self.active)
        gauge(LIMIT_STORE_KEYS, self.store.keys)
        gauge(SPEC_INFO, lambda: 1, hash=self.hash)
        self.metrics.read_counter(CPU, lambda: process().cpu)


def start(
    source: Loaded | Spec, clock: Clock, process: Callable[[], Usage] = usage, log_to: TextIO | None = None
) -> Service:
    """A service at work; of a loaded spec it logs the warnings, and what this machine has overridden."""
    if isinstance(source, Spec):
        return Service(source, clock, process, log_to)
    service = Service(source.spec, clock, process, log_to, spec_hash(source.declared))
    for finding in source.findings:
        service.log.warning("finding", code=finding.code, what=finding.what, help=finding.help)
    service.log.info(
        "started", service=source.spec.service.name, spec=service.hash, overridden=source.overridden
    )
    return service


def method_label(method: str) -> str:
    """The method as a label: one of a fixed set, whatever a client invents; apps may not care about its case."""
    method = method.upper()
    return method if method in _METHODS else "_OTHER"


_METHODS = frozenset(METHODS)
