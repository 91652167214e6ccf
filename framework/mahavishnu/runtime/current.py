"""The one service that this process hardens: what the middleware starts and dependencies find."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from mahavishnu.errors import MahavishnuError
from mahavishnu.ground.app_names import NAMED
from mahavishnu.runtime import guarded_functions, operation_names
from mahavishnu.spec import Spec, spec_hash

if TYPE_CHECKING:
    from mahavishnu.runtime.service import Service

_lock = threading.Lock()


class _AtWork:
    """Where the service at work is found."""

    __slots__ = ("parents", "service")

    def __init__(self) -> None:
        self.service: Service | None = None
        self.parents: Service | None = None
        """Of a fork: the one that was its parent's. Never let go of: what it has open is not ours to close."""


AT_WORK = _AtWork()
"""For whoever looks often. All others ask `current`."""
_specs: list[Spec] = []


def expect(spec: Spec) -> None:
    """Make a spec the process's own; raises MahavishnuError when it has another one already."""
    with _lock:
        if _specs and (before := spec_hash(_specs[0])) != (now := spec_hash(spec)):
            raise MahavishnuError(
                f"two different specs in one process: {_specs[0].service.name} (hash {before}) is at work, "
                f"{spec.service.name} (hash {now}) was to start; mount one spec, or start two processes"
            )
        _specs[:] = [spec]


def use(service: Service) -> Service | None:
    """Make a service the process's own, in the place of the one that it returns; raises MahavishnuError when another
    spec is at work already."""
    expect(service.spec)
    before, AT_WORK.service = AT_WORK.service, service
    return before


def give_back(service: Service, before: Service | None) -> None:
    """Let the one before a service be the process's own again, unless a third one is by now."""
    if AT_WORK.service is service:
        AT_WORK.service = before


def succeed(service: Service) -> None:
    """Put the service of a changed spec in the place of the one at work: what a reload does."""
    with _lock:
        _specs[:] = [service.spec]
    AT_WORK.service = service


def current() -> Service | None:
    """The service at work, if one has started."""
    return AT_WORK.service


def inherited() -> Service | None:
    """In a fork, the service that its parent had: the same spec holds, but what that has counted is not its own."""
    return AT_WORK.parents


def forget() -> None:
    """Start anew; for tests."""
    AT_WORK.service = AT_WORK.parents = None
    _specs.clear()
    operation_names.forget()
    guarded_functions.forget()
    NAMED.forget()


def _leave_to_parent() -> None:
    """A fork is a process of its own, which starts its own service with its first guarded call.

    Not where a middleware has yet to begin: a server may import the app before it forks its workers.
    """
    service = AT_WORK.service
    if service is not None and (service.process_state.begun or not service.process_state.hardens):
        AT_WORK.service, AT_WORK.parents = None, service


os.register_at_fork(after_in_child=_leave_to_parent)
