"""Which function a name means: of what is kept of a call, nothing else says which one made it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from types import CellType
from typing import Any, NamedTuple


class _Named(NamedTuple):
    function: Any
    loaded: object
    """The loading of its module, which is another one when that is loaded anew."""


_NAMED: dict[tuple[str, str], _Named] = {}


def taken(dependency: str, name: str, function: Callable[..., Any]) -> bool:
    """Whether this name means another function of the dependency; if not, it means this one from now on."""
    inside: Any = inspect.unwrap(function)
    one = _Named(inside, getattr(inside, "__globals__", {}).get("__spec__"))
    before = _NAMED.setdefault((dependency, name), one)
    if _another(before, one):
        return True
    _NAMED[dependency, name] = one
    return False


def forget() -> None:
    """No name means anything; for tests."""
    _NAMED.clear()


def _another(before: _Named, one: _Named) -> bool:
    if getattr(before.function, "__code__", None) is getattr(one.function, "__code__", None):
        return [*map(id, _held(before.function))] != [*map(id, _held(one.function))]
    return (
        one.loaded is not None and before.loaded is one.loaded
    )  # a script says nothing: it may be a notebook


def _held(function: Any) -> Iterator[object]:
    """What a function of this code has for itself."""
    yield from map(_content, getattr(function, "__closure__", None) or ())
    yield from getattr(function, "__defaults__", None) or ()
    yield from (getattr(function, "__kwdefaults__", None) or {}).values()


def _content(cell: CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # it has none yet
        return cell
