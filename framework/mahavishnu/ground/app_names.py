"""Which tools and dependencies the code of an app names."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")

MOST = 10_000
"""So many names of a kind are remembered: code may make one of its own for each tenant."""


class Naming:
    """What code has named so far, for whoever looks at an app and for whoever changes its spec.

    `plain` are the tools that plain functions are called as, each with the function's name. While somebody looks
    (`asked`), a tool that no limit matches is only noted: whoever asks tells of all of them at once.
    """

    __slots__ = ("asked", "dependencies", "plain", "tools")

    def __init__(self) -> None:
        self.asked = False
        self.tools: set[str] = set()
        self.dependencies: set[str] = set()
        self.plain: set[tuple[str, str]] = set()

    def forget(self) -> None:
        """Nothing is named; for tests."""
        for names in (self.tools, self.dependencies, self.plain):
            names.clear()


NAMED = Naming()
"""Of this process."""


def remember(known: set[T], one: T) -> None:
    """Add it, unless there are too many already."""
    if len(known) < MOST:
        known.add(one)
