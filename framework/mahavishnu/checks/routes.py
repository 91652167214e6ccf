"""MV404: a match that no route of the app satisfies."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import Facts, Routes, error
from mahavishnu.errors import Path, Problem
from mahavishnu.ground.codes import Code
from mahavishnu.ground.words import meant
from mahavishnu.policies.concurrency import Concurrency
from mahavishnu.policy import CallMatch, Match

CODE = Code(
    "MV404",
    "a match that no route satisfies",
    "A limit on a route that does not exist limits nothing, and an SLO over it has no requests to judge.",
    "limits: {login: {rate: 5/minute, match: {path: /signin}}}",
    "Write the path as the app's router does, with its parameters in braces; `*` stands for anything.",
)
_UNKNOWN = "the app has no routes that anybody could know, as Starlette's have; leave `match` out"


def check(facts: Facts) -> Iterator[Problem]:
    """Every match of a limit, of its ranks or of an SLO, when the app's routes are known."""
    if facts.routes is None:
        return
    methods = dict[str | None, list[frozenset[str] | None]]()
    for template, some in facts.routes:
        methods.setdefault(template, []).append(some)
    for path, match in _matches(facts):
        if any(_method_fits(match, some) for some in methods.get(match.path, ())):
            continue
        if not any(_satisfies(match, template, some) for template, some in facts.routes):
            yield _finding(path, match, facts.routes)


def _matches(facts: Facts) -> Iterator[tuple[Path, Match]]:
    for section, entries in (("limits", facts.spec.limits), ("slos", facts.spec.slos)):
        for name, entry in entries.items():
            if entry.match is not None and not _of_a_tool(entry.match):
                yield (section, name, "match"), entry.match
            if isinstance(entry, Concurrency):
                yield from (((section, name, "critical", at), one) for at, one in enumerate(entry.critical))
                yield from (((section, name, "sheddable", at), one) for at, one in enumerate(entry.sheddable))


def _of_a_tool(match: Match) -> bool:
    """Then it is for no request, on whatever route."""
    return isinstance(match, CallMatch) and match.tool is not None


def _satisfies(match: Match, template: str, methods: frozenset[str] | None) -> bool:
    return match.fits(template) and _method_fits(match, methods)


def _method_fits(match: Match, methods: frozenset[str] | None) -> bool:
    return match.method is None or methods is None or match.method in methods


def _advice(path: str, templates: list[str]) -> str:
    """Which routes were probably meant: those below the path, those of a router that has a prefix, or a near one."""
    below = f"{path.rstrip('/')}/*"
    if any(Match(path=below).fits(each) for each in templates):
        return f"`{below}` stands for everything below it"
    literal = path.partition("*")[0]
    whole = {
        each[: each.index(literal)] + path for each in templates if literal.strip("/") and literal in each
    }
    if len(whole) == 1:
        return f"did you mean `{whole.pop()}`? the prefix of a router is a part of the path"
    return meant(path, templates) or _UNKNOWN


def _finding(path: Path, match: Match, routes: Routes) -> Problem:
    fitting = [methods for template, methods in routes if match.fits(template)]
    if match.path is not None and not fitting:
        help = _advice(match.path, sorted({template for template, _ in routes}))
        return error(CODE, (*path, "path"), f"no route of the app is `{match.path}`", help)
    allowed = sorted({method for methods in fitting for method in methods or ()})
    subject = f"`{match.path}`" if match.path else "any route"
    what = f"the app answers no {match.method} on {subject}"
    return error(CODE, (*path, "method"), what, f"it answers {', '.join(allowed)}" if allowed else "")
