"""What responses say of limits and of safety: RateLimit fields, problem details, security headers."""

# RateLimit fields: draft-ietf-httpapi-ratelimit-headers-08 to -11. Problems: RFC 9457. Clients of MCP are told in its
# own language, for its SDK shows an agent nothing else of an answer that is no 200.

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from sys import modules
from typing import Protocol

from mahavishnu.protocols import Decision, Taken
from mahavishnu.runtime.limits.margin import Margin
from mahavishnu.units import SECOND, seconds

Header = tuple[bytes, bytes]

_TYPES = "https://iana.org/assignments/http-problem-types#"
_TITLES = {
    408: "Request Timeout",
    413: "Content Too Large",
    429: "Too Many Requests",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
_REFUSED = -32005  # among the codes that JSON-RPC leaves to servers, and MCP to implementations
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


ADDED = frozenset((b"x-request-id", b"connection", b"ratelimit", b"ratelimit-policy", *dict(STRICT)))
"""The names of all headers that are added to responses."""


class Rate(Protocol):
    """What the fields say of a rate: so much in a window of so many ns, and who notes what is left."""

    @property
    def name(self) -> str: ...
    @property
    def quota(self) -> int: ...
    @property
    def window(self) -> int: ...
    @property
    def enforced(self) -> bool: ...
    @property
    def margin(self) -> Margin: ...


class RateLimitFields:
    """The RateLimit fields of a plan: what never changes is written once.

    `rates` are those that a request meets, in their places among its charges. A client is told of the enforced
    ones; what is left of each is noted on the way, where it is known anyway.
    """

    __slots__ = ("_policy", "_rates", "_words")

    def __init__(self, rates: Sequence[Rate]) -> None:
        told = [rate for rate in rates if rate.enforced]
        policy = ", ".join(f'"{one.name}";q={one.quota};w={max(1, seconds(one.window))}' for one in told)
        self._policy: Header = (b"ratelimit-policy", policy.encode())
        self._words = ", ".join(f'"{one.name}";r=%d;t=%d' for one in told).encode()
        self._rates = [(rate.enforced, rate.margin) for rate in rates]

    def numbers(self, taken: Taken) -> tuple[int, ...]:
        """What is left of each told rate, and in how many seconds more fits; and note what is left of all of them."""
        said: list[int] = []
        place = 0
        for (told, margin), (remaining, back) in zip(self._rates, taken.left(len(self._rates))):  # noqa: B905 - dearer if `strict`
            if remaining < margin.mark:
                margin.standing(remaining, taken, place)
            if told:
                said += remaining, -(-back // SECOND)
            place += 1  # noqa: SIM113 - `enumerate` is dearer
        return (*said,)

    def fields(self, numbers: tuple[int, ...]) -> tuple[Header, ...]:
        """Both fields, for a request that was charged."""
        return (self._policy, (b"ratelimit", self._words % numbers)) if numbers else ()


NOTHING_TOLD = RateLimitFields(())


def problem(decision: Decision, *, rpc: bool = False) -> tuple[bytes, list[Header]]:
    """The body of a refusal as problem+json, or as an error of JSON-RPC, and the headers that belong to it."""
    _, limit, status, kind, detail, after, _, _ = decision
    body, headers = _problem(kind, status, detail, limit, None if after is None else seconds(after), rpc)
    return body, [*headers]


def speaks_rpc(headers: Iterable[Header]) -> bool:
    """Whether a POST with these comes from a client of MCP, where the process has its SDK and so may be a server of it.

    Such a client accepts both kinds of answers, JSON and events.
    """
    if "mcp" not in modules:  # to look through the headers costs a twentieth of a refusal
        return False
    accepted = b"".join([value for name, value in headers if name == b"accept"]).lower()
    return b"text/event-stream" in accepted and b"application/json" in accepted


@lru_cache(maxsize=256)  # in a flood most are told the same, for the times are whole seconds
def _problem(
    kind: str, status: int, detail: str, limit: str, after: int | None, rpc: bool
) -> tuple[bytes, Sequence[Header]]:
    said: dict[str, object] = {
        "type": kind,
        "title": _TITLES.get(status, "Refused"),
        "status": status,
        "detail": detail,
        "violated-policies": [limit],
    }
    body = json.dumps(_rpc_error(said, after) if rpc else said).encode()
    headers = [
        (b"content-type", b"application/json" if rpc else b"application/problem+json"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
    ]
    if status in (408, 413):
        headers.append((b"connection", b"close"))  # the rest of the body is not read
    if after is not None:
        headers.append((b"retry-after", b"%d" % after))
    return body, headers


def _rpc_error(said: Mapping[str, object], after: int | None) -> Mapping[str, object]:
    """The problem as an error of JSON-RPC 2.0, of a request whose id nobody has read."""
    data = said if after is None else {**said, "retry_after": after}
    error = {"code": _REFUSED, "message": said["detail"] or said["title"], "data": data}
    return {"jsonrpc": "2.0", "id": None, "error": error}


def missing(headers: Iterable[Header], present: Iterable[Header]) -> tuple[Header, ...]:
    """Those headers whose name the response does not carry yet: the app's own word wins."""
    names = {name.lower() for name, _ in present}
    return tuple(header for header in headers if header[0] not in names)
