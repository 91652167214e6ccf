"""The series that no single policy owns: HTTP, process, and those shared by all limits or all dependencies.

HTTP names and labels follow OpenTelemetry's semantic conventions in Prometheus form.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from mahavishnu.signals import Across, Kind, Label, Signal, Source
from mahavishnu.units import Duration

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "_OTHER")
UNMATCHED = "unmatched"
STATUSES_OWN = 11
"""So many statuses of one route and method are shown by themselves; further ones as the x00 of their class, which
any client may take them for (RFC 9110, section 15)."""
STATUSES_SHOWN = STATUSES_OWN + 5
ROUTES_SHOWN = 1000
"""So many routes are shown by themselves; an app that registers more has the rest shown as unmatched."""
# OpenTelemetry's advice for http.server.request.duration, seconds.
_BOUNDS = (
    "0.005",
    "0.01",
    "0.025",
    "0.05",
    "0.075",
    "0.1",
    "0.25",
    "0.5",
    "0.75",
    "1",
    "2.5",
    "5",
    "7.5",
    "10",
)
_HTTP_BUCKETS = tuple(Decimal(bound) for bound in _BOUNDS)

UP = Signal("up", Kind.GAUGE, "Whether the last scrape of the target succeeded.", source=Source.SCRAPE)

HTTP_DURATION = Signal(
    "http_server_request_duration_seconds",
    Kind.HISTOGRAM,
    "Duration of HTTP requests, from their arrival to the end of the response.",
    (
        Label("http_request_method", METHODS),
        Label("http_route"),
        Label("http_response_status_code", tuple(str(code) for code in range(100, 600))),
    ),
    _HTTP_BUCKETS,
)
HTTP_ACTIVE = Signal(
    "http_server_active_requests", Kind.GAUGE, "HTTP requests being served now.", across=Across.SUM
)

LATE = Duration.parse("100ms")
"""By how much an event loop may be late: more is overload, whatever else is measured."""
LAG = Signal(
    "mahavishnu_event_loop_lag_seconds",
    Kind.HISTOGRAM,
    "How late the event loop runs what is due, looked at ten times a second.",
    buckets=tuple(
        map(Decimal, ("0.001", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5"))
    ),
)
HEAD_TIMEOUTS = Signal(
    "mahavishnu_head_timeouts_total",
    Kind.COUNTER,
    "Connections closed because the head of a request did not arrive in time (service.head_timeout).",
)

MEMORY = Signal(
    "process_resident_memory_bytes", Kind.GAUGE, "Resident memory size in bytes.", across=Across.SUM
)
MEMORY_LIMIT = Signal(
    "mahavishnu_memory_limit_bytes", Kind.GAUGE, "Memory one replica is given by the spec.", across=Across.MAX
)
CPU_LIMIT = Signal(
    "mahavishnu_cpu_limit_cores",
    Kind.GAUGE,
    "Processor cores one replica is given by the spec.",
    across=Across.MAX,
)
CPU = Signal("process_cpu_seconds_total", Kind.COUNTER, "User and system CPU time spent, in seconds.")

SPEC_INFO = Signal(
    "mahavishnu_spec_info",
    Kind.GAUGE,
    "1, labelled with the hash of the spec that is enforced.",
    (Label("hash"),),
    across=Across.MAX,
)
SPEC_RELOAD_SUCCESSFUL = Signal(
    "mahavishnu_spec_reload_successful",
    Kind.GAUGE,
    "1 when the spec's file was taken as it last changed, 0 when it was refused and the old spec holds.",
    across=Across.MIN,
)
SPEC_RELOAD_TIME = Signal(
    "mahavishnu_spec_reload_timestamp_seconds",
    Kind.GAUGE,
    "When the spec's file was last read and found good, in seconds since 1970.",
    across=Across.MIN,
)
SPEC_RELOADS = Signal(
    "mahavishnu_spec_reloads_total",
    Kind.COUNTER,
    "How often the spec's file was read anew, by what came of it.",
    (Label("outcome", ("applied", "unchanged", "refused")),),
)
LIMIT_DECISIONS = Signal(
    "mahavishnu_limit_decisions_total",
    Kind.COUNTER,
    "Decisions of each limit: allowed, refused, or observed (would have been refused).",
    (Label("limit"), Label("outcome", ("allowed", "refused", "observed"))),
)
LIMIT_QUOTA = Signal(
    "mahavishnu_limit_quota",
    Kind.GAUGE,
    "The enforced number of each limit: requests per window, requests at once, bytes, or seconds.",
    (Label("limit"),),
    across=Across.MAX,
)
LIMIT_PLACES = replace(LIMIT_QUOTA, across=Across.SUM)
"""The same of a limit whose places each worker has for itself."""
LIMIT_FOUND = replace(LIMIT_QUOTA, across=Across.MIN)
"""The same of a limit that each worker finds out for itself: of the one that can do least."""
LIMIT_NEAR = Signal(
    "mahavishnu_limit_near_total",
    Kind.COUNTER,
    "Admitted requests that left less than a tenth of the limit: of their client's quota, of the size or the "
    "time; or that had to wait for a place.",
    (Label("limit"),),
)
LIMIT_UTILISATION = Signal(
    "mahavishnu_limit_utilisation_ratio",
    Kind.GAUGE,
    "The highest share of each limit that anyone has used lately, in the last two scrapes or minutes; of "
    "places: the share that is taken now.",
    (Label("limit"),),
    across=Across.MAX,
)
LIMIT_IN_FLIGHT = Signal(
    "mahavishnu_limit_in_flight",
    Kind.GAUGE,
    "Requests a concurrency limit has let in and that still run.",
    (Label("limit"),),
    across=Across.SUM,
)
LIMIT_QUEUED = Signal(
    "mahavishnu_limit_queued",
    Kind.GAUGE,
    "Requests that wait for a place in a concurrency limit.",
    (Label("limit"),),
    across=Across.SUM,
)
LIMIT_SHED = Signal(
    "mahavishnu_limit_shed_total",
    Kind.COUNTER,
    "Requests a concurrency limit turned away, or would have, by how much they matter.",
    (Label("limit"), Label("rank", ("critical", "normal", "sheddable"))),
)
LIMIT_STORE_KEYS = Signal(
    "mahavishnu_limit_store_keys",
    Kind.GAUGE,
    "Clients whose rate state is held in memory.",
    across=Across.SUM,
)
LIMIT_STORE_SHARED = Signal(
    "mahavishnu_limit_store_shared_total",
    Kind.COUNTER,
    "Decisions on a bucket that clients share, because the memory for a limit's clients is full.",
)

DEPENDENCY_CALLS = Signal(
    "mahavishnu_dependency_calls_total",
    Kind.COUNTER,
    "Attempts to call each dependency, by how they ended; rejected: a policy did not let them out.",
    (Label("dependency"), Label("outcome", ("success", "failure", "timeout", "rejected", "cancelled"))),
)
DEPENDENCY_DURATION = Signal(
    "mahavishnu_dependency_duration_seconds",
    Kind.HISTOGRAM,
    "Duration of one attempt to call a dependency.",
    (Label("dependency"),),
    _HTTP_BUCKETS,
)
BREAKER_CALLS = Signal(
    "mahavishnu_breaker_calls_total",
    Kind.COUNTER,
    "Calls a breaker has judged, by whether they were slow.",
    (Label("dependency"), Label("speed", ("fast", "slow"))),
)

STORE_CALLS = Signal(
    "mahavishnu_limit_store_calls_total",
    Kind.COUNTER,
    "Calls to the shared store of limits, by how they ended; skipped: it was lost, and not asked.",
    (Label("outcome", ("ok", "error", "timeout", "skipped")),),
)
STORE_DURATION = Signal(
    "mahavishnu_limit_store_duration_seconds",
    Kind.HISTOGRAM,
    "Time from a call to the shared store of limits to its answer.",
    (),
    tuple(Decimal(bound) for bound in ("0.0005", "0.001", "0.0025", "0.005", "0.01", "0.02", "0.05", "0.1")),
)
STORE_UP = Signal(
    "mahavishnu_limit_store_up",
    Kind.GAUGE,
    "1 while the shared store of limits answers this process.",
    across=Across.MIN,
)

WORKERS = Signal(
    "mahavishnu_workers",
    Kind.GAUGE,
    "Worker processes whose series are in these, and that have lately said them.",
    across=Across.SUM,
)
WORKER_FAULTS = Signal(
    "mahavishnu_worker_series_faults_total",
    Kind.COUNTER,
    "Series of workers that are not in these: unwritten, or written and unread because they are damaged or foreign.",
    (Label("fault", ("unwritten", "unread")),),
)
PUSHES = Signal(
    "mahavishnu_otlp_pushes_total",
    Kind.COUNTER,
    "How often these series were pushed to the collector, by whether it took them.",
    (Label("outcome", ("ok", "failed")),),
)
