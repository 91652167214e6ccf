"""The compiled route table: the route of a request, as the app's own router would decide it, found once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

from starlette._utils import get_route_path  # pyright: ignore[reportPrivateUsage]  the router's own reading
from starlette.convertors import FloatConvertor, PathConvertor, StringConvertor, UUIDConvertor
from starlette.routing import PARAM_REGEX, Match, compile_path

from mahavishnu.protocols import Scope
from mahavishnu.runtime.routing.hand_on import Found, Handed, facts, included_with_only, plant
from mahavishnu.runtime.routing.routes import can_be_asked, is_mount, resolved_routes, with_routes
from mahavishnu.runtime.routing.shapes import Shape, Shapes

_NONE, _FULL = Match.NONE, Match.FULL

# Routes whose `matches` looks at nothing but the type, path, root path and method of a scope, by their patterns.
_PLAIN = frozenset((
    ("starlette.routing", "Route.matches"),
    ("starlette.routing", "WebSocketRoute.matches"),
    ("fastapi.routing", "APIRoute.matches"),
    ("fastapi.routing", "APIWebSocketRoute.matches"),
    ("fastapi.routing", "_EffectiveRouteContext.matches"),
))  # fmt: skip
_STARLETTES = ("starlette.routing", "Route.matches")
_MOUNT = ("starlette.routing", "Mount.matches")
_WITH_METHODS = frozenset(one for one in _PLAIN if "WebSocket" not in one[1])

# The patterns of convertors that stay within one segment of a path. Any other may go on to its end.
_WITHIN = frozenset((
    "[^/]+",
    "[0-9]+",
    r"[0-9]+(\.[0-9]+)?",
    "[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}",
))  # fmt: skip
_NOTHING = (None, "")
_UNFAILING = (StringConvertor, PathConvertor, FloatConvertor, UUIDConvertor)
_ANY = "\0"


class RouteTable:
    """The routes of an app, below whatever middleware; routes that are added later are seen.

    The table only narrows down whom to ask, in the router's order; the verdict is each route's own `matches`.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self.find: Callable[[Scope], Found | None] = self._first
        """The route the router will choose for a request or websocket; None when it has none for it.

        Put its second half into the scope under `HANDED` to spare the router the search.
        """

    def _first(self, scope: Scope) -> Found | None:
        owner = with_routes(self._app)
        if owner is None:
            return None
        self.find = _Level(owner, owner, "", ()).find
        return self.find(scope)


class _Entry:
    """A route that requests are handed to.

    `place`: its turn; `top`, `at`: what stands in the router's list, and where; `route`: the route itself, not the
    same where FastAPI has included a router; `handed`: what the router is handed; `asked`: whose verdict counts.
    `sure`: the verdict holds for all requests of the same path, method and type; `waits`: it cannot fail, and
    methods it does not have can be left for later; `below`: the routes of a mounted app; `pattern`: its verdict on
    a path without its own `matches`, where all that this does is known. Even that is not needed where the path is
    `fixed`, or its last word the `only` parameter.
    """  # fmt: skip

    __slots__ = (
        "asked",
        "at",
        "below",
        "fixed",
        "handed",
        "only",
        "opaque",
        "pattern",
        "place",
        "route",
        "sure",
        "template",
        "top",
        "waits",
    )

    def __init__(self, place: int, leaf: _Leaf, prefix: str, above: tuple[Any, ...]) -> None:
        self.place = place
        self.at, self.top, self.route, self.handed = leaf
        kind = _kind(self.route)
        self.sure = kind in _PLAIN or kind == _MOUNT
        # A route of an included router with a `matches` of its own: FastAPI's record knows how to ask it.
        self.asked = self.handed if hasattr(self.route, "original_route") and not self.sure else self.route
        self.waits = kind in _WITH_METHODS and hasattr(self.route, "methods") and _never_fails(self.route)
        self.template = prefix + str(getattr(self.route, "path", ""))
        self.opaque = self.template + "/*"
        self.below: _Level | None = None
        if kind not in _PLAIN and (is_mount(self.route) or resolved_routes(self.route)):
            self.below = _below(self.route, self.template, above)
            if self.below is None:
                self.template = self.opaque
        self.pattern = _pattern(self.route) if kind == _STARLETTES and self.waits else None
        self.fixed = self.pattern is not None and not self.route.param_convertors
        self.only = None if self.pattern is None else _only(self.route)

    def shape(self) -> Shape | None:
        """What a path must look like for this route to match; None when that is not known."""
        if not self.sure:
            return None
        path: Any = getattr(self.route, "path", None)
        regex: Any = getattr(self.route, "path_regex", None)
        if not isinstance(path, str) or not isinstance(regex, re.Pattern):
            return None
        return _shape(path + "/{path:path}" if _kind(self.route) == _MOUNT else path, regex)


