"""MV415: plain functions under a limit that must be awaited."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import Facts, error
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code
from mahavishnu.ground.words import listing

CODE = Code(
    "MV415",
    "a plain function whose limit must be awaited",
    "What a shared store decides is awaited, and a function that is not `async def` cannot wait: it does not start. "
    "A rate with `scope: process` is decided in the process, at once.",
    "store: redis://cache:6379, limits: {search: {rate: 5/minute, match: {tool: search}}}, and "
    '`@limit(tool="search")` above `def search(…)`',
    "Make the function `async def`, or write `scope: process` where each process may count alone.",
)


def check(facts: Facts) -> Iterator[Problem]:
    """Each limit of a tool that the shared store decides, with the plain functions that it is around."""
    plain = () if facts.app is None else facts.app.plain
    for name in facts.spec.limits:
        if found := [function for tool, function in plain if name in facts.spec.awaited(tool)]:
            what = (
                f"limit `{name}` is decided by the shared store, which must be awaited, and {listing(found)}"
            )
            are = "is a plain function" if len(found) == 1 else "are plain functions"
            yield error(CODE, ("limits", name, "match", "tool"), f"{what} {are}", CODE.help)
