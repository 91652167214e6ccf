"""Plain functions that are called as tools: no spec may let a store decide of them that must be awaited."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from mahavishnu.errors import MahavishnuError

if TYPE_CHECKING:  # who looks at an app that has no spec yet would wait for it
    from mahavishnu.spec import Spec

PLAIN = set[tuple[str, str]]()
"""Of this process: the tool, and the function's name."""


def fit(spec: Spec, plain: Iterable[tuple[str, str]] = PLAIN) -> None:
    """Raise MahavishnuError for the first whose limits this spec lets a shared store decide."""
    for tool, function in sorted(plain):
        if awaited := spec.awaited(tool):
            raise MahavishnuError(
                f"limit `{awaited[0]}` is decided by the shared store, which must be awaited, and `{function}` "
                "is a plain function: make it `async def`, or write `scope: process`"
            )


def forget() -> None:
    """Start anew; for tests."""
    PLAIN.clear()
