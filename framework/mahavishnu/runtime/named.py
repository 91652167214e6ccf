"""Named tuples in a hurry: by their fields in their order, in a third of the time that naming them takes."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar, cast

T = TypeVar("T")


class Make(Protocol):
    """Makes the named tuple of a class with these fields: all of them, for defaults are not looked at."""

    def __call__(self, kind: type[T], fields: tuple[object, ...], /) -> T: ...


made = cast("Make", cast("Any", tuple).__new__)
