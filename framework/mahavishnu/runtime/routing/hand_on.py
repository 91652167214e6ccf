"""A route that was found outside is handed on to the router inside, which then need not look for it again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache
from operator import itemgetter
from types import FunctionType, SimpleNamespace
from typing import Any

from mahavishnu.protocols import Scope
from mahavishnu.runtime.routing import rewritten

HANDED = "mahavishnu.route"
"""The key of a scope under which a route travels. A middleware of ours always sets it, to None if there is nothing to
hand on, so that another one inside of it can tell that it is inside."""

_Receive = Callable[[], Awaitable[Any]]
_Send = Callable[[Any], Awaitable[None]]
_App = Callable[[Scope, _Receive, _Send], Awaitable[None]]

STARLETTES = ("starlette.routing", "Router.app")
FASTAPIS = ("fastapi.routing", "APIRouter.app")


_facts = itemgetter("path", "type", "method", "root_path")


Handed = tuple[Any, Any, Scope, tuple[object, ...], "Handed | None"]
"""Which router is to hand a request to which of its routes; what that adds to the scope; for which request this holds,
as `facts` has it; and what is handed on to the router of a mounted app. No named tuple, for the sake of time: each
request has one, and it takes five times as long to make and four times as long to take apart."""
Found = tuple[str, Handed | None]
"""The route of a request: its path as the app has written it, mounts included, nothing of which comes from the client;
and what to hand on, None where only the router itself can tell."""


def facts(scope: Scope) -> tuple[object, ...]:
    """All that Starlette's routes look at, and that their answer depends on; not so Host, which is never handed on."""
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
    door = getattr(inside, "__self__", None)
    if isinstance(door, Door):
        return door.router is router
    kind: Any = router.__class__
    own: Any = getattr(kind, "app", None)
    known = (getattr(own, "__module__", ""), getattr(own, "__qualname__", ""))
    if known not in {STARLETTES, FASTAPIS} or inside != router.app or inside.__func__ is not own:
        return False
    router.middleware_stack = Door(
        router, inside, own, known == STARLETTES and _does_as_we_do(own, full)
    ).open
    return True


class Door:
    """Stands before a router's own code: goes straight to the route that was found, else lets the router look."""

    __slots__ = ("_code", "_direct", "_own", "router")

    def __init__(self, router: Any, own: _App, code: Callable[..., Awaitable[None]], direct: bool) -> None:
        self.router = router
        self._own = own
        self._code = code
        self._direct = direct

    def open(self, scope: Scope, receive: _Receive, send: _Send) -> Awaitable[None]:
        """Serve a request; a method, for to call the object itself takes half as long again."""
        handed: Handed | None = scope.get(HANDED)
        if handed is None:
            rewritten.told(scope)
            return self._own(scope, receive, send)
        scope[HANDED] = None
        router, route, child, seen, below = handed
        # Whether this router would find the same: middleware may have rewritten the scope.
        if router is not self.router or seen != facts(scope):
            rewritten.told(scope)
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
    if not _itself(code, *STARLETTES):
        return False
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
    handed: Handed = (router, route, child, facts(asked), None)
    for begin in (
        lambda: code(router, {**asked, HANDED: None}, None, None),
        lambda: door.open({**asked, HANDED: handed}, _never, _nobody),
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


def _itself(code: Callable[..., Any], *place: str) -> bool:
    """Whether this is the very function of that name, and none that was put around it, which goes by the same name.

    A function whose code was exchanged in place is taken for itself.
    """
    return isinstance(code, FunctionType) and place == (
        code.__globals__.get("__name__"),
        code.__code__.co_qualname,
    )


async def _never() -> Any:
    """Nothing is received by a probe."""


async def _nobody(_: Any) -> None:
    """Nothing is sent by a probe."""
