"""What a measured stack is: an app with some protection, the numbers it is given, and what it says it does."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from starlette.types import ASGIApp

from benchmarks.app import Payments, Sink, bare
from benchmarks.harness import peer

NAMED = {"minute": 60, "hour": 3600, "day": 86_400}
PER_ROUTE = 1_000
"""The second limit: so many requests an hour for each client on each route."""
EVERYONE = 50_000
"""The third limit: so many requests a second for all clients together."""


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
class On:
    """Which layers are on. Metrics and request ids are there in any case: ours cannot do without them."""

    limits: int = 0
    """None, one for each client, or three: for each client, for each client and route, for all."""
    log: bool = False
    deadline: bool = False
    rest: bool = False
    """Concurrency, body size, security headers, and a timeout and a breaker around the dependency."""


EVERYTHING = On(limits=3, log=True, deadline=True)
AND_MORE = On(limits=3, log=True, deadline=True, rest=True)


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


def exposed(registry: Any) -> bytes:
    """What prometheus_client shows of a registry."""
    return cast("bytes", peer("prometheus_client").generate_latest(registry))


def total(exposition: bytes, name: str) -> float:
    """The sum of the samples whose name begins like this."""
    lines = exposition.decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


def lines_of(sink: Sink) -> list[dict[str, Any]]:
    """The kept log, parsed."""
    return [json.loads(line) for line in "".join(sink.kept or ()).splitlines()]
