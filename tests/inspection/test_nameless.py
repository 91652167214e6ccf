"""It is seen whom an app can name before its requests are counted, and silent where nobody can know."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.authentication import AuthenticationBackend
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.httpsredirect import HTTPSRedirectMiddleware
from starlette.routing import Mount

from mahavishnu.asgi import Hardening
from mahavishnu.inspection.nameless import nameless_in

ALL = ("user", "api_key", "session")
KEYS = ("api_key", "session")


class Tenants:
    """One of which nobody knows whom it names."""

    def __init__(self, app: Any, **settings: object) -> None:
        self.app = app


class Mine(Hardening):
    """One with something of its own."""


class Own(Starlette):
    """An app that looks at its requests before its middlewares do."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        scope["user"] = "somebody"
        await super().__call__(scope, receive, send)


class Renamed(FastAPI):
    """An app that does nothing of its own."""


def hook(scope: Any) -> None:
    """Names nobody, today."""


def hooked(app: Any) -> Hardening:
    """A function that makes one."""
    return Hardening(app, identify=hook)


def added(*middlewares: Any, app: Any = None, **settings: object) -> Any:
    """An app to which these were added, the last one with these settings."""
    app = Starlette() if app is None else app
    for one in middlewares[:-1]:
        app.add_middleware(one)
    app.add_middleware(middlewares[-1], **settings)
    return app


def restacked() -> Any:
    """An app that puts something around its middlewares."""
    app = added(Hardening)
    stack = app.build_middleware_stack
    app.build_middleware_stack = lambda: Tenants(stack())
    return app


@pytest.fixture(autouse=True)
def _looking(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a process that looks at an app: none reads its spec."""
    monkeypatch.setenv("MAHAVISHNU_DISABLE", "1")


@pytest.mark.parametrize(
    ("make", "nameless"),
    [
        (lambda: added(Hardening), ALL),
        (lambda: added(Hardening, app=FastAPI()), ALL),
        (lambda: added(Hardening, app=Renamed()), ALL),
        (lambda: Hardening(FastAPI()), ALL),
        (
            lambda: added(
                functools.partial(Hardening, spec="other.yaml"), HTTPSRedirectMiddleware, CORSMiddleware
            ),
            ALL,
        ),
        (lambda: GZipMiddleware(Hardening(FastAPI())), ALL),
        (lambda: added(AuthenticationMiddleware, Tenants, Hardening), ALL),
        (lambda: added(Hardening, AuthenticationMiddleware), KEYS),
        (lambda: AuthenticationMiddleware(Hardening(FastAPI()), backend=AuthenticationBackend()), KEYS),
        (lambda: added(Hardening, Tenants, CORSMiddleware), KEYS),
        (lambda: Tenants(added(Hardening)), KEYS),
        (lambda: added(Hardening, identify=hook), ()),
        (lambda: added(functools.partial(Hardening, identify=hook)), ()),
        (lambda: Starlette(middleware=[Middleware(Hardening, identify=hook)]), ()),
        (lambda: Hardening(FastAPI(), identify=hook), ()),
        (lambda: added(Mine), ()),
        (lambda: Mine(FastAPI()), ()),
        (lambda: added(hooked), ()),
        (lambda: added(Hardening, app=Own()), ()),
        (restacked, ()),
        (Starlette, ()),
        (lambda: Starlette(routes=[Mount("/api", added(Hardening))]), ()),
        (lambda: functools.partial(Hardening(FastAPI())), ()),
    ],
)
def test_whom_nobody_can_name(make: Callable[[], Any], nameless: tuple[str, ...]) -> None:
    """A hook may name anybody, what is outside a user; what is inside comes too late."""
    assert tuple(nameless_in(make())) == nameless
