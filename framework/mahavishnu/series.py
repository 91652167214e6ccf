"""The series that several policies and concerns name: HTTP, process, and those of all limits or all dependencies."""

# HTTP names and labels follow OpenTelemetry's semantic conventions in Prometheus form.

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from mahavishnu.signals import Across, Kind, Label, Signal, Source, Unit

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "_OTHER")
UNMATCHED = "unmatched"
STATUSES_OWN = 11
"""At most so many statuses of one route and method have series of their own; further ones are counted as the x00 of
their class, as a client may treat them (RFC 9110, section 15)."""
STATUSES_SHOWN = STATUSES_OWN + 5
RATE_LIMITED = 429
"""Always one of those with series of their own, because no objective is about it."""
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
    "Duration of HTTP requests, to the end of the response; of a GET for events, to its beginning.",
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
BREAKER_STATES = ("closed", "open", "half_open")
BREAKER_STATE = Signal(
    "mahavishnu_breaker_state",
    Kind.GAUGE,
    "1 for the state each breaker is in, 0 for the others; half open as soon as a probe may pass.",
    (Label("dependency"), Label("state", BREAKER_STATES)),
    across=Across.MAX,
    of_all=("state", "closed"),
    waived="Asked for where it can open; one that is held closed is looked at.",
    unit=Unit.FLAG,
)
BREAKER_TRANSITIONS = Signal(
    "mahavishnu_breaker_transitions_total",
    Kind.COUNTER,
    "How often each breaker went to each state.",
    (Label("dependency"), Label("to", BREAKER_STATES)),
    waived="How often it opened is looked at; that it is open is an alert by its state.",
    unit=Unit.TRANSITIONS,
)
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
