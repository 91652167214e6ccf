"""One YAML file says how a service survives: enforced in the process, compiled into everything around it."""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from mahavishnu.dependencies import dependency
    from mahavishnu.limits import limit
    from mahavishnu.runtime.calls.degraded import degraded, watching
    from mahavishnu.runtime.context import request_id
    from mahavishnu.runtime.dead_letters.handlers import idempotency_key
    from mahavishnu.worker import redriving

__all__ = [
    "__version__",
    "degraded",
    "dependency",
    "idempotency_key",
    "limit",
    "redriving",
    "request_id",
    "watching",
]


def __getattr__(name: str) -> object:
    """Load the runtime only for those who call it; reading a spec needs none of it."""
    if name == "dependency":
        from mahavishnu.dependencies import dependency

        return dependency
    if name == "limit":
        from mahavishnu.limits import limit

        return limit
    if name == "redriving":
        from mahavishnu.worker import redriving

        return redriving
    if name in ("degraded", "watching"):
        from mahavishnu.runtime.calls import degraded

        return getattr(degraded, name)
    if name == "idempotency_key":
        from mahavishnu.runtime.dead_letters.handlers import idempotency_key

        return idempotency_key
    if name == "request_id":
        from mahavishnu.runtime.context import request_id

        return request_id
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
