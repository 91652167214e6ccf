"""Where a CORSMiddleware of the app's own stands in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mahavishnu.runtime.routing.layers import descends, layers_of, listed
from mahavishnu.runtime.routing.routes import mounted, resolved_routes

_ITS_NAME = frozenset({"starlette.middleware.cors.CORSMiddleware"})


def cors_in(app: Any, outside: int = 0, path: str = "") -> Iterator[str]:
    """The paths at which one stands, `/` where it is for the whole app; so many of the listed ones are not asked."""
    layers = [*layers_of(app)]
    last = layers[-1] if layers else None
    kinds = [*map(type, layers), *(one.cls for one in listed(last)[outside:])]
    if any(descends(kind, _ITS_NAME) for kind in kinds):
        yield path or "/"
    else:
        for place, one in mounted(resolved_routes(last), path):
            yield from cors_in(one, path=place)
