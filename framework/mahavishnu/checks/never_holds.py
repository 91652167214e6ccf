"""MV219: a limit of bodies or of time that holds for no route, for another one always takes its place."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import Facts, Routes, error, warning
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code
from mahavishnu.policies.body import Body
from mahavishnu.policies.timeout import Timeout
from mahavishnu.policy import CallMatch, Limit, Match

CODE = Code(
    "MV219",
    "a body or timeout limit that never holds",
    "A request has one deadline and one largest body: of several limits the one that names it most exactly. Of two "
    "that name the same requests one never holds, and its alert never fires; nor does a general one beside one for "
    "`/*`, which is more exact. One that observes may stand beside an enforced one, and is counted.",
    "limits: {long: {timeout: 5s, match: {path: /x}}, short: {timeout: 1s, match: {path: /x}}}",
    "Remove one of them, give it another `match`, or write `mode: observe` where a number is only tried.",
)
_EVERYTHING = CallMatch()


def check(facts: Facts) -> Iterator[Problem]:
    """Every such limit against the others of its kind."""
    known = facts.spec.limits.items()
    limits = [one for one in known if isinstance(one[1], Body | Timeout) and one[1].mode != "off"]
    for place, (name, limit) in enumerate(limits):
        path = ("limits", name, limit.keyword)
        if twins := [other for other, one in limits[:place] if _alike(one, limit)]:
            what = f"of `{twins[0]}` and `{name}`, which are for the very same requests, only one can hold"
            yield error(CODE, path, what, f"remove one of them, or give it another `match`{_or_try(limit)}")
            continue
        nearer = {other: _match(one) for other, one in limits if _goes_before(one, limit)}
        if by := _in_its_place(_match(limit), nearer, facts.routes or ()):
            said = " or ".join(f"`{other}`" for other in by)
            what = f"`{name}` holds for no route: {said}, which is more exact, always takes its place"
            yield warning(CODE, path, what, f"remove it, or narrow the `match` of {said}")


def _alike(other: Limit, limit: Limit) -> bool:
    said = [(one.keyword, one.mode, _match(one)) for one in (other, limit)]
    return said[0] == said[1]


def _goes_before(other: Limit, limit: Limit) -> bool:
    """Wherever both apply; one that observes takes the place of its like alone."""
    rival = other.keyword == limit.keyword and other.mode in ("enforce", limit.mode)
    return rival and other.exactness > limit.exactness


def _match(limit: Limit) -> Match:
    return limit.match or _EVERYTHING


def _or_try(limit: Limit) -> str:
    return "; a number that is only tried has `mode: observe`" if limit.mode == "enforce" else ""


def _in_its_place(match: Match, nearer: dict[str, Match], routes: Routes) -> list[str]:
    """Those that leave it no request; none where some may be left for it, on a route that is yet to come."""
    if match.path is None:
        all_routes = {name: one for name, one in nearer.items() if one.path == "/*"}
        return [name for name, one in all_routes.items() if one.meets("/", match.method or "")]
    known = [methods for template, methods in routes if template == match.path]
    asked = {one for methods in known for one in methods or ("",) if match.meets(match.path, one)}
    beside = [name for name, one in nearer.items() if any(one.meets(match.path, each) for each in asked)]
    left = {each for each in asked if not any(nearer[name].meets(match.path, each) for name in beside)}
    return [] if left else beside
