"""Random sites to route in, the same for the same seed, whose handlers tell all that they see; and requests."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import PARAM_REGEX, BaseRoute, Host, Match, Mount, Route, Router, WebSocketRoute
from starlette.websockets import WebSocket

WORDS = ("a", "b", "items", "1", "2.5", "%41", "é", "A", "a.json", ";x", "..", "a b")
METHODS: tuple[str, ...] = ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH")
VALUES = {
    "str": ("a", "x", "1", "é", "items", "%41"),
    "int": ("1", "0", "007", "9" * 5000),
    "float": ("2.5", "1", "9" * 5000),
    "uuid": ("6f1c2f4e-0f6b-4b0a-9a5e-2f0e4a1b2c3d", "6F1C2F4E0F6B4B0A9A5E2F0E4A1B2C3D"),
    "path": ("", "a", "a/b", "/", "a//b", "..", "x\ny"),
    "even": ("2", "44", "3"),
    "several": ("a", "a/b", "a/b/c/"),
    "maybe": ("", "a", "items"),
    "unbalanced": ("a", "x/b", "b"),
}


class Even(Convertor[int]):
    """Of numbers, it takes only the even ones, and fails at others."""

    regex = "[0-9]+"

    def convert(self, value: str) -> int:
        if int(value) % 2:
            raise ValueError(value)
        return int(value)

    def to_string(self, value: int) -> str:
        return str(value)


class Several(Convertor[str]):
    """One or more segments."""

    regex = "[a-z0-9/]+"

    def convert(self, value: str) -> str:
        return value.upper()

    def to_string(self, value: str) -> str:
        return value.lower()


class Maybe(Several):
    """A segment, or nothing."""

    regex = "(?:[a-z]*)"


class Unbalanced(Several):
    """No pattern of its own: it closes a bracket that Starlette has opened, and opens another."""

    regex = "a)|(.*b"


register_url_convertor("even", Even())
register_url_convertor("several", Several())
register_url_convertor("maybe", Maybe())
register_url_convertor("unbalanced", Unbalanced())


class Picky(Route):
    """A route that asks more than its pattern: a header."""

    def matches(self, scope: Any) -> tuple[Match, Any]:
        """Only for those that send `x-picky`."""
        if not any(name == b"x-picky" for name, _ in scope["headers"]):
            return Match.NONE, {}
        return super().matches(scope)


class Site:
    """A random app. `templates` says by each handler's name what its path is in the whole app."""

    def __init__(self, seed: object) -> None:
        self._chance = random.Random(str(seed))
        self.templates: dict[str, str] = {}
        self._params = 0
        self._paths: dict[str, list[str]] = {}
        self._asked: list[tuple[str, str, Sequence[str]]] = []
        self.app: Any = self._chance.choice([self._starlette, self._starlette, self._fastapi, self._router])(
            "", 0
        )

    def _starlette(self, prefix: str, depth: int) -> Any:
        return Starlette(routes=self._routes(prefix, depth))

    def _router(self, prefix: str, depth: int) -> Any:
        slashes = self._chance.random() < 0.8
        default = self._opaque(prefix) if depth and self._chance.random() < 0.2 else None
        return Router(self._routes(prefix, depth), redirect_slashes=slashes, default=default)

    def _fastapi(self, prefix: str, depth: int) -> Any:
        more: dict[str, Any] = {"docs_url": None, "redoc_url": None, "openapi_url": None}
        app = FastAPI(redirect_slashes=self._chance.random() < 0.8, **more)
        self._fill(app.router, prefix, depth)
        return app

    def _fill(self, router: APIRouter, prefix: str, depth: int) -> None:
        for _ in range(self._chance.choice((2, 4, 8))):
            kind = self._chance.random()
            if kind < 0.25 and depth < 3:
                inner, inside = APIRouter(), self._chance.choice(("", self._new_path().rstrip("/")))
                self._fill(inner, prefix + inside, depth + 1)
                if inside or all(getattr(one, "path", "") for one in inner.routes):
                    router.include_router(inner, prefix=inside)
            elif kind < 0.35:
                self._mounted(router.routes, prefix, depth)
            elif kind < 0.45:
                path = self._path(prefix)
                router.add_api_websocket_route(path, self._socket(prefix + path, api=True))
            elif kind < 0.55:
                router.routes.append(self._plain(prefix))
            else:
                path = self._path(prefix)
                methods = self._chance.sample(METHODS, self._chance.choice((1, 1, 2)))
                router.add_api_route(path, self._handler(prefix + path, methods), methods=methods)

    def _routes(self, prefix: str, depth: int) -> list[BaseRoute]:
        routes: list[BaseRoute] = []
        for _ in range(self._chance.choice((0, 2, 4, 8, 8))):
            kind = self._chance.random()
            if kind < 0.2 and depth < 3:
                self._mounted(routes, prefix, depth)
            elif kind < 0.25 and depth < 3:
                host = self._chance.choice(("one.example", "{sub}.example", "two.example"))
                routes.append(Host(host, app=self._app(prefix, depth + 1)))
            elif kind < 0.35:
                path = self._path(prefix)
                routes.append(WebSocketRoute(path, self._socket(prefix + path)))
            elif kind < 0.4:
                path = self._path(prefix)
                routes.append(Picky(path, self._handler(prefix + path, None)))
            else:
                routes.append(self._plain(prefix))
        return routes

    def _plain(self, prefix: str) -> Route:
        path = self._path(prefix)
        methods = self._chance.choice((None, None, ["POST"], ["PUT", "GET"], ["HEAD"], ["OPTIONS"], []))
        return Route(path, self._handler(prefix + path, methods), methods=methods)

    def _mounted(self, routes: list[BaseRoute], prefix: str, depth: int) -> None:
        path = self._chance.choice(
            ("", "/a", "/items", "/{tenant}", "/{n:even}", "/a/b", self._new_path().rstrip("/"))
        )
        if "{path" in path:
            return
        app = (
            self._opaque(prefix + path)
            if self._chance.random() < 0.2
            else self._app(prefix + path, depth + 1)
        )
        around = [Middleware(GZipMiddleware)] if self._chance.random() < 0.2 else None
        routes.append(Mount(path, app=app, middleware=around))

    def _app(self, prefix: str, depth: int) -> Any:
        return self._chance.choice([self._starlette, self._router, self._fastapi])(prefix, depth)

    def _path(self, prefix: str) -> str:
        """A path like none before, or one that another route under the same prefix has."""
        known = self._paths.setdefault(prefix, [])
        if known and self._chance.random() < 0.3:
            return self._chance.choice(known)
        known.append(self._new_path())
        return known[-1]

    def _new_path(self) -> str:
        chance = self._chance
        parts: list[str] = []
        for _ in range(chance.choice((0, 1, 1, 2, 2, 3))):
            self._params += 1
            name = f"p{self._params}"
            odd = (
                f"{{{name}:int}}", f"{{{name}:path}}", f"{{{name}:float}}", f"{{{name}:uuid}}", f"{{{name}:even}}",
                f"{{{name}:several}}", f"{{{name}:maybe}}", f"v{{{name}}}", f"{{{name}}}.json",
                f"{{{name}:int}}-{{q{name}}}", f"x{{{name}:path}}y", f"{{{name}:unbalanced}}",
            )  # fmt: skip
            draw = chance.random()
            parts.append(
                chance.choice(WORDS) if draw < 0.5 else f"{{{name}}}" if draw < 0.75 else chance.choice(odd)
            )
        return "/" + "/".join(parts) + chance.choice(("", "", "", "/"))

    def _named(self, template: str, methods: Sequence[str] = METHODS, kind: str = "http") -> str:
        name = f"handler{len(self.templates)}"
        self.templates[name] = template
        self._asked.append((template, kind, methods))
        return name

    def _handler(self, template: str, methods: Sequence[str] | None) -> Callable[[Request], Any]:
        name = self._named(template, methods or METHODS)

        async def handler(request: Request) -> Response:
            return JSONResponse(seen(request, name), headers={"x-handler": name})

        handler.__name__ = name
        return handler

    def _socket(self, template: str, *, api: bool = False) -> Callable[[WebSocket], Any]:
        name = self._named(template, kind="websocket")

        async def socket(websocket: WebSocket) -> None:
            await websocket.accept(headers=[(b"x-handler", name.encode())])
            await websocket.send_json(seen(websocket, name))
            await websocket.close()

        socket.__name__ = name
        return socket

    def _opaque(self, prefix: str) -> Any:
        name = self._named(prefix + "/*")

        async def opaque(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                inside = seen(HTTPConnection(scope), name)
                await JSONResponse(inside, headers={"x-handler": name})(scope, receive, send)
            else:
                await PlainTextResponse("")(scope, receive, send)

        return opaque

    def request(self) -> dict[str, Any]:
        """A request to one of the routes, or nearly, or to nowhere, as changes to a scope."""
        chance = self._chance
        template, kind, methods = chance.choice(
            [*self._asked, ("/", "http", METHODS), ("/nowhere", "http", METHODS)]
        )
        path = self._spelled(template)
        root = chance.choice(("", "", "", "", "", "/proxy", "/a", path))
        host = chance.choice(("one.example", "two.example:80", "x.example", "a/b", ""))
        other = chance.random() < 0.2
        return {
            "type": chance.choice(("http", "websocket")) if other else kind,
            "method": chance.choice((*METHODS, "get", "BREW"))
            if other or not methods
            else chance.choice(methods),
            "path": chance.choice(("", root)) + path,
            "root_path": root,
            "headers": {"host": host} | ({"x-picky": "1"} if chance.random() < 0.3 else {}),
        }

    def _spelled(self, template: str) -> str:
        chance = self._chance
        path = template.replace("/*", "/" + chance.choice(("", "a", "a/b")))
        path = PARAM_REGEX.sub(lambda found: self._value((found[2] or ":str")[1:]), path)
        if chance.random() < 0.2:
            parts = path.split("/")
            parts[chance.randrange(len(parts))] = chance.choice((*WORDS, "x", "", "\n", "v1", "9" * 5000))
            path = "/".join(parts)
        if chance.random() < 0.05:
            path = chance.choice(("*", path.lstrip("/")))
        return path + chance.choice(("",) * 12 + ("/", "\n", "//"))

    def _value(self, convertor: str) -> str:
        if self._chance.random() < 0.1:
            return self._chance.choice((*WORDS, "3", "", "\n", "9" * 5000))
        return self._chance.choice(VALUES[convertor])


def seen(connection: HTTPConnection, name: str) -> dict[str, Any]:
    """What a handler sees of its request: every key of the scope, and what routing has put there."""
    scope = connection.scope
    return {
        "name": name,
        "keys": sorted(key for key, value in scope.items() if (key, value) != ("fastapi", {})),
        "params": repr(sorted(scope.get("path_params", {}).items())),
        "paths": [scope["path"], scope["root_path"], scope.get("app_root_path")],
        "route": _told(scope.get("route")),
        "router": [_told(one) for one in scope["router"].routes] if "router" in scope else None,
        "endpoint": getattr(scope.get("endpoint"), "__name__", type(scope.get("endpoint")).__name__),
        "app": type(scope.get("app")).__name__,
        "fastapi": sorted(scope.get("fastapi", {})),
        "url": str(connection.url) if scope.get("headers") else None,
    }


def _told(route: Any) -> str:
    return f"{type(route).__name__} {getattr(route, 'path', '')} {getattr(route, 'name', '')}"
