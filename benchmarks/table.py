"""The bound's route table: one look into a dict for routes without or with one parameter at the end."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, cast

from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

_WAY = "benchmarks.way"


class Way:
    """One route: what is known of it before a request comes, and the cells of its requests."""

    __slots__ = ("cells", "endpoint", "param", "path", "route")

    def __init__(self, route: Route, path: str) -> None:
        self.route = route
        self.path = path
        self.endpoint = route.endpoint
        self.param = next(iter(route.param_convertors), None)
        self.cells: dict[tuple[str, int], Any] = {}


class Table:
    """The routes of an app by what comes before their parameter; what it finds, the router need not look for."""

    def __init__(self, app: Starlette) -> None:
        self._exact: dict[str, Way] = {}
        self._below: dict[str, Way] = {}
        self._router = app.router
        self._otherwise: Any = app.router.middleware_stack
        app.router.middleware_stack = cast("Any", self._hand_on)
        for route in app.routes:
            if not isinstance(route, Route):
                raise TypeError(f"{route} is beyond the bound")
            head, brace, _ = route.path.partition("/{")
            (self._below if brace else self._exact)[head] = Way(route, route.path)

    def find(self, scope: Scope) -> Way | None:
        """The route of a request, which is noted in the scope; None when there is none."""
        path = scope["path"]
        way = self._exact.get(path)
        if way is None:
            head, _, tail = path.rpartition("/")
            way = self._below.get(head)
            if way is None or not tail:
                return None
            scope["path_params"] = {way.param: tail}
        else:
            scope["path_params"] = {}
        scope[_WAY] = way
        return way

    def _hand_on(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        way: Way | None = scope.pop(_WAY, None)
        if way is None:
            rest: Awaitable[None] = self._otherwise(scope, receive, send)
            return rest
        scope["router"] = self._router
        scope["route"] = way.route
        scope["endpoint"] = way.endpoint
        return way.route.handle(scope, receive, send)


class Handing:
    """An app whose routes are found by the table, and nothing else: what layers are measured on top of."""

    def __init__(self, app: Starlette) -> None:
        self._app = app
        self._table = Table(app)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        self._table.find(scope)
        return self._app(scope, receive, send)
