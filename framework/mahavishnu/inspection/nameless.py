"""Whom nothing in an app can name before `Hardening` counts a request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

from mahavishnu.asgi import Hardening
from mahavishnu.runtime.routing.layers import layers_of, listed, place_of

_NAME_NOBODY = frozenset(
    {
        "starlette.middleware.cors.CORSMiddleware",
        "starlette.middleware.gzip.GZipMiddleware",
        "starlette.middleware.httpsredirect.HTTPSRedirectMiddleware",
        "starlette.middleware.sessions.SessionMiddleware",
        "starlette.middleware.trustedhost.TrustedHostMiddleware",
        "fastmcp.server.http.RequestContextMiddleware",
    }
)
"""Middlewares that leave `scope["user"]` alone; of every other one nobody can know that."""
_OURS = frozenset({"fastapi", "starlette"})


class _Stand(NamedTuple):
    """The class of a Hardening, its hook, and the classes of what stands outside of it."""

    kind: Any
    hook: object
    outside: Sequence[Any]


def nameless_in(app: Any) -> Sequence[str]:
    """Those of `user`, `api_key` and `session` that nobody ever is; none where that cannot be known."""
    stand = _stand(app)
    if stand is None:
        return ()
    kind, hook, outside = stand
    if kind is not Hardening or hook is not None:
        return ()
    users = () if all(_full_name(one) in _NAME_NOBODY for one in outside) else ("user",)
    return tuple(one for one in ("user", "api_key", "session") if one not in users)


def _stand(app: Any) -> _Stand | None:
    """The outermost one around the app, or added to it."""
    layers = [*layers_of(app)]
    for depth, one in enumerate(layers):
        if isinstance(one, Hardening):
            return _Stand(_class(one), one.identify, [*map(_class, layers[:depth])])
    *around, last = layers
    place = place_of(Hardening, listed(last))
    if place is None or not _plain(last):
        return None
    *before, added = listed(last)[: place + 1]
    hook = {**getattr(added.cls, "keywords", {}), **added.kwargs}.get("identify")
    return _Stand(
        getattr(added.cls, "func", added.cls), hook, [*map(_class, around), *(one.cls for one in before)]
    )


def _plain(app: Any) -> bool:
    """Whether an app calls its middlewares as Starlette's does, and does nothing of its own before."""
    kind = _class(app)
    own: Any = cast("dict[str, Any]", vars(app)).get("build_middleware_stack")
    calls: tuple[Any, ...] = (kind.__call__, own or kind.build_middleware_stack)
    return all(one.__module__.partition(".")[0] in _OURS for one in calls)


def _class(one: Any) -> Any:
    return cast("Any", type)(one)


def _full_name(kind: Any) -> str:
    return f"{getattr(kind, '__module__', '')}.{getattr(kind, '__qualname__', '')}"
