"""What the code of one request may know without being told: its id, who asks, and its deadline."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple

from mahavishnu.runtime.keys import Caller

if TYPE_CHECKING:
    from mahavishnu.runtime.service import Service
    from mahavishnu.runtime.tracing.traces import Trace


class Degraded(NamedTuple):
    """What stood in for an answer of a dependency: which `fallback`, and how many seconds old (None: no age)."""

    dependency: str
    fallback: str
    age: int | None = None


class Request:
    """One request, for whatever it calls; `deadline` is in ns of the engine's clock, None once it has answered.

    `service` is the one it began with (None: whichever is at work): a reload changes nothing for it.
    """

    __slots__ = ("caller", "deadline", "degraded", "request_id", "service", "trace")

    degraded: Mapping[str, Degraded]  # by dependency; not there before anything was
    trace: Trace  # not there where nobody traces

    route = ""
    """The template of its route."""

    def __init__(self, request_id: str, caller: Caller) -> None:
        self.request_id = request_id
        self.caller = caller
        self.deadline: int | None = None
        self.service: Service | None = None

    def degrade(self, one: Degraded) -> None:
        """Something stood in for a dependency of this request."""
        self.degraded = {**getattr(self, "degraded", {}), one.dependency: one}


CURRENT: ContextVar[Request | None] = ContextVar("mahavishnu_request", default=None)


def request_id() -> str:
    """The id of the request that is being served; empty outside of one."""
    request = CURRENT.get()
    return "" if request is None else request.request_id


def deadline() -> int | None:
    """When the response of the request being served must have started; None: no limit."""
    request = CURRENT.get()
    return None if request is None else request.deadline
