"""The routes of an app, as it has declared them: what `check` and the route table are told."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NoReturn

Route = tuple[str, frozenset[str] | None]
_DEEPEST = 1000  # middlewares in one another; whoever has more stands in a circle


def routes_of(app: Any) -> list[Route]:
    """Every route of an app, below its middlewares, mounted ones included: its template and its methods (None: all)."""
    return list(_listed(resolved_routes(with_routes(app)), ""))


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


def declared(target: str) -> list[tuple[str, list[str] | None]]:
    """The routes of the app that `module:attribute` names, for JSON; ends the process with why nobody can know."""
    module, _, name = target.partition(":")
    try:
        app = _made(getattr(importlib.import_module(module), name))
    except (Exception, SystemExit) as fault:  # noqa: BLE001 - whatever an app does, it is said in a sentence
        sys.exit(_first_line(fault))
    if not callable(app):
        sys.exit("it is no ASGI app, for it cannot be called")
    return [(path, sorted(methods) if methods else None) for path, methods in routes_of(app)]


def _made(app: Any) -> Any:
    """The app, or what a factory makes: as uvicorn, which calls whatever needs no arguments."""
    try:
        inspect.signature(app).bind()
    except (TypeError, ValueError):
        return app
    return app()


def _first_line(fault: BaseException) -> str:
    """What a fault says first: after that come places, links and advice, of SQLAlchemy's or pydantic's for example."""
    said = "".join(traceback.format_exception_only(fault)).splitlines()
    return next(line for line in said if line[:1].strip())


def say(find: Callable[[], object]) -> NoReturn:
    """Write what is found as JSON, or why nothing is, and end the process: no thread of the app's holds it."""
    try:
        said, stream, code = json.dumps(find()), sys.stdout, 0
    except SystemExit as end:
        said, stream, code = str(end), sys.stderr, 1
    print(said, file=stream, flush=True)
    if any(not one.daemon for one in threading.enumerate() if one is not threading.main_thread()):
        os._exit(code)  # an exit would wait for it
    sys.exit(code)


if __name__ == "__main__":
    say(lambda: declared(sys.argv[1]))
