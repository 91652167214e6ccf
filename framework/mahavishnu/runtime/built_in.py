"""What the middleware answers itself, before the app is asked: series, health, readiness, and who is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from starlette.responses import PlainTextResponse, Response

from mahavishnu.protocols import Scope
from mahavishnu.runtime.limits.fields import STRICT
from mahavishnu.runtime.requests.identity import Identity
from mahavishnu.runtime.requests.ops import Ops
from mahavishnu.runtime.service import Service

Answer = Callable[[Scope], Response]
_VIA = frozenset((b"forwarded", b"via", b"x-real-ip"))


def answers(service: Service, identity: Identity) -> Mapping[str, Answer]:
    """What answers a GET or HEAD, by path."""
    spec = service.spec
    found: dict[str, Answer] = {
        spec.observability.metrics.path: partial(_metrics, service),
        **PROBES,
        "/readyz": partial(_ready, service),
    }
    if service.ops is not None and spec.ops is not None:
        found[f"{spec.ops.path.rstrip('/')}/refused"] = partial(_refused, service.ops, identity)
    if spec.security.headers == "strict":
        return {path: partial(_strictly, one) for path, one in found.items()}
    return found


def _strictly(answer: Answer, scope: Scope) -> Response:
    response = answer(scope)
    response.raw_headers.extend(STRICT)
    return response


def _metrics(service: Service, scope: Scope) -> Response:
    """The series, for whoever reaches the service directly; nobody who comes through a proxy."""
    if _handed_on(scope):
        return PlainTextResponse("not found\n", 404)
    accept: bytes = dict(scope["headers"]).get(b"accept", b"")
    body, content_type = service.metrics.expose(accept.decode("latin-1"))
    return Response(body, headers={"content-type": content_type})


def _refused(ops: Ops, identity: Identity, scope: Scope) -> Response:
    """Who is refused, for operators who reach the service directly."""
    if _handed_on(scope):
        return PlainTextResponse("not found\n", 404)
    authorization = dict(scope["headers"]).get(b"authorization", b"")
    answer = ops.refused(identity.address(scope), authorization, scope.get("query_string", b""))
    response = Response(answer.body, answer.status)
    response.raw_headers = answer.headers
    return response


def _health(_: Scope) -> Response:
    return PlainTextResponse("ok\n")


def _ready(service: Service, scope: Scope) -> Response:
    return PlainTextResponse("draining\n", 503) if service.draining else _serves(scope)


def _serves(_: Scope) -> Response:
    return PlainTextResponse("ready\n")


PROBES: Mapping[str, Answer] = {"/healthz": _health, "/readyz": _serves}
"""What a cluster's probes are told, also where everything is turned off: to kill the process would help nobody."""


def _handed_on(scope: Scope) -> bool:
    """Whether a request came through a proxy."""
    return any(name in _VIA or name.startswith(b"x-forwarded-") for name, _ in scope["headers"])
