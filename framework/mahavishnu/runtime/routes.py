"""The routes of an app, as it has declared them: what `check` and the route table are told."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from mahavishnu.policy import Scope

Route = tuple[str, frozenset[str] | None]
_DEEPEST = 1000  # middlewares in one another; whoever has more stands in a circle


def routes_of(app: Any) -> list[Route]:
    """Every route of an app, mounted ones included: its path template and its methods (None: all)."""
    return list(_listed(resolved_routes(app), ""))


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


def router_of(app: Any) -> Sequence[Any]:
    """The route table below a stack of middlewares, as it grows; empty when the app has none."""
    return resolved_routes(with_routes(app))


def with_routes(app: Any) -> Any | None:
    """What has the routes, below a stack of middlewares; None when nothing has."""
    for _ in range(_DEEPEST):
        if app is None or hasattr(app, "routes"):
            return app
        app = getattr(app, "app", None)
    return None


def resolved_routes(app: Any) -> Sequence[Any]:
    """The routes of an app, a router, a mount, or an included router; empty when it has none."""
    included = getattr(
        app, "effective_candidates", None
    )  # FastAPI's include_router, resolved when first asked
    if included is not None:
        return [getattr(one, "starlette_route", None) or one for one in included()]
    routes: Sequence[Any] | None = getattr(app, "routes", None)
    return () if routes is None else routes


def is_mount(route: Any) -> bool:
    """Whether a whole app stands behind a route, mounted at a path or at a host."""
    return hasattr(route, "app") and not hasattr(route, "endpoint")


def _matched(route: Any, scope: Scope) -> tuple[str, Scope]:
    try:
        match, child = route.matches(scope)
    except Exception:  # noqa: BLE001  a convertor fails, and will again in the router: the request ends at this route
        return "FULL", {}
    return match.name, child


def _template(route: Any, scope: Scope) -> str:
    path = str(getattr(route, "path", ""))
    if not resolved_routes(route) and not is_mount(route):
        return path
    below = resolve(resolved_routes(route), scope)
    return path + ("/*" if below is None else below)


def _listed(routes: Iterable[Any], prefix: str) -> Iterator[Route]:
    for route in routes:
        path = prefix + str(getattr(route, "path", ""))
        if resolved_routes(route):
            yield from _listed(resolved_routes(route), path)
        elif is_mount(route):
            yield f"{path}/*", None
        else:
            methods = getattr(route, "methods", None)
            yield path, frozenset(methods) if methods else None


def _main(target: str) -> None:
    module, _, name = target.partition(":")
    app = getattr(importlib.import_module(module), name)
    sys.stdout.write(
        json.dumps([[path, sorted(methods) if methods else None] for path, methods in routes_of(app)])
    )


if __name__ == "__main__":
    _main(sys.argv[1])
