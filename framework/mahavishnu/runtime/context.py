"""What the code of one request may know without being told: its id and its deadline."""

from __future__ import annotations

from contextvars import ContextVar

REQUEST_ID: ContextVar[str] = ContextVar("mahavishnu_request_id", default="")
DEADLINE: ContextVar[int | None] = ContextVar("mahavishnu_deadline", default=None)
"""When the response must have started, in nanoseconds of the engine's clock; None: no limit."""
