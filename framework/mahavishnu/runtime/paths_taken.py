"""The log says which routes of the app are never reached, for their paths are answered before it is asked."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from mahavishnu.derived.own_paths import OwnPath, taken
from mahavishnu.runtime.routing.routes import routes_of
from mahavishnu.runtime.service import Service


def tell_of_paths(service: Service, app: Any) -> None:
    """Of an app that has started: `check` does not see the routes that it adds only then."""
    if lost := _lost(service, app):
        help = "; ".join(dict.fromkeys(one.help for one in lost))
        service.log.warning("paths taken", names=[one.path for one in lost], help=help)


def _lost(service: Service, app: Any) -> Sequence[OwnPath]:
    # Of any app, even of one that is mounted within itself: no warning is worth a start.
    with suppress(Exception):
        return taken(service.spec, routes_of(app))
    return ()
