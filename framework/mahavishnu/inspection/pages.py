"""The pages of an app that load scripts from elsewhere: those that FastAPI makes of its schema."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mahavishnu.runtime.routing.routes import leaves

_PAGES = frozenset({"FastAPI.setup.<locals>.swagger_ui_html", "FastAPI.setup.<locals>.redoc_html"})


def pages_of(app: Any) -> Iterator[str]:
    """Their paths, those of mounted apps too; of an endpoint of the app's own nobody knows what its page loads."""
    for path, route in leaves(app):
        if getattr(getattr(route, "endpoint", None), "__qualname__", None) in _PAGES:
            yield path
