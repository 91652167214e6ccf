"""One YAML file says how a service survives: enforced in the process, compiled into everything around it."""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from mahavishnu.dependencies import dependency
    from mahavishnu.limits import limit

__all__ = ["__version__", "dependency", "limit"]


def __getattr__(name: str) -> object:
    """Load the runtime only for those who call it; reading a spec needs none of it."""
    if name == "dependency":
        from mahavishnu.dependencies import dependency

        return dependency
    if name == "limit":
        from mahavishnu.limits import limit

        return limit
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
