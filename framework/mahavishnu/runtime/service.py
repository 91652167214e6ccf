"""One spec at work in one process: its contract, series, limits and log, shared by everything that enforces it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from mahavishnu.alerts.client_memory import LIMIT_STORE_KEYS, LIMIT_STORE_SHARED
from mahavishnu.alerts.drift import SPEC_RELOAD_SUCCESSFUL, SPEC_RELOAD_TIME, SPEC_RELOADS
from mahavishnu.alerts.event_loop import LAG_LATELY
from mahavishnu.alerts.http_server import HEAD_TIMEOUTS, WEBSOCKETS
from mahavishnu.alerts.pushes import PUSHES
from mahavishnu.alerts.restarts import START
from mahavishnu.alerts.spans_lost import SPANS
from mahavishnu.alerts.workers import WORKER_DEATHS, WORKER_FAULTS, WORKERS
from mahavishnu.backup import evidence
from mahavishnu.contract import shown
from mahavishnu.errors import Finding, MahavishnuError
from mahavishnu.events import STORE_LOST
from mahavishnu.ground import variables
from mahavishnu.load import Loaded
from mahavishnu.protocols import Advice, Clock, Site
from mahavishnu.runtime.calls.dependency import DependencyGuard, build_dependencies, nowhere
from mahavishnu.runtime.calls.stand_in import fallbacks_of
from mahavishnu.runtime.dead_letters.queue import DeadLetterQueue, queue_of
from mahavishnu.runtime.lag import Lag
from mahavishnu.runtime.limits.engine import Engine
from mahavishnu.runtime.limits.offenders import Refusals
from mahavishnu.runtime.limits.plan import Plan
from mahavishnu.runtime.process import Usage, started, usage
from mahavishnu.runtime.requests.ended import Ended
from mahavishnu.runtime.requests.identity import Identity
from mahavishnu.runtime.requests.linger import Linger
from mahavishnu.runtime.requests.ops import SHORT, Ops
from mahavishnu.runtime.secret_values import resolved
from mahavishnu.runtime.spans import nothing
from mahavishnu.runtime.stores import open_store
from mahavishnu.runtime.telemetry import backups
from mahavishnu.runtime.telemetry.access_log import AccessLog
from mahavishnu.runtime.telemetry.cells import HistogramCell
from mahavishnu.runtime.telemetry.logs import Log, logger, outlet
from mahavishnu.runtime.telemetry.metrics import Metrics
from mahavishnu.runtime.telemetry.objectives import Objectives
from mahavishnu.runtime.telemetry.snapshot import Snapshot
from mahavishnu.runtime.tracing.call import trace
from mahavishnu.runtime.tracing.log import TracedLog
from mahavishnu.runtime.tracing.meter import NotedMeter, tracing_of
from mahavishnu.series import (
    CPU,
    CPU_LIMIT,
    HTTP_ACTIVE,
    HTTP_DURATION,
    MEMORY,
    MEMORY_LIMIT,
    METHODS,
    RATE_LIMITED,
    ROUTES_SHOWN,
    SPEC_INFO,
    STATUSES_OWN,
    UNMATCHED,
)
from mahavishnu.signals import Signal
from mahavishnu.spec import Logs, Spec, spec_hash

if TYPE_CHECKING:
    from mahavishnu.runtime.limits.memory_store import MemoryStore
    from mahavishnu.runtime.redis.store import RedisStore
    from mahavishnu.runtime.tracing.traces import Tracing


class ProcessState:
    """What outlives every spec of a process.

    When it began, how many requests are being served, whether it is about to end, whether the spec's file was good
    when it was last read, and when it last was (both times in seconds since 1970); where dead letters are kept; whether
    a middleware has it, or it only guards calls, and whether that one has begun to serve; whether it is known that the
    app rewrites requests.
    """

    dead_letters: DeadLetterQueue | None = None
    hardens = False
    begun = False
    rewritten = False

    def __init__(self, began: float) -> None:
        self.began = began
        self.active = 0
        self.draining = False
        self.loaded = True
        self.wall: Callable[[], float] = time.time
        self.loaded_at = time.time()
        self.ended = Ended()
        self.linger = Linger()


class Service:
    """Everything that enforces a spec in this process; `process` reads the operating system's numbers;
    `loaded` is what the spec was read from, if it was.

    The service of a new spec takes over from the one `before` it: counters, states, places and what is held go
    on. Until `take_over` is called nothing has happened to that one, whatever was raised here.
    """

    def __init__(
        self,
        spec: Spec,
        clock: Clock,
        process: Callable[[], Usage] = usage,
        log_to: TextIO | None = None,
        loaded: Loaded | None = None,
        before: Service | None = None,
    ) -> None:
        self.identity: Identity | None = None
        """Who knows who asks; nobody does where there is no middleware."""
        several = spec.service.workers > 1
        self.process_state: ProcessState = (
            before.process_state if before else ProcessState(started(of_several=several))
        )
        self.clock = clock
        self.spec = spec
        self._loaded = loaded
        self.contract = shown(spec)
        self.hash = spec_hash(loaded.declared) if loaded else self.contract.hash
        self.metrics: Metrics = Metrics(self.contract.signals, before.metrics if before else None)
        self.metrics.settles("requests", self.process_state.ended.settle)
        self.head_timeouts = self.metrics.counter(HEAD_TIMEOUTS)
        self.websockets = {
            outcome: self.metrics.counter(WEBSOCKETS, outcome=outcome)
            for outcome in WEBSOCKETS.label("outcome").values or ()
        }
        self.store: MemoryStore | RedisStore = self._store(before)
        self.refusals: Refusals = before.refusals if before else Refusals(clock)
        self.tracing: Tracing | None = before.tracing if before else tracing_of(spec)
        meter = self.metrics if self.tracing is None else NotedMeter(self.metrics, self.tracing)
        self.engine: Engine = Engine(
            self.contract, clock, meter, self.store, self.refusals, before.engine if before else None
        )
        self.lag: Lag = before.lag if before else Lag(clock, self.metrics, self.engine.lagging)
        self.dependencies: dict[str, DependencyGuard] = build_dependencies(
            spec,
            Site("", clock, meter, advice=self.store if isinstance(self.store, Advice) else None),
            before=before.dependencies if before else None,
            say=loaded.where if loaded else nowhere,
        )
        self.log, self.access = _logs(spec.observability.logs, log_to, before, self.tracing)
        self.dead_letters: DeadLetterQueue | None = queue_of(
            spec, clock, self.metrics, time.time, self.process_state
        )
        self.stand_by(before)
        self._process, self.log_to = process, log_to
        self._http: dict[str, dict[str, set[int]]] = before._http if before else {}  # noqa: SLF001 - one of its own kind
        self.reports: Path = before.reports if before else evidence.folder(None)
        backups.show(spec, lambda: self.reports, self.metrics, self._wall)
        self._show(process)
        self._objectives = Objectives(spec, self.metrics)
        if before is None:
            self._objectives.begin()
        self.ops = self._operators(before)

    @property
    def active(self) -> int:
        """How many requests are being served."""
        return self.process_state.active

    @property
    def draining(self) -> bool:
        """Whether the process is about to end."""
        return self.process_state.draining

    def after(self, loaded: Loaded) -> Service:
        """The service of a new spec, in this one's place once it takes over."""
        return Service(loaded.spec, self.clock, self._process, self.log_to, loaded, self)

    def anew(self) -> Service:
        """One of the same spec for a fork of this process: it counts from zero, and holds and knows nothing yet."""
        made = Service(self.spec, self.clock, self._process, self.log_to, self._loaded)
        made.reports = self.reports
        return made

    def take_over(self, before: Service) -> None:
        """What all requests share, places and breakers, is from now on as this spec says; nothing here can fail."""
        self.engine.take_over(before.engine)
        self._objectives.begin(before._objectives)
        for guard in self.dependencies.values():
            guard.take_over()
        if self.tracing is not None and self.spec.observability.traces is not None:
            self.tracing.become(self.spec.observability.traces)
        self.lag.late = self.engine.lagging
        if self.dead_letters is not None:
            self.dead_letters.become(self.spec, self.metrics)
        self.refusals.know(self._limits())

    def tell(self, event: str, loaded: Loaded) -> None:
        """Log that a spec is at work: its warnings, and what this machine has overridden."""
        self.warn(loaded.findings)
        name = loaded.spec.service.name
        self.log.info(event, service=name, spec=self.hash, overridden=loaded.overridden)

    def warn(self, findings: Iterable[Finding]) -> None:
        """Log what is wrong, and is no reason not to go on."""
        for finding in findings:
            self.log.warning("finding", code=finding.code, what=finding.what, help=finding.help)

    def stand_by(self, before: Service | None = None) -> None:
        """Give every dependency what is around its calls: what stands in for them, their spans, and the log."""
        held = {name: one.fallbacks for name, one in before.dependencies.items()} if before else {}
        old = {name: one for name, one in held.items() if one is not None}
        note = nothing if self.tracing is None else self.tracing.note
        made = fallbacks_of(
            self.spec, self.clock, self.metrics, self.dead_letters, self.log.warning, old, note
        )
        for name, guard in self.dependencies.items():
            guard.fallbacks, guard.tell = made[name], self.log.warning
            if name not in held:  # else it is told by the one before, until this one takes over
                guard.troubles.tell = self.log.warning
            guard.stands_by = made[name].stand_in is not None or self.tracing is not None
            if self.tracing is not None:
                trace(guard, self.tracing)

    def _store(self, before: Service | None) -> MemoryStore | RedisStore:
        """The store; it goes on with its states and connections as long as the spec names the same."""
        if before is not None and before.spec.store == self.spec.store:
            before.store.show(self.metrics)
            return before.store
        return open_store(self.spec, self.clock, self.metrics, self._store_told, self._store_evicts)

    def _store_told(self, up: bool, reason: str) -> None:
        if up:
            self.log.info("store found")
        else:
            self.log.warning(STORE_LOST, reason=reason)

    def _store_evicts(self, policy: str) -> None:
        help = "set `maxmemory-policy noeviction`: who is evicted has all of his quota again"
        self.log.warning("the store evicts keys when its memory is full", policy=policy, help=help)

    def _wall(self) -> float:
        return self.process_state.wall()

    def _limits(self) -> list[str]:
        return [name for name, limit in self.spec.limits.items() if limit.mode != "off"]

    def _operators(self, before: Service | None) -> Ops | None:
        """What operators are shown; without a token on this machine nobody is let in."""
        if before is None:
            self.refusals.know(self._limits())
        ops = self.spec.ops
        if ops is None:
            return None
        try:
            token = resolved(ops.token)
        except MahavishnuError as fault:
            self.log.warning("nobody is let in at ops.path", reason=str(fault))
            return Ops(self.refusals, self.clock, None)
        if len(token) < SHORT:
            self.log.warning("the ops token is short", help=f"take one of at least {SHORT} random characters")
        return Ops(self.refusals, self.clock, token or None)

    def count_spans(self, outcome: str, count: int) -> None:
        """Count spans that were `exported`, `dropped` or `failed`."""
        self.metrics.counter(SPANS, outcome=outcome).inc(count)

    def know(self, others: Iterable[Snapshot]) -> None:
        """Other workers have shown these statuses: further ones of a route and method are shown as their class."""
        for one in others:
            for name, values, *_ in one.histograms:
                if name == HTTP_DURATION.name:
                    method, route, status = values
                    self._http.setdefault(route, {}).setdefault(method, set()).add(int(status))

    def cell(self, plan: Plan, status: int) -> HistogramCell:
        """Where requests of this plan and status are counted; the plan's route must be a template of the app.

        Never more cells than `mahavishnu check` says, whatever the app answers.
        """
        route, method = plan.key
        status = min(max(status, 100), 599)
        if len(self._http) >= ROUTES_SHOWN and route not in self._http and not self._promised(route):
            route = UNMATCHED
        known = self._http.setdefault(route, {}).setdefault(method, set())
        others = len(known) - (RATE_LIMITED in known)
        if status not in known and status != RATE_LIMITED and others >= STATUSES_OWN - 1:
            status = status // 100 * 100
        known.add(status)
        cell = plan.cells[status] = self._histogram(route, method, status)
        return cell

    def _promised(self, route: str) -> bool:
        """Whether an objective is about this route, and counts what is shown of it."""
        matches = (slo.match for slo in self.spec.slos.values())
        return any(one is not None and one.path is not None and one.fits(route) for one in matches)

    def _histogram(self, route: str, method: str, status: int) -> HistogramCell:
        route = route.encode("utf-8", "backslashreplace").decode()  # half a character has no bytes to show
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
        gauge(HTTP_ACTIVE, lambda: self.process_state.active)
        gauge(LAG_LATELY, lambda: self.lag.mean)
        gauge(LIMIT_STORE_KEYS, self.store.keys)
        gauge(START, lambda: self.process_state.began)
        gauge(SPEC_INFO, lambda: 1, hash=self.hash)
        gauge(SPEC_RELOAD_SUCCESSFUL, lambda: float(self.process_state.loaded))
        gauge(SPEC_RELOAD_TIME, lambda: self.process_state.loaded_at)
        if WORKERS.name in self.contract.signals:
            gauge(WORKERS, lambda: 1)
        for signal in (SPEC_RELOADS, WORKER_DEATHS, WORKER_FAULTS, PUSHES, SPANS):
            if signal.name in self.contract.signals:
                self._begin(signal)
        self.metrics.read_counter(CPU, lambda: process().cpu)
        self.metrics.read_counter(LIMIT_STORE_SHARED, lambda: self.store.shared)

    def _begin(self, signal: Signal) -> None:
        """Show a counter at 0, by all values of its labels: Prometheus takes a first value for where it began."""
        names = [label.name for label in signal.labels]
        for values in product(*(label.values or () for label in signal.labels)):
            self.metrics.counter(signal, **dict(zip(names, values, strict=True)))


