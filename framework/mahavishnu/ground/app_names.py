"""Which tools and dependencies the code of an app names while somebody looks at it."""

from __future__ import annotations


class Naming:
    """What is named when an app is imported, as long as it is `asked` for; otherwise nothing is remembered.

    Then a tool that no limit matches is only noted: whoever asks tells of all of them at once.
    """

    __slots__ = ("asked", "dependencies", "tools")

    def __init__(self) -> None:
        self.asked = False
        self.tools: set[str] = set()
        self.dependencies: set[str] = set()


NAMED = Naming()
"""Of this process."""
