"""MV413: tools that the spec and the code name differently."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import App, Facts, error, warning
from mahavishnu.errors import Path, Problem
from mahavishnu.ground.codes import Code
from mahavishnu.ground.words import nearest
from mahavishnu.policy import CallMatch

CODE = Code(
    "MV413",
    "a tool that the spec or the code does not name",
    "A limit of a tool holds where the code says `limit(tool=…)`: for one that no code names it refuses nothing, and "
    "its alerts never fire. A tool that no limit matches stops the app when it is imported. What a name is around "
    "cannot be seen: `@limit` above `@mcp.tool` limits nothing, for what that registers is the function below.",
    'limits: {search: {rate: 5/minute, match: {tool: serach}}} beside `@limit(tool="search")`',
    "Write the same name on both sides. What is only called later, as `async with limit(tool=…)` within a function, is "
    'not seen: let the module make it once, `search = limit(tool="search")`, and use that.',
)
_LATER = "one that only a function makes is not seen: let the module make it, `search = limit(tool=…)`"
_Places = dict[Path, CallMatch]


def check(facts: Facts) -> Iterator[Problem]:
    """Each tool of the code against the limits, then each limit against the tools."""
    if facts.app is None:
        return
    every = {("limits", name, "match", "tool"): one.match for name, one in facts.spec.limits.items()}
    places: _Places = {path: one for path, one in every.items() if one is not None and one.tool is not None}
    missed = {tool: _place(tool, places) for tool in facts.app.tools if not _matched(tool, places)}
    for tool, path in missed.items():
        help = f"did you mean `{tool}`?" if path in places else "add a limit with `match: {tool: …}`"
        yield error(CODE, path, f"no limit matches the tool `{tool}`, so the app cannot start", help)
    for path, match in places.items():
        off = facts.spec.limits[str(path[1])].mode == "off"
        if not off and path not in missed.values() and not any(map(match.calls, facts.app.tools)):
            yield _idle(path, match.tool, facts.app)


def _matched(tool: str, places: _Places) -> bool:
    return any(match.calls(tool) for match in places.values())


def _place(tool: str, places: _Places) -> Path:
    """Where the limit was probably meant to be for this tool."""
    near = nearest(tool, [match.tool or "" for match in places.values()])
    return next((path for path, match in places.items() if match.tool == near), ("limits",))


def _idle(path: Path, pattern: str | None, app: App) -> Problem:
    near = nearest(pattern, app.tools)
    what = f"when the app is imported no `limit(tool=…)` names `{pattern}`, so nothing may ever be refused"
    return warning(CODE, path, what, f"did you mean `{near}`? {_LATER}" if near else _LATER)