class _Level:
    """The routes of one router, and those of the routers mounted in it.

    `of` is asked for the routes; `owner` has them; `prefix` comes before their templates; `above` are the owners
    that these are mounted in.
    """

    def __init__(self, of: Any, owner: Any, prefix: str, above: tuple[Any, ...]) -> None:
        self._of = of
        self._owner = owner
        self._prefix = prefix
        self._above = (*above, owner)
        self._sets_root = any(one.__module__ == "fastapi.applications" for one in type(owner).__mro__)
        self._router = getattr(owner, "router", owner)
        self._planted = False
        self._known: Sequence[Any] = []
        self._editions: list[tuple[Any, int]] = []
        self._shapes = Shapes[_Entry](())
        self._exact: dict[str, _Entry | None] = {}
        self._below: dict[str, tuple[_Entry, str]] = {}

    def find(self, scope: Scope) -> Found | None:
        """The route for a scope that has come this far."""
        router = self._router
        routes = router.routes if self._planted else _listed(self._of)
        if routes != self._known or (self._editions and self._outdated()):
            self._compile(routes)
        if self._sets_root and self._owner.root_path:
            scope = {**scope, "root_path": self._owner.root_path}
        root = scope.get("root_path")
        path = get_route_path(scope) if root else scope["path"]
        if self._planted and scope["type"] == "http":
            # Nearly all requests: the words of the path say all there is to say.
            if path in self._exact:
                entry, params = self._exact[path], {}
            else:
                head, slash, word = path.rpartition("/")
                entry, name = self._below.get(head, _NOTHING)
                params = {name: word}
                # `*` is asked for without a slash; `$` at the end of a route's pattern lets one line break pass.
                if not word or not slash or word[-1] == "\n":
                    entry = None
            if entry is not None and routes[entry.at] is entry.top:
                route, method = entry.route, scope["method"]
                methods = route.methods
                if (not methods or method in methods) and "path_params" not in scope:
                    child: Scope = {"endpoint": route.endpoint, "path_params": params}
                    seen = scope["path"], "http", method, root or ""  # its `facts`
                    return entry.template, (router, entry.handed, child, seen, None)
        entries = self._shapes.static.get(path) or self._shapes.narrow(path)
        return self._asked(entries, scope, path, routes) if entries else None

    def _asked(
        self, entries: Sequence[_Entry], scope: Scope, path: str, routes: Sequence[Any]
    ) -> Found | None:
        """The verdict of those that come into question."""
        verdict = _verdict(entries, scope, path)
        if verdict is None:
            return None
        entry, child, sure = verdict
        if routes[entry.at] is not entry.top:  # equal to what stood there, but not the same
            self._compile(routes)
            return self.find(scope)
        template, below = entry.template, None
        if entry.below is not None:
            template, below = entry.below.find({**scope, **child}) or (entry.opaque, None)
        if not (sure and self._planted):
            return template, None
        handed: Handed = (self._router, entry.handed, child, facts(scope), below)
        return template, handed

    def _outdated(self) -> bool:
        return any(one._routes_version != version for one, version in self._editions)  # noqa: SLF001 - FastAPI tells nobody else

    def _compile(self, routes: Sequence[Any]) -> None:
        self._known = list(routes)
        self._editions = [
            (one, one._routes_version)  # noqa: SLF001 - as above
            for route in routes
            for one in _routers_in(route)
        ]
        leaves = [
            leaf for at, route in enumerate(routes) if can_be_asked(route) for leaf in _leaves(at, route)
        ]
        entries = [_Entry(place, leaf, self._prefix, self._above) for place, leaf in enumerate(leaves)]
        shaped = [(entry.shape(), entry) for entry in entries]
        self._shapes = Shapes(shaped)
        self._exact = {
            path: one if (one := those[0]).fixed else None for path, those in self._shapes.static.items()
        }
        self._below = {
            "/".join(cast("Sequence[str]", shape.words[:-1])): (entry, entry.only)
            for shape, entry in reversed(shaped)
            if shape is not None and entry.only and self._shapes.sure(shape, entry)
        }
        its_own = type(routes) is list and getattr(self._router, "routes", None) is routes
        self._planted = its_own and plant(self._router, _FULL)


