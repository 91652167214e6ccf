"""Plain functions that are called as tools: no spec may let a store decide of them that must be awaited."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mahavishnu.errors import MahavishnuError

if TYPE_CHECKING:  # who looks at an app that has no spec yet would wait for it
    from mahavishnu.spec import Spec


def fit(spec: Spec, tool: str, function: str) -> None:
    """Raise MahavishnuError where this spec lets a shared store decide of this function, called as this tool."""
    if awaited := spec.awaited(tool):
        raise MahavishnuError(
            f"limit `{awaited[0]}` is decided by the shared store, which must be awaited, and `{function}` "
            "is a plain function: make it `async def`, or write `scope: process`"
        )
