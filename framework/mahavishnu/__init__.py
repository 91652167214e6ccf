"""One YAML file says how a service survives: enforced in the process, compiled into everything around it."""

from __future__ import annotations

from importlib import import_module
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

_HOMES = {
    "degraded": "runtime.calls.degraded",
    "dependency": "dependencies",
    "idempotency_key": "runtime.dead_letters.handlers",
    "limit": "limits",
    "redriving": "worker",
    "request_id": "runtime.context",
    "watching": "runtime.calls.degraded",
}


def __getattr__(name: str) -> object:
    """Load the runtime only for those who call it; reading a spec needs none of it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
