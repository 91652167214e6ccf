"""A service whose spec is still to be written: it has every dependency that code names."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from io import StringIO
from typing import TypeVar

from mahavishnu.clock import process_clock
from mahavishnu.runtime.calls.dependency import DependencyGuard
from mahavishnu.runtime.current import use
from mahavishnu.runtime.service import Service, start
from mahavishnu.spec import Dependency, Spec

V = TypeVar("V")


class Every(dict[str, V]):
    """Whatever is asked for is there, and the same one when it is asked for again."""

    def __init__(self, make: Callable[[str], V]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, name: str) -> V:
        made = self[name] = self._make(name)
        return made

    def __contains__(self, name: object) -> bool:
        _ = self[str(name)]
        return True

    def get(self, name: str, default: object = None) -> V:  # noqa: ARG002 - as a dict has it
        return self[name]


def expect_anything() -> None:
    """Put such a service to work."""
    spec = Spec.model_validate({"mahavishnu": 1, "service": {"name": "unwritten", "app": "unwritten:app"}})
    service = _started(spec)
    service.spec = spec.model_copy(update={"dependencies": Every[Dependency](lambda _: Dependency())})
    service.dependencies = Every[DependencyGuard](partial(_guard, spec))
    use(service)


def _guard(spec: Spec, name: str) -> DependencyGuard:
    alone = spec.model_copy(update={"dependencies": {name: Dependency()}})
    return _started(alone).dependencies[name]


def _started(spec: Spec) -> Service:
    return start(spec, process_clock(), log_to=StringIO())