def start(
    source: Loaded | Spec,
    clock: Clock,
    process: Callable[[], Usage] = usage,
    log_to: TextIO | None = None,
    before: Service | None = None,
) -> Service:
    """A service at work, in the place of the one `before` it, which had the same spec; of a loaded spec it logs the
    warnings, and what this machine has overridden."""
    loaded = None if isinstance(source, Spec) else source
    spec = source if isinstance(source, Spec) else source.spec
    service = Service(spec, clock, process, log_to, loaded, before)
    if before is not None:
        service.take_over(before)
    if loaded is None:
        service.warn(variables.doubts())
    else:
        service.reports = evidence.folder(loaded.path)
        service.tell("started", loaded)
    return service


def _logs(
    settings: Logs, log_to: TextIO | None, before: Service | None, tracing: Tracing | None
) -> tuple[Log, AccessLog]:
    """The log and the access log; those of the service before, where nothing about them has changed."""
    if before is not None and (before.spec.observability.logs, before.log_to) == (settings, log_to):
        return before.log, before.access
    to = outlet(log_to)
    if tracing is None:
        return logger(settings, to), AccessLog(settings, to)
    return logger(settings, to, tracing.ids), TracedLog(settings, to)


def method_label(method: str) -> str:
    """The method as a label: one of a fixed set, whatever a client invents; apps may not care about its case."""
    method = method.upper()
    return method if method in _METHODS else "_OTHER"


_METHODS = frozenset(METHODS)