_Verdict = tuple[_Entry, Scope, bool]  # whom to hand it to, what that adds to the scope, and if it is sure


def _verdict(entries: Sequence[_Entry], scope: Scope, path: str) -> _Verdict | None:
    """The first that matches in full, else the first that lacks only the method."""
    method = scope.get("method")
    plain = scope["type"] == "http" and "path_params" not in scope
    waiting = False
    partial: tuple[_Entry, Scope] | None = None
    sure = True
    for entry in entries:
        if entry.waits:
            methods = entry.asked.methods
            if methods and method not in methods:  # at best partial: let us first see who has it
                waiting = True
                continue
        if plain and entry.pattern is not None:
            matched = entry.pattern(path)
            if matched is None:
                continue
            return entry, {"endpoint": entry.route.endpoint, "path_params": matched.groupdict()}, sure
        sure = sure and entry.sure
        try:
            match, child = entry.asked.matches(scope)
        except Exception:  # noqa: BLE001  a convertor fails, and will again in the router: the request ends there
            return entry, {}, False
        if match is _FULL:
            return entry, child, sure
        if match is not _NONE and partial is None:
            partial = entry, child
    if waiting:
        partial = _first_partial(entries, scope, partial)
    return (*partial, sure) if partial is not None else None


def _first_partial(
    entries: Sequence[_Entry], scope: Scope, known: tuple[_Entry, Scope] | None
) -> tuple[_Entry, Scope] | None:
    """Of those that had to wait, and the one that is known already, the first that lacks only the method."""
    for entry in entries:
        if known is not None and entry is known[0]:
            break
        if entry.waits:
            match, child = entry.asked.matches(scope)
            if match is not _NONE:
                return entry, child
    return known


def _listed(app: Any) -> list[Any]:
    routes: Any = resolved_routes(app)
    return routes if type(routes) is list else list(routes)  # pyright: ignore[reportUnknownVariableType]  of any app


_Leaf = tuple[int, Any, Any, Any]  # at, top, route, handed: see _Entry


def _leaves(at: int, route: Any) -> Iterator[_Leaf]:
    """A route itself; in place of FastAPI's `include_router`, all that it includes."""
    if not _includes(route):
        yield at, route, route, route
        return
    for candidate in route.effective_candidates():
        one = getattr(candidate, "starlette_route", None) or candidate
        for _, _, leaf, handed in _leaves(at, one):
            yield at, route, leaf, included_with_only(route, candidate if one is not candidate else handed)


def _routers_in(route: Any) -> Iterator[Any]:
    """The routers that FastAPI has included, and those included in them: each counts its changes."""
    if _includes(route):
        yield route.original_router
        for one in route.original_router.routes:
            yield from _routers_in(one)


def _includes(route: Any) -> bool:
    router = getattr(route, "original_router", None)
    return (
        (type(route).__module__, type(route).__qualname__) == ("fastapi.routing", "_IncludedRouter")
        and _kind(router) == ("fastapi.routing", "APIRouter.matches")
        and isinstance(getattr(router, "_routes_version", None), int)
    )


