"""The reference for the route table: one route after the other is asked, as the routers do it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mahavishnu.protocols import Scope
from mahavishnu.runtime.routing.routes import is_mount, resolved_routes


def resolve(routes: Sequence[Any], scope: Scope) -> str | None:
    """The path template of the route that the router would choose for this scope; None when it has none."""
    partial: str | None = None
    for route in routes:
        match, child = _matched(route, scope)
        if match == "NONE":
            continue
        template = _template(route, {**scope, **child})
        if match == "FULL":
            return template
        partial = partial or template
    return partial


def _matched(route: Any, scope: Scope) -> tuple[str, Scope]:
    try:
        match, child = route.matches(scope)
    except Exception:  # noqa: BLE001  a convertor fails: the request ends at this route
        return "FULL", {}
    return match.name, child


def _template(route: Any, scope: Scope) -> str:
    path = str(getattr(route, "path", ""))
    if not resolved_routes(route) and not is_mount(route):
        return path
    below = resolve(resolved_routes(route), scope)
    return path + ("/*" if below is None else below)
