"""A service whose spec is still to be written: it has every dependency, and a limit for every tool, that code names."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from io import StringIO
from types import SimpleNamespace
from typing import TypeVar

from mahavishnu.clock import process_clock
from mahavishnu.runtime.calls.dependency import DependencyGuard
from mahavishnu.runtime.current import use
from mahavishnu.runtime.routing.routes import declared, say
from mahavishnu.runtime.service import Service, start
from mahavishnu.spec import Dependency, Spec

V = TypeVar("V")


class Every(dict[str, V]):
    """Whatever is asked for is there, and remembered."""

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


class AnyTool:
    """A match of every tool, which remembers them."""

    def __init__(self) -> None:
        self.tools: set[str] = set()

    def calls(self, tool: str) -> bool:
        """Yes."""
        self.tools.add(tool)
        return True


def expect_anything() -> tuple[Every[Dependency], set[str]]:
    """Put such a service to work: the dependencies and the tools that will have been named."""
    spec = Spec.model_validate({"mahavishnu": 1, "service": {"name": "unwritten", "app": "unwritten:app"}})
    dependencies, match = Every[Dependency](lambda _: Dependency()), AnyTool()
    service = _started(spec)
    limits = {"tools": SimpleNamespace(match=match)}
    service.spec = spec.model_copy(update={"dependencies": dependencies, "limits": limits})
    service.dependencies = Every[DependencyGuard](partial(_guard, spec))
    use(service)
    return dependencies, match.tools


def _guard(spec: Spec, name: str) -> DependencyGuard:
    alone = spec.model_copy(update={"dependencies": {name: Dependency()}})
    return _started(alone).dependencies[name]


def _started(spec: Spec) -> Service:
    return start(spec, process_clock(), log_to=StringIO())


def seen(target: str) -> dict[str, object]:
    """The routes of the app that `module:attribute` names, and what it names, for JSON."""
    dependencies, tools = expect_anything()
    routes = declared(target)
    return {"routes": routes, "dependencies": [*dependencies], "tools": [*tools]}


if __name__ == "__main__":
    say(lambda: seen(sys.argv[1]))
