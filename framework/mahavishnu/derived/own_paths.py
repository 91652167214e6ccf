"""The paths that the service answers itself, before the app is asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from mahavishnu.errors import Path
from mahavishnu.spec import Spec

_ANSWERED = frozenset({"GET", "HEAD"})
_MOVE = "let the app answer at another path, if anybody asks for what it says there"


class OwnPath(NamedTuple):
    """A path, where the spec says it, what is answered there, which `takes` (or take) it, and how to give it back."""

    path: str
    place: Path
    word: str
    takes: str
    help: str


_HEALTH = tuple(
    OwnPath(path, ("service", "app"), "a health check", "takes", _MOVE) for path in ("/healthz", "/readyz")
)


def own_paths(spec: Spec) -> Iterator[OwnPath]:
    """Every one of them."""
    yield from _HEALTH
    place = ("observability", "metrics", "path")
    help = "take another path in `observability.metrics.path`"
    yield OwnPath(spec.observability.metrics.path, place, "the series", "take", help)
    if spec.ops is not None:
        page, help = f"{spec.ops.path.rstrip('/')}/refused", "take another path in `ops.path`"
        yield OwnPath(page, ("ops", "path"), "the refused clients", "take", help)


def taken(spec: Spec, routes: Iterable[tuple[str, frozenset[str] | None]]) -> tuple[OwnPath, ...]:
    """Those at which the app has a route that is never reached; one for whatever comes, as a mount at `/`, is none."""
    reached = (path for path, methods in routes if methods is None or methods & _ANSWERED)
    lost = {path.removesuffix("/*") for path in reached}  # of mounts, too
    return tuple(one for one in own_paths(spec) if one.path in lost)
