"""Every `Hardening` that stands in an app, with the spec that it brings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mahavishnu.asgi import Hardening
from mahavishnu.ground import variables
from mahavishnu.runtime.routing.layers import layers_of, listed, place_of
from mahavishnu.runtime.routing.routes import mounted, resolved_routes
from mahavishnu.spec import Spec


class Hardened(NamedTuple):
    """One at a path, `inside` of another one or not; `spec` is what the code names, empty where it is this one."""

    path: str
    spec: str
    inside: bool


def hardened_in(app: Any, path: str = "", *, inside: bool = False) -> Iterator[Hardened]:
    """Those around an app and added to it, from the outermost inwards, then those of what is mounted in it."""
    layers = [*layers_of(app)]
    last = layers[-1] if layers else None
    made = [one.source for one in layers if isinstance(one, Hardening)]
    added = [_source(one) for one in listed(last) if place_of(Hardening, [one]) is not None]
    for source in (*made, *added):
        yield Hardened(path or "/", _named(source), inside)
        inside = True
    for place, one in mounted(resolved_routes(last), path):
        yield from hardened_in(one, place, inside=inside)


def _source(middleware: Any) -> Any:
    """The spec with which it will be made."""
    given = {**getattr(middleware.cls, "keywords", {}), **middleware.kwargs}
    return given.get("spec", next(iter(middleware.args), None))


def _named(source: Spec | Path | str | None) -> str:
    """A file that is not the spec of this look at the app; of one that was made in the code nobody knows."""
    if source is None or isinstance(source, Spec) or str(Path(source).resolve()) == variables.spec_file():
        return ""
    return str(source)
