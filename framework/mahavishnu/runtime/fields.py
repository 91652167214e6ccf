"""What responses say of limits and of safety: RateLimit fields, problem details, security headers.

RateLimit fields: draft-ietf-httpapi-ratelimit-headers-08 to -11. Problems: RFC 9457.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache

from mahavishnu.policy import Decision

Header = tuple[bytes, bytes]

_TYPES = "https://iana.org/assignments/http-problem-types#"
_TITLES = {
    413: "Content Too Large",
    429: "Too Many Requests",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
QUOTA_EXCEEDED = f"{_TYPES}quota-exceeded"
REDUCED_CAPACITY = f"{_TYPES}temporary-reduced-capacity"

STRICT: tuple[Header, ...] = (
    (b"strict-transport-security", b"max-age=31536000; includeSubDomains"),
    (
        b"content-security-policy",
        b"default-src 'self'; frame-ancestors 'none'; base-uri 'none'; object-src 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)


def seconds(ns: int) -> int:
    """Nanoseconds as whole seconds, rounded up: who waits that long has waited long enough."""
    return -(-ns // 1_000_000_000)


def rate_limit(decisions: Iterable[Decision]) -> list[Header]:
    """The two RateLimit fields for the rates that a request was counted by."""
    counted = [one for one in decisions if one.window]
    if not counted:
        return []
    policy = ", ".join([_policy(one.limit, one.quota, one.window) for one in counted])
    left = ", ".join([f'"{one.limit}";r={one.remaining};t={seconds(_until(one))}' for one in counted])
    return [(b"ratelimit-policy", policy.encode()), (b"ratelimit", left.encode())]


def problem(decision: Decision) -> tuple[bytes, list[Header]]:
    """The body of a refusal as problem+json, and the headers that belong to it."""
    said = {
        "type": decision.problem,
        "title": _TITLES.get(decision.status, "Refused"),
        "status": decision.status,
        "detail": decision.detail,
        "violated-policies": [decision.limit],
    }
    body = json.dumps(said).encode()
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    if decision.retry_after is not None:
        headers.append((b"retry-after", str(seconds(decision.retry_after)).encode()))
    return body, headers


def missing(headers: Iterable[Header], present: Iterable[Header]) -> list[Header]:
    """Those headers whose name the response does not carry yet: the app's own word wins."""
    names = {name.lower() for name, _ in present}
    return [header for header in headers if header[0] not in names]


@lru_cache(maxsize=1024)
def _policy(limit: str, quota: int, window: int) -> str:
    return f'"{limit}";q={quota};w={max(1, seconds(window))}'


def _until(decision: Decision) -> int:
    return decision.reset if decision.allowed or decision.retry_after is None else decision.retry_after
