"""The series that no single policy owns: HTTP, process, and those shared by all limits or all dependencies.

HTTP names and labels follow OpenTelemetry's semantic conventions in Prometheus form.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from mahavishnu.signals import Across, Kind, Label, Signal, Source, Unit
from mahavishnu.units import Duration

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "_OTHER")
UNMATCHED = "unmatched"
STATUSES_OWN = 11
"""At most so many statuses of one route and method have series of their own; further ones are counted as the x00 of
their class, as a client may treat them (RFC 9110, section 15)."""
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

UP = Signal(
    "up", Kind.GAUGE, "Whether the last scrape of the target succeeded.", source=Source.SCRAPE, unit=Unit.FLAG
)

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
    waived="Asked for where anything is promised.",
    unit=Unit.REQUESTS,
)
SLO_REQUESTS = Signal(
    "mahavishnu_slo_requests_total",
    Kind.COUNTER,
    "Requests that each objective is about, by what it calls them.",
    (Label("slo"), Label("outcome", ("good", "bad"))),
    unit=Unit.REQUESTS,
)
HTTP_ACTIVE = Signal(
    "http_server_active_requests",
    Kind.GAUGE,
    "HTTP requests being served now.",
    across=Across.SUM,
    waived="How much is going on is looked at, and no number of it is wrong by itself.",
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
    waived="Added up over workers: how late each was is looked at; the one that is the latest is an alert.",
    unit=Unit.LOOKS,
)
LAG_LATELY = Signal(
    "mahavishnu_event_loop_late_seconds",
    Kind.GAUGE,
    "How late the event loop ran what was due, on the average of the last whole half minute; of workers, the latest.",
    across=Across.MAX,
    unit=Unit.SECONDS,
)
HEAD_TIMEOUTS = Signal(
    "mahavishnu_head_timeouts_total",
    Kind.COUNTER,
    "Connections closed because the head of a request did not arrive in time (service.head_timeout).",
    waived="A flood of them costs one connection each, and is cut short: it is looked at, and nobody is woken.",
    unit=Unit.CONNECTIONS,
)

MEMORY = Signal(
    "process_resident_memory_bytes",
    Kind.GAUGE,
    "Resident memory size in bytes.",
    across=Across.SUM,
    waived="Asked for where a threshold is set: what is too much differs from service to service.",
    unit=Unit.BYTES,
)
MEMORY_LIMIT = Signal(
    "mahavishnu_memory_limit_bytes",
    Kind.GAUGE,
    "Memory one replica is given by the spec.",
    across=Across.MAX,
    waived="What `memory` in a threshold is measured by.",
    unit=Unit.BYTES,
)
CPU_LIMIT = Signal(
    "mahavishnu_cpu_limit_cores",
    Kind.GAUGE,
    "Processor cores one replica is given by the spec.",
    across=Across.MAX,
    waived="What `cpu` in a threshold is measured by.",
    unit=Unit.CORES,
)
CPU = Signal(
    "process_cpu_seconds_total",
    Kind.COUNTER,
    "User and system CPU time spent, in seconds.",
    waived="Asked for where a threshold is set: what is too much differs from service to service.",
    unit=Unit.SECONDS,
)

START = Signal(
    "process_start_time_seconds",
    Kind.GAUGE,
    "Start time of the process since unix epoch in seconds; of several workers, that of the server they belong to.",
    across=Across.MAX,
    unit=Unit.POINT,
)
ANY_UP = Signal(
    "job:up:max",
    Kind.GAUGE,
    "1 while any replica answers Prometheus' scrapes, 0 while none does, or none is known.",
    source=Source.RULE,
    unit=Unit.FLAG,
)

SPEC_INFO = Signal(
    "mahavishnu_spec_info",
    Kind.GAUGE,
    "1, labelled with the hash of the spec that is enforced.",
    (Label("hash"),),
    across=Across.MAX,
    unit=Unit.ONE,
)
SPEC_RELOAD_SUCCESSFUL = Signal(
    "mahavishnu_spec_reload_successful",
    Kind.GAUGE,
    "1 when the spec's file was taken as it last changed, 0 when it was refused and the old spec holds.",
    across=Across.MIN,
    unit=Unit.FLAG,
)
SPEC_RELOAD_TIME = Signal(
    "mahavishnu_spec_reload_timestamp_seconds",
    Kind.GAUGE,
    "When the spec's file was last read and found good, in seconds since 1970.",
    across=Across.MIN,
    waived="When it was is looked at; that it failed is an alert of its own.",
    unit=Unit.POINT,
)
SPEC_RELOADS = Signal(
    "mahavishnu_spec_reloads_total",
    Kind.COUNTER,
    "How often the spec's file was read anew, by what came of it.",
    (Label("outcome", ("applied", "unchanged", "refused")),),
    waived="A reload that fails is an alert by its gauge; these say how often.",
    unit=Unit.RELOADS,
)
LIMIT_DECISIONS = Signal(
    "mahavishnu_limit_decisions_total",
    Kind.COUNTER,
    "Decisions of each limit: allowed, refused, or observed (would have been refused).",
    (Label("limit"), Label("outcome", ("allowed", "refused", "observed"))),
    unit=Unit.REQUESTS,
)
LIMIT_QUOTA = Signal(
    "mahavishnu_limit_quota",
    Kind.GAUGE,
    "The enforced number of each limit: requests per window, requests at once, bytes, or seconds.",
    (Label("limit"),),
    across=Across.MAX,
    waived="What the use of a limit is measured by; a rate is judged by what it refuses.",
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
    waived="Asked for where a limit wears out; being near one of the others is looked at.",
    unit=Unit.REQUESTS,
)
LIMIT_UTILISATION = Signal(
    "mahavishnu_limit_utilisation_ratio",
    Kind.GAUGE,
    "The highest share of each limit that anyone has used lately, in the last two scrapes or minutes; of "
    "places: the share that is taken now.",
    (Label("limit"),),
    across=Across.MAX,
    waived="How near a limit is to its end is looked at; reaching it is counted, and an alert.",
    unit=Unit.SHARE,
)
LIMIT_IN_FLIGHT = Signal(
    "mahavishnu_limit_in_flight",
    Kind.GAUGE,
    "Requests a concurrency limit has let in and that still run.",
    (Label("limit"),),
    across=Across.SUM,
    waived="Asked for where a limit can be full; one that is found as it goes is judged by what it sheds.",
)
LIMIT_QUEUED = Signal(
    "mahavishnu_limit_queued",
    Kind.GAUGE,
    "Requests that wait for a place in a concurrency limit.",
    (Label("limit"),),
    across=Across.SUM,
    waived="The length of a queue is looked at; a queue that is full refuses, which is an alert.",
)
LIMIT_SHED = Signal(
    "mahavishnu_limit_shed_total",
    Kind.COUNTER,
    "Requests a concurrency limit turned away, or would have, by how much they matter.",
    (Label("limit"), Label("rank", ("critical", "normal", "sheddable"))),
    waived="Asked for where some requests matter more; else all that is refused is counted as one.",
    unit=Unit.REQUESTS,
)
LIMIT_STORE_KEYS = Signal(
    "mahavishnu_limit_store_keys",
    Kind.GAUGE,
    "Clients whose rate state is held in memory.",
    across=Across.SUM,
    waived="The clients held are looked at; what is too many is counted by the store itself, and an alert.",
)
LIMIT_STORE_SHARED = Signal(
    "mahavishnu_limit_store_shared_total",
    Kind.COUNTER,
    "Decisions on a bucket that clients share, because the memory for a limit's clients is full.",
    waived="Asked for where a rate is counted; without one nothing is stored.",
    unit=Unit.REQUESTS,
)

DEPENDENCY_CALLS = Signal(
    "mahavishnu_dependency_calls_total",
    Kind.COUNTER,
    "Attempts to call each dependency, by how they ended; rejected: a policy did not let them out.",
    (Label("dependency"), Label("outcome", ("success", "failure", "timeout", "rejected", "cancelled"))),
    waived="Asked for where a policy guards the calls; else it is looked at.",
    unit=Unit.CALLS,
)
DEPENDENCY_DURATION = Signal(
    "mahavishnu_dependency_duration_seconds",
    Kind.HISTOGRAM,
    "Duration of one attempt to call a dependency.",
    (Label("dependency"),),
    _HTTP_BUCKETS,
    waived="How long a dependency takes is looked at; too long is a timeout, or slow, and judged by its breaker.",
    unit=Unit.CALLS,
)
EXEMPLIFIED = frozenset({HTTP_DURATION.name, DEPENDENCY_DURATION.name})
"""Histograms that remember, where there are traces, in which one a value was measured."""
BREAKER_CALLS = Signal(
    "mahavishnu_breaker_calls_total",
    Kind.COUNTER,
    "Calls a breaker has judged, by whether they were slow.",
    (Label("dependency"), Label("speed", ("fast", "slow"))),
    waived="Asked for where a threshold on `slow` is set; an open breaker is an alert by its state.",
    unit=Unit.CALLS,
)

FALLBACKS = ("static", "stale_cache", "dead_letter", "callable")
DEPENDENCY_FALLBACKS = Signal(
    "mahavishnu_dependency_fallbacks_total",
    Kind.COUNTER,
    "Failed calls for which something else was to stand in: served, or failed: there was nothing, or no place.",
    (Label("dependency"), Label("fallback", FALLBACKS), Label("outcome", ("served", "failed"))),
    waived="Asked for where something stands in; without it nothing is ever degraded.",
    unit=Unit.CALLS,
)
LETTER_STATES = ("waiting", "quarantined")
DEAD_LETTERS = Signal(
    "mahavishnu_dead_letters",
    Kind.GAUGE,
    "Failed calls that are kept to be made again: waiting, or quarantined until a person decides.",
    (Label("dependency"), Label("state", LETTER_STATES)),
    across=Across.MAX,
)
DEAD_LETTERS_AGE = Signal(
    "mahavishnu_dead_letters_age_seconds",
    Kind.GAUGE,
    "Age of the oldest dead letter of each dependency that still waits; 0 when none does.",
    (Label("dependency"),),
    across=Across.MAX,
    unit=Unit.AGE,
)
DEAD_LETTERS_PARKED = Signal(
    "mahavishnu_dead_letters_parked_total",
    Kind.COUNTER,
    "Failed calls by what became of them: stored, known (the same key is there already), full or lost (kept nowhere).",
    (Label("dependency"), Label("outcome", ("stored", "known", "full", "lost"))),
    unit=Unit.CALLS,
)
DEAD_LETTERS_REDRIVEN = Signal(
    "mahavishnu_dead_letters_redriven_total",
    Kind.COUNTER,
    "Dead letters that were taken up: done, failed (tried again later), deferred (not called), quarantined, or "
    "unhandled (this process has no code for them).",
    (Label("dependency"), Label("outcome", ("done", "failed", "deferred", "quarantined", "unhandled"))),
    waived="Every end of an attempt is looked at; what is stuck or given up is judged by itself.",
    unit=Unit.LETTERS,
)
DEAD_LETTERS_DROPPED = Signal(
    "mahavishnu_dead_letters_dropped_total",
    Kind.COUNTER,
    "Dead letters that were given up unredriven: expired (retention) or displaced (when_full).",
    (Label("reason", ("expired", "displaced")),),
    unit=Unit.LETTERS,
)
DEAD_LETTERS_FULL = Signal(
    "mahavishnu_dead_letters_full_ratio",
    Kind.GAUGE,
    "How much of the room for dead letters is used, by number or by size, whichever is more.",
    across=Across.MAX,
    unit=Unit.SHARE,
)
DEAD_LETTERS_UP = Signal(
    "mahavishnu_dead_letters_store_up",
    Kind.GAUGE,
    "1 while this process can read and write its dead letters.",
    across=Across.MIN,
    unit=Unit.FLAG,
)

STORE_CALLS = Signal(
    "mahavishnu_limit_store_calls_total",
    Kind.COUNTER,
    "Calls to the shared store of limits, by how they ended; skipped: it was lost, and not asked.",
    (Label("outcome", ("ok", "error", "timeout", "skipped")),),
    unit=Unit.STORE_CALLS,
)
STORE_DURATION = Signal(
    "mahavishnu_limit_store_duration_seconds",
    Kind.HISTOGRAM,
    "Time from a call to the shared store of limits to its answer.",
    (),
    tuple(Decimal(bound) for bound in ("0.0005", "0.001", "0.0025", "0.005", "0.01", "0.02", "0.05", "0.1")),
    waived="How long it takes is looked at; too long is a timeout of the store, and an alert.",
    unit=Unit.STORE_CALLS,
)
STORE_UP = Signal(
    "mahavishnu_limit_store_up",
    Kind.GAUGE,
    "1 while the shared store of limits answers this process.",
    across=Across.MIN,
    unit=Unit.FLAG,
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
    waived="What cannot be read of a worker is left out, and a worker that is missing is an alert.",
    unit=Unit.FAULTS,
)
WORKER_DEATHS = Signal(
    "mahavishnu_worker_deaths_total",
    Kind.COUNTER,
    "Workers that ended without a last word: killed, or crashed. Those that are replaced in good order are none.",
    unit=Unit.DEATHS,
)
PUSHES = Signal(
    "mahavishnu_otlp_pushes_total",
    Kind.COUNTER,
    "How often these series were pushed to the collector, by whether it took all of them, a part, or none.",
    (Label("outcome", ("ok", "partial", "failed")),),
    waived="Where they fail nobody who is pushed to sees it; the log says so, and the collector knows who is silent.",
    unit=Unit.PUSHES,
)
SPANS = Signal(
    "mahavishnu_spans_total",
    Kind.COUNTER,
    "Spans of sampled traces: exported, dropped (too many waited), or failed (the collector did not take them).",
    (Label("outcome", ("exported", "dropped", "failed")),),
    unit=Unit.SPANS,
)

COPIES = ("1", "2", "3")
"""A backup goes to at most so many repositories, named by their place in `to`."""
_COPY = (Label("backup"), Label("copy", COPIES))
BACKUP_SUCCESS = Signal(
    "mahavishnu_backup_last_success_timestamp_seconds",
    Kind.GAUGE,
    "When the last backup that succeeded was begun, in seconds since 1970.",
    _COPY,
    across=Across.MAX,
    waived="What its age is measured from: that is judged.",
    unit=Unit.POINT,
    reported=True,
)
BACKUP_AGE = Signal(
    "mahavishnu_backup_age_seconds",
    Kind.GAUGE,
    "How old the last backup that succeeded is: what would be lost if everything else were.",
    _COPY,
    across=Across.MAX,
    unit=Unit.AGE,
    reported=True,
)
BACKUP_SIZE = Signal(
    "mahavishnu_backup_size_bytes",
    Kind.GAUGE,
    "Size of what the last backup read.",
    _COPY,
    across=Across.MAX,
    unit=Unit.BYTES,
    reported=True,
)
BACKUP_USUAL_SIZE = Signal(
    "mahavishnu_backup_usual_size_bytes",
    Kind.GAUGE,
    "Median size of the seven backups before it.",
    _COPY,
    across=Across.MAX,
    unit=Unit.BYTES,
    reported=True,
)
BACKUP_DURATION = Signal(
    "mahavishnu_backup_duration_seconds",
    Kind.GAUGE,
    "How long the last backup took.",
    _COPY,
    across=Across.MAX,
    waived="How long it takes is looked at; one that never ends makes the age grow.",
    unit=Unit.SECONDS,
    reported=True,
)
BACKUP_VERIFIED = Signal(
    "mahavishnu_backup_last_verified_timestamp_seconds",
    Kind.GAUGE,
    "When the last reading of the whole repository that found no fault was begun, in seconds since 1970.",
    _COPY,
    across=Across.MAX,
    waived="What its age is measured from: that is judged.",
    unit=Unit.POINT,
    reported=True,
)
BACKUP_VERIFIED_AGE = Signal(
    "mahavishnu_backup_verified_age_seconds",
    Kind.GAUGE,
    "Time since then; where nothing was verified yet, since the first backup.",
    _COPY,
    across=Across.MAX,
    waived="Asked for where repositories are read.",
    unit=Unit.AGE,
    reported=True,
)
BACKUP_DRILLED = Signal(
    "mahavishnu_backup_last_drill_timestamp_seconds",
    Kind.GAUGE,
    "When the last drill that restored good data was begun, in seconds since 1970.",
    _COPY,
    across=Across.MAX,
    waived="What its age is measured from: that is judged.",
    unit=Unit.POINT,
    reported=True,
)
BACKUP_DRILL_AGE = Signal(
    "mahavishnu_backup_drill_age_seconds",
    Kind.GAUGE,
    "Time since then; where nothing was restored yet, since the first backup.",
    _COPY,
    across=Across.MAX,
    waived="Asked for where drills are made.",
    unit=Unit.AGE,
    reported=True,
)
BACKUP_RESTORE = Signal(
    "mahavishnu_backup_restore_seconds",
    Kind.GAUGE,
    "How long that drill took: the measured RTO.",
    _COPY,
    across=Across.MAX,
    waived="Asked for where `rto` says how long it may take.",
    unit=Unit.SECONDS,
    reported=True,
)
BACKUP_SNAPSHOTS = Signal(
    "mahavishnu_backup_snapshots",
    Kind.GAUGE,
    "Snapshots in the repository.",
    _COPY,
    across=Across.MAX,
    waived="How many there are is looked at; what is promised is how far back they go.",
    reported=True,
)
BACKUP_HISTORY = Signal(
    "mahavishnu_backup_history_seconds",
    Kind.GAUGE,
    "Time from the newest snapshot back to the oldest.",
    _COPY,
    across=Across.MAX,
    waived="Asked for where a retention says how far back they go.",
    unit=Unit.SECONDS,
    reported=True,
)
BACKUP_HISTORY_DUE = Signal(
    "mahavishnu_backup_history_due_seconds",
    Kind.GAUGE,
    "What that has to be by now: the guaranteed history, or the time from the first backup to the last less a day.",
    _COPY,
    across=Across.MAX,
    waived="Asked for where a retention says how far back they go.",
    unit=Unit.SECONDS,
    reported=True,
)
BACKUP_GUARANTEED = Signal(
    "mahavishnu_backup_guaranteed_history_seconds",
    Kind.GAUGE,
    "The history that the retention guarantees once backups have run long enough.",
    (Label("backup"),),
    across=Across.MAX,
    waived="What will be promised once there are enough of them; what is due by now is judged.",
    unit=Unit.SECONDS,
)
STEPS = ("run", "prune", "verify", "drill")
BACKUP_STEP = Signal(
    "mahavishnu_backup_step_successful",
    Kind.GAUGE,
    "1 when the last run, prune, verification or drill succeeded, 0 when it failed.",
    (Label("backup"), Label("step", STEPS)),
    across=Across.MIN,
    unit=Unit.FLAG,
    reported=True,
)
