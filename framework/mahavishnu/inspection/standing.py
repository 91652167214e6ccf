"""Where `Hardening` stands in an app that has been imported, and what stands outside of it."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any, NamedTuple

from mahavishnu.asgi import MADE, Hardening
from mahavishnu.inspection.cors import cors_in
from mahavishnu.runtime.routing.layers import layers_of, listed, names_of, names_of_listed, place_of
from mahavishnu.runtime.routing.routes import is_mount, resolved_routes


class Standing(NamedTuple):
    """Where it is: `around` the app, only in what is `mounted` in it, `aside` around something else, or `nowhere`.

    `outside` are the middlewares that requests meet before it, `mounts` the paths at which it is mounted, `cors` those
    at which a CORSMiddleware stands inside of it; where it is not seen, inside of the app.
    """

    where: str
    outside: Sequence[str] = ()
    mounts: Sequence[str] = ()
    cors: Sequence[str] = ()


def standing_of(app: Any) -> Standing:
    """Where it stands; of an app that hides what is in it, one that was made stands in it."""
    layers = [*layers_of(app)]
    for depth, one in enumerate(layers):
        if isinstance(one, Hardening):
            return Standing("around", names_of(layers[:depth]), cors=[*cors_in(one.app)])
    *around, last = layers
    middlewares = listed(last)
    place = place_of(Hardening, middlewares)
    if place is None:
        place = next((at for at, one in enumerate(middlewares) if _makes_one(one, last)), None)
    if place is not None:
        found = [*names_of(around), *names_of_listed(middlewares[:place])]
        return Standing("around", found, cors=[*cors_in(last, place + 1)])
    if mounts := [*_mounts(resolved_routes(last), "")]:
        return Standing("mounted", mounts=mounts)
    return _unseen(layers)


def _makes_one(middleware: Any, app: Any) -> bool:
    """Whether a function that makes a middleware makes one of these, as it will when the server starts."""
    before = {*MADE}
    made = None
    with suppress(Exception):  # without what it needs from its surroundings nobody can know
        made = middleware.cls(app, *middleware.args, **middleware.kwargs)
    return made is not None and bool({*MADE} - before)


def _mounts(routes: Sequence[Any], prefix: str) -> Iterator[str]:
    """The paths of mounted apps that have one."""
    for route in filter(is_mount, routes):
        path = f"{prefix}{getattr(route, 'path', '')}"
        if standing_of(route.app).where == "around":
            yield path or "/"
        else:
            yield from _mounts(resolved_routes(route), path)


def _unseen(layers: Sequence[Any]) -> Standing:
    """Where no layer is one of these, and the last one says nothing of what is in it."""
    gc.collect()
    made = [*MADE]
    inside = {id(layer) for one in made for layer in layers_of(one.app)}
    if not made:
        return Standing("nowhere", cors=[*cors_in(layers[0])])
    if hasattr(layers[-1], "user_middleware") or any(id(one) in inside for one in layers):
        return Standing("aside", cors=[*cors_in(layers[0])])
    return Standing("around", names_of(layers), cors=[*chain(*(cors_in(one.app) for one in made))])
