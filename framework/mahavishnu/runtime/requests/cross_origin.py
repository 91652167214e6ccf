"""CORS: which pages of other origins may call the service; what it answers by itself, no objective is about."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from mahavishnu.protocols import Decision
from mahavishnu.runtime.context import current_request
from mahavishnu.runtime.limits.admission import Admission
from mahavishnu.series import METHODS
from mahavishnu.spec import Cors

_EXPOSED = ["Mahavishnu-Degraded", "RateLimit", "RateLimit-Policy", "Retry-After", "X-Request-ID"]
_ANSWERED = Decision(True)


class _CrossOrigin(CORSMiddleware):
    """Anybody can ask as often as he likes what he may: it meets no limit, so it must hide no failure of others."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """The answer to a preflight, for which the app is not asked."""
        request = current_request()
        if isinstance(request, Admission):
            request.aside = _ANSWERED
        return super().preflight_response(request_headers)


def cross_origin(app: ASGIApp, cors: Cors) -> ASGIApp:
    """The app below what answers preflights, and says in each answer who may read it."""
    return _CrossOrigin(
        app,
        allow_origins=cors.origins,
        allow_methods=[method for method in METHODS if method != "_OTHER"],
        allow_headers=["*"],
        allow_credentials=cors.credentials,
        expose_headers=[*_EXPOSED, *cors.expose],
    )
