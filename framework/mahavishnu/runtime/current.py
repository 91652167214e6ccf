"""The one service that this process hardens: what the middleware starts and dependencies find."""

from __future__ import annotations

import threading

from mahavishnu.errors import MahavishnuError
from mahavishnu.runtime.service import Service

_lock = threading.Lock()
_services: list[Service] = []


def use(service: Service) -> None:
    """Make a service the process's own; raises MahavishnuError when another spec is at work already."""
    with _lock:
        if _services and _services[0].contract.hash != service.contract.hash:
            raise MahavishnuError(
                "two different specs in one process: "
                f"{_services[0].spec.service.name} is at work, {service.spec.service.name} was to start; "
                "mount one spec, or start two processes"
            )
        _services[:] = [service]


def current() -> Service | None:
    """The service at work, if one has started."""
    return _services[0] if _services else None


def forget() -> None:
    """Start anew; for tests."""
    _services.clear()
