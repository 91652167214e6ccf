"""Which of the app's own routes a request goes to, as the router itself would decide it."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from starlette.routing import Match
from starlette.routing import Route as Plain

from mahavishnu.policy import Scope

Route = tuple[str, frozenset[str] | None]


def routes_of(app: Any) -> list[Route]:
    """Every route of an app, mounted ones included: its path template and its methods (None: all)."""
    return list(_listed(_routes(app), ""))


def resolve(routes: Sequence[Any], scope: Scope) -> str | None:
    """The path template of the route that the router would choose for this scope; None when it has none."""
    partial: str | None = None
    path = None if scope.get("root_path") else scope["path"]
    for route in routes:
        if type(route) is Plain and path is not None and route.path_regex.match(path) is None:
            continue  # as `matches` would find out, with less ado
        match, child = _matched(route, scope)
        if match is Match.NONE:
            continue
        template = route.path if type(route) is Plain else _template(route, {**scope, **child})
        if match is Match.FULL:
            return template
        partial = partial or template
    return partial


def router_of(app: Any) -> Sequence[Any]:
    """The route table below a stack of middlewares, as it grows; empty when the app has none."""
    while app is not None and not hasattr(app, "routes"):
        app = getattr(app, "app", None)
    return _routes(app)


def _matched(route: Any, scope: Scope) -> tuple[Match, Scope]:
    try:
        match, child = route.matches(scope)
    except Exception:  # noqa: BLE001  a convertor fails, and will again in the router: the request ends at this route
        return Match.FULL, {}
    return match, child


def _routes(app: Any) -> Sequence[Any]:
    included = getattr(
        app, "effective_candidates", None
    )  # FastAPI's include_router, resolved when first asked
    if included is not None:
        return [getattr(one, "starlette_route", None) or one for one in included()]
    routes: Sequence[Any] | None = getattr(app, "routes", None)
    return () if routes is None else routes


def _template(route: Any, scope: Scope) -> str:
    path = str(getattr(route, "path", ""))
    if not _routes(route) and not _is_mount(route):
        return path
    below = resolve(_routes(route), scope)
    return path + ("/*" if below is None else below)


def _is_mount(route: Any) -> bool:
    return hasattr(route, "app") and not hasattr(route, "endpoint")


def _listed(routes: Iterable[Any], prefix: str) -> Iterator[Route]:
    for route in routes:
        path = prefix + str(getattr(route, "path", ""))
        if _routes(route):
            yield from _listed(_routes(route), path)
        elif _is_mount(route):
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
