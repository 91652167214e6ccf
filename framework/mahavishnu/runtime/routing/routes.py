"""The routes of an app, as it has declared them: what `check` and the route table are told."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from mahavishnu.runtime.routing.layers import layers_of

Route = tuple[str, frozenset[str] | None]


def routes_of(app: Any) -> list[Route]:
    """Every route of an app, below its middlewares, mounted ones included: its template and its methods (None: all)."""
    return [(path, _methods(route)) for path, route in leaves(app)]


def leaves(app: Any) -> Iterator[tuple[str, Any]]:
    """The same with the routes themselves; of a mounted app whose routes nobody sees, its mount, as `/path/*`."""
    yield from _listed(resolved_routes(with_routes(app)), "")


def with_routes(app: Any) -> Any | None:
    """What has the routes, below a stack of middlewares; None when nothing has."""
    return next((one for one in layers_of(app) if hasattr(one, "routes")), None)


def resolved_routes(app: Any) -> Sequence[Any]:
    """The routes of an app, a router, a mount, or an included router; empty when it has none."""
    included = getattr(
        app, "effective_candidates", None
    )  # FastAPI's include_router, resolved when first asked
    if included is not None:
        return [getattr(one, "starlette_route", None) or one for one in included()]
    routes: Sequence[Any] | None = getattr(app, "routes", None)
    return () if routes is None else routes


def can_be_asked(route: Any) -> bool:
    """Whether a route says itself what it matches, as Starlette's do; those of Litestar only have paths like them."""
    return callable(getattr(route, "matches", None))


def is_mount(route: Any) -> bool:
    """Whether a whole app stands behind a route, mounted at a path or at a host."""
    return hasattr(route, "app") and not hasattr(route, "endpoint")


def mounted(routes: Iterable[Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The apps behind these routes with their paths, those of included routers, too."""
    for route in routes:
        path = prefix + str(getattr(route, "path", ""))
        if is_mount(route):
            yield path, route.app
        else:
            yield from mounted(resolved_routes(route), path)


def _methods(route: Any) -> frozenset[str] | None:
    methods = None if is_mount(route) else getattr(route, "methods", None)
    return frozenset(methods) if methods else None


def _listed(routes: Iterable[Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for route in filter(can_be_asked, routes):
        path = prefix + str(getattr(route, "path", ""))
        if any(map(can_be_asked, resolved_routes(route))):
            yield from _listed(resolved_routes(route), path)
        else:
            yield f"{path}/*" if is_mount(route) else path, route
