"""A function that a dependency guards."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import PurePath
from typing import Any

from mahavishnu.runtime import operation_names
from mahavishnu.runtime.calls.call import Terms
from mahavishnu.runtime.dead_letters.codec import CallCodec


class _Nobody:
    """Not even the service of a process that has none, whose dependencies have nothing."""

    breaker = timeout = gates = None


NOBODY = _Nobody()


class Operation:
    """A function that a dependency guards, with what was registered for it.

    `again` makes its letters again; `key` names a call; `known` is what its short way keeps of the service it saw.
    """

    def __init__(
        self,
        dependency: str,
        function: Callable[..., Any],
        terms: Terms,
        key: Callable[..., str] | None = None,
    ) -> None:
        self.dependency = dependency
        self.function = function
        self.terms = terms
        self.key = key
        self.name: str = called(function)
        self.twin = operation_names.taken(dependency, self.name, function)
        """Its name means another function already: nothing that is kept by it is ever its own."""
        self.again: Callable[..., Any] | None = None
        self.known: tuple[Any, ...] = (NOBODY,)
        self.own = None
        self._codec: CallCodec | None = None

    @property
    def own(self) -> Callable[..., Any] | None:
        """What stands in for it instead of what the spec says."""
        return self._own

    @own.setter
    def own(self, function: Callable[..., Any] | None) -> None:
        self._own = function
        self.known = (NOBODY, *self.known[1:])

    @property
    def codec(self) -> CallCodec:
        """Writes and reads its arguments; raises TypeError where that can never be."""
        if self._codec is None:
            codec = CallCodec(self.function)
            if self.name.endswith("<lambda>"):
                raise TypeError(f"`{self.name}` is kept by its name, and no lambda has one: use `def`")
            if self.twin:
                what = f"another function is called `{self.name}`, which is all that is kept of either"
                raise TypeError(f"{what}: give each a name of its own, and what it holds as arguments")
            self._codec = codec
        return self._codec


def called(function: Callable[..., Any]) -> str:
    """A function by its module and name: another module may have one of the same name."""
    module = getattr(function, "__module__", None)
    if module in ("__main__", "__mp_main__"):
        module = _imported() or module
    name: str = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{module}.{name}" if module else name


def _imported() -> str:
    """What others import the script of this process as: its letters may be theirs to make again."""
    script = sys.modules["__main__"]
    spec: ModuleSpec | None = getattr(script, "__spec__", None)  # of `python -m`
    return spec.name if spec else PurePath(getattr(script, "__file__", None) or "").stem
