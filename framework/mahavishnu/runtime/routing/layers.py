"""What stands around what in an app: layers of ASGI apps, and the middlewares that Starlette lists for itself."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, cast

_DEEPEST = 1000  # middlewares in one another; whoever has more stands in a circle
_ANSWERS_NOTHING = frozenset(
    {
        "starlette.middleware.authentication.AuthenticationMiddleware",  # Hardening counts by the user that it finds
        "starlette.middleware.sessions.SessionMiddleware",  # and so may a hook that reads the session
        "starlette.middleware.gzip.GZipMiddleware",
        "mcp.server.auth.middleware.auth_context.AuthContextMiddleware",  # stands with FastMCP's authentication
        "fastmcp.server.http.RequestContextMiddleware",
    }
)
"""Middlewares that may be outside of Hardening without a word: their requests all come to it."""


def layers_of(app: Any) -> Iterator[Any]:
    """An app and what is in it, from the outermost middleware to what has routes, or to what hides its inside."""
    for _ in range(_DEEPEST):
        if app is None:
            return
        yield app
        if hasattr(app, "routes"):
            return
        app = getattr(app, "app", None)


def listed(app: Any) -> Sequence[Any]:
    """The middlewares that were added to an app of Starlette's kind, from the outermost inwards."""
    found: Sequence[Any] | None = getattr(app, "user_middleware", None)
    return () if found is None else found


def place_of(kind: type, middlewares: Iterable[Any]) -> int | None:
    """Which of the listed middlewares is of this class; None where none is known to be."""
    kinds = (_made_by(one.cls) for one in middlewares)
    return next((at for at, one in enumerate(kinds) if isinstance(one, type) and issubclass(one, kind)), None)


def names_of_listed(middlewares: Iterable[Any]) -> list[str]:
    """What people call those of the listed middlewares that may answer a request themselves."""
    return [
        _name(_made_by(one.cls), one.kwargs.get("dispatch")) for one in middlewares if _may_answer(one.cls)
    ]


def names_of(layers: Iterable[Any]) -> list[str]:
    """The same of middlewares that stand around an app."""
    found = ((_kind(one), getattr(one, "dispatch_func", None)) for one in layers)
    return [_name(kind, dispatch) for kind, dispatch in found if _may_answer(kind)]


def outside(app: Any, kind: type) -> list[str]:
    """Those that were added to an app after a middleware of this class; nothing where that is not one of them."""
    middlewares = listed(app)
    return names_of_listed(middlewares[: place_of(kind, middlewares) or 0])


def _kind(layer: Any) -> Any:
    """Its class, or the function that it is."""
    return layer if hasattr(layer, "__name__") else cast("Any", type)(layer)


def _made_by(made: Any) -> Any:
    """The class or function below `functools.partial`."""
    return made.func if isinstance(made, functools.partial) else made


def descends(kind: Any, names: Collection[str]) -> bool:
    """Whether a class, or what is made of it, is one of these or below one of them, by their full names."""
    bases = getattr(_made_by(kind), "__mro__", ())
    return any(f"{one.__module__}.{one.__qualname__}" in names for one in bases)


def _may_answer(kind: Any) -> bool:
    return not descends(kind, _ANSWERS_NOTHING)


def _name(kind: Any, dispatch: Any) -> str:
    """A function of `@app.middleware("http")` by its own name, for all of those are of one class."""
    name = str(getattr(kind, "__name__", type(kind).__name__))
    return str(getattr(dispatch, "__name__", name)) if name == "BaseHTTPMiddleware" else name
