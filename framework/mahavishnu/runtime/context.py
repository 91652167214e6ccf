"""What the code of one request may know without being told: its id, who asks, and its deadline."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from mahavishnu.protocols import Scope
from mahavishnu.runtime.keys import Caller

if TYPE_CHECKING:
    from mahavishnu.runtime.service import Service
    from mahavishnu.runtime.tracing.traces import Trace


class Degraded(NamedTuple):
    """What stood in for an answer of a dependency: which `fallback`, and how many seconds old (None: no age)."""

    dependency: str
    fallback: str
    age: int | None = None


class Lasting(Protocol):
    """Something that was begun for a request, and may last longer than the work for its answer."""

    def let_run(self) -> None:
        """The answer begins: from now on it lasts as long as the client likes."""
        ...


class Request:
    """One request, for whatever it calls; `deadline` is in ns of the engine's clock, None once it has answered.

    `service` is the one it began with (None: whichever is at work): a reload changes nothing for it. `scope` is what
    the server and the app have said of it by now.
    """

    __slots__ = ("around", "caller", "deadline", "degraded", "request_id", "scope", "service", "trace")

    around: tuple[Lasting, ...]  # that stand around its answer; not there before one did

    degraded: Mapping[str, Degraded]  # by dependency; not there before anything was
    trace: Trace  # not there where nobody traces
    scope: Scope  # not there where no server serves it

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

    def surround(self, one: Lasting) -> None:
        """It may stand around the answer, until it has `left`."""
        self.around = (*getattr(self, "around", ()), one)

    def leave(self, one: Lasting) -> None:
        """It is over."""
        self.around = tuple(other for other in self.around if other is not one)

    def begin_answer(self) -> None:
        """What stands around the answer is not to be measured by the time that its client takes."""
        for one in getattr(self, "around", ()):
            one.let_run()


Cell = list[Any]
"""Where code is: the attempt of a call that it is part of, if there is any, and the request that it serves, if any.

`calls.call` says what the attempt may be, and what may follow. A list, because one is made for every call, and a list
is made in a quarter of the time that an object takes.
"""
_NOWHERE: Cell = [None, None]
HERE: ContextVar[Cell] = ContextVar("mahavishnu", default=_NOWHERE)
"""One for both: each look at a variable costs a call as much as the other."""


STARTS: ContextVar[bool] = ContextVar("mahavishnu_starts", default=False)
"""Whether an app starts here that has a Hardening around it."""


def hardened() -> bool:
    """Whether this code is inside of a Hardening, which serves a request by it, or lets it start."""
    return STARTS.get() or HERE.get()[1] is not None


def current_request() -> Request | None:
    """The request that is being served."""
    request: Request | None = HERE.get()[1]
    return request


def request_id() -> str:
    """The id of the request that is being served; empty outside of one."""
    request = current_request()
    return "" if request is None else request.request_id


def deadline() -> int | None:
    """When the response of the request being served must have started; None: no limit."""
    request = current_request()
    return None if request is None else request.deadline


def _serve_nobody() -> None:
    """A fork serves no request: it may be a worker of a pool, and outlive by far the one in which it was made."""
    HERE.get()[1] = None


os.register_at_fork(after_in_child=_serve_nobody)