def _kind(route: Any) -> tuple[str, str]:
    """Where the `matches` of a route comes from; no known place when it is its own or stands for another's."""
    kind: Any = route.__class__
    matches: Any = getattr(kind, "matches", None)
    # Not asked of its __dict__: CPython 3.11 would give it a real one, and all its attributes become slower.
    if getattr(getattr(route, "matches", None), "__func__", None) is not matches:
        return "", ""
    inner = getattr(route, "original_route", None)
    if inner is not None and _kind(inner) != ("fastapi.routing", "APIRoute.matches"):
        return "", ""
    return getattr(matches, "__module__", ""), getattr(matches, "__qualname__", "")


def _below(route: Any, prefix: str, above: tuple[Any, ...]) -> _Level | None:
    """The level of a mounted app; none for an app that is mounted within itself."""
    owner = with_routes(getattr(route, "app", None))
    if owner is not None and any(one is owner for one in above):
        return None
    return _Level(route, owner if owner is not None else route, prefix, above)


_Pattern = Callable[[str], "re.Match[str] | None"]


def _pattern(route: Any) -> _Pattern | None:
    """The pattern of a route, if its `matches` does no more with it than we do, seen with a probe."""
    convertors: Any = getattr(route, "param_convertors", None)
    path: Any = getattr(route, "path", None)
    regex: Any = getattr(route, "path_regex", None)
    if not isinstance(path, str) or not isinstance(regex, re.Pattern):
        return None
    if not all(type(one) in (StringConvertor, PathConvertor) for one in convertors.values()):
        return None
    probe = PARAM_REGEX.sub("a", path)
    match: _Pattern = cast("Any", regex).match
    matched = match(probe)
    method = next(iter(route.methods or ()), "GET")
    said = route.matches({"type": "http", "method": method, "path": probe, "root_path": "", "headers": []})
    if matched is None or said != (
        _FULL,
        {"endpoint": route.endpoint, "path_params": matched.groupdict()},
    ):
        return None
    return match


def _only(route: Any) -> str | None:
    """The name of a route's only parameter, if that is the whole last word of its paths."""
    name = next(iter(route.param_convertors), "")
    word = route.path.rpartition("/")[2]
    alone = len(route.param_convertors) == 1 and type(route.param_convertors[name]) is StringConvertor
    return name if alone and word in (f"{{{name}}}", f"{{{name}:str}}") else None


def _never_fails(route: Any) -> bool:
    """Whether all that its pattern lets through can be converted; a number of 5,000 digits cannot."""
    convertors: Any = getattr(route, "param_convertors", None)
    return type(convertors) is dict and all(type(one) in _UNFAILING for one in convertors.values())  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]  of any app


def _shape(path: str, regex: Any) -> Shape | None:
    """The shape of the paths that a template matches, if the pattern is what Starlette makes of it."""
    try:
        made, _, convertors = compile_path(path)
    except (AssertionError, ValueError):
        return None
    if not path.startswith("/") or (regex.pattern, regex.flags) != (made.pattern, made.flags):
        return None
    if not all(_stands_alone(one.regex) for one in convertors.values()):
        return None
    text, end = "", 0
    for parameter in PARAM_REGEX.finditer(path):
        text += path[end : parameter.start()]
        if convertors[parameter[1]].regex not in _WITHIN:
            return _open(text)
        text += _ANY
        end = parameter.end()
    return Shape(_words(text + path[end:]), open=False)


def _open(text: str) -> Shape:
    """Everything that begins like this; of the last segment one knows but that it is there."""
    return Shape((*_words(text)[:-1], None), open=True)


def _words(text: str) -> tuple[str | None, ...]:
    return tuple(None if _ANY in word else word for word in text.split("/"))


def _stands_alone(pattern: str) -> bool:
    """Whether what stands around a convertor's pattern keeps its meaning: its own brackets are balanced."""
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True
