"""A route that was found outside is handed on to the router inside, which then need not look for it again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache
from operator import itemgetter
from types import SimpleNamespace
from typing import Any, NamedTuple

from mahavishnu.policy import Scope

HANDED = "mahavishnu.route"  # the key of a scope under which a Found travels

_Receive = Callable[[], Awaitable[Any]]
_Send = Callable[[Any], Awaitable[None]]
_App = Callable[[Scope, _Receive, _Send], Awaitable[None]]

STARLETTES = ("starlette.routing", "Router.app")
FASTAPIS = ("fastapi.routing", "APIRouter.app")


_facts = itemgetter("path", "type", "method", "root_path")
USUAL = 4


class Found(NamedTuple):
    """The route of a request.

    `template` is its path as the app has written it, mounts included; nothing of it comes from the client.
    `route` is what the router is to hand the request to, None where only the router itself can tell; `child` is
    what that adds to the scope. The rest says for which request this holds, and what is handed on to the router of
    a mounted app `below`.
    """

    template: str
    router: Any
    route: Any
    child: Scope
    facts: tuple[object, ...]
    below: Found | None = None


def facts(scope: Scope) -> tuple[object, ...]:
    """All that Starlette's routes look at, and that their answer depends on; not so Host, which is never handed on.

    `USUAL` of them, where nobody has looked for a route before.
    """
    try:
        seen: tuple[object, ...] = _facts(scope)
    except KeyError:
        seen = scope["path"], scope["type"], scope.get("method"), scope.get("root_path") or ""
    if "path_params" in scope or "app_root_path" in scope:
        return *seen, scope.get("path_params"), scope.get("app_root_path")
    return seen


def plant(router: Any, full: object) -> bool:
    """Let a router take what is handed on to it; False where it is not one whose own code is known.

    `full` is what a route's `matches` says to a request that is its own. Planting twice is planting once.
    """
    inside: Any = getattr(router, "middleware_stack", None)
    if isinstance(inside, Door):
        return inside.router is router
    kind: Any = router.__class__
    own: Any = getattr(kind, "app", None)
    known = (getattr(own, "__module__", ""), getattr(own, "__qualname__", ""))
    if known not in {STARLETTES, FASTAPIS} or inside != router.app or inside.__func__ is not own:
        return False
    router.middleware_stack = Door(router, inside, own, known == STARLETTES and _does_as_we_do(own, full))
    return True


class Door:
    """Stands before a router's own code: goes straight to the route that was found, else lets the router look."""

    __slots__ = ("_code", "_direct", "_own", "router")

    def __init__(self, router: Any, own: _App, code: Callable[..., Awaitable[None]], direct: bool) -> None:
        self.router = router
        self._own = own
        self._code = code
        self._direct = direct

    def __call__(self, scope: Scope, receive: _Receive, send: _Send) -> Awaitable[None]:
        found: Found | None = scope.pop(HANDED, None)
        if found is None:
            return self._own(scope, receive, send)
        _, router, route, child, seen, below = found
        # Whether this router would find the same: middleware may have rewritten the scope.
        if router is not self.router or route is None or seen != facts(scope):
            return self._own(scope, receive, send)
        if below is not None:
            scope[HANDED] = below
        if "router" not in scope:
            scope["router"] = router
        if self._direct:
            scope["route"] = route
            scope.update(child)
            handled: Awaitable[None] = route.handle(scope, receive, send)
            return handled
        return self._code(_with_only(router, route), scope, receive, send)


def _with_only(router: Any, route: Any) -> Any:
    """The router as it is now, but with one route: its own code does the rest, whatever that is."""
    twin = _twin(router)
    twin.routes = [route]
    return twin


def included_with_only(included: Any, candidate: Any) -> Any:
    """FastAPI's record of an `include_router`, with one of the routes that it has resolved."""
    twin = _twin(included)
    twin.effective_candidates = lambda: [candidate]
    return twin


def _twin(one: Any) -> Any:
    kind: Any = one.__class__
    twin = object.__new__(kind)
    twin.__dict__.update(one.__dict__)
    return twin


@cache
def _does_as_we_do(code: Callable[..., Any], full: object) -> bool:
    """Whether the router's code leaves behind exactly the scope that a Door leaves, seen with a probe.

    Versions differ in what they note in a scope; one that notes something else does it itself.
    """
    seen: list[Scope] = []

    async def handle(scope: Scope, *_: object) -> None:
        seen.append(dict(scope))

    asked: Scope = {"type": "http", "method": "GET", "path": "/", "root_path": "", "headers": []}
    child: Scope = {"endpoint": handle, "path_params": {"a": "b"}}

    def matches(_: object) -> tuple[object, Scope]:
        return full, child

    route = SimpleNamespace(matches=matches, handle=handle)
    router = SimpleNamespace(routes=[route])
    door = Door(router, handle, code, direct=True)
    handed = Found("", router, route, child, facts(asked))
    for begin in (
        lambda: code(router, dict(asked), None, None),
        lambda: door({**asked, HANDED: handed}, _never, _nobody),
    ):
        run: Any = begin()
        try:
            run.send(None)
        except StopIteration:
            continue
        except Exception:  # noqa: BLE001  it wants more of a router than a probe has
            return False
        run.close()
    return len(seen) == 2 and seen[0] == seen[1]


async def _never() -> Any:
    """Nothing is received by a probe."""


async def _nobody(_: Any) -> None:
    """Nothing is sent by a probe."""
