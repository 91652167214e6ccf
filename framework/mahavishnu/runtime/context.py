"""What the code of one request may know without being told: its id, who asks, and its deadline."""

from __future__ import annotations

from contextvars import ContextVar

from mahavishnu.runtime.keys import Caller


class Request:
    """One request, for whatever it calls; `deadline` is in ns of the engine's clock, None once it has answered."""

    __slots__ = ("caller", "deadline", "request_id")

    def __init__(self, request_id: str, caller: Caller) -> None:
        self.request_id = request_id
        self.caller = caller
        self.deadline: int | None = None


CURRENT: ContextVar[Request | None] = ContextVar("mahavishnu_request", default=None)


def request_id() -> str:
    """The id of the request that is being served; empty outside of one."""
    request = CURRENT.get()
    return "" if request is None else request.request_id


def deadline() -> int | None:
    """When the response of the request being served must have started; None: no limit."""
    request = CURRENT.get()
    return None if request is None else request.deadline
