"""The ASGI middleware: everything the spec says about a request, in one pass."""

from __future__ import annotations

import os
import re
import secrets
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, TextIO

from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp

from mahavishnu.clock import process_clock
from mahavishnu.load import Loaded, accept, find_spec
from mahavishnu.policy import Clock, Decision, Scope
from mahavishnu.runtime.context import DEADLINE, REQUEST_ID
from mahavishnu.runtime.current import use
from mahavishnu.runtime.engine import Admission, Plan
from mahavishnu.runtime.exchange import BodyTooLarge, Bounded, Exchange, Message, Receive, Send
from mahavishnu.runtime.fields import STRICT, Header, problem
from mahavishnu.runtime.identity import Identify, Identity, bucket
from mahavishnu.runtime.logs import Served
from mahavishnu.runtime.process import Usage, usage
from mahavishnu.runtime.rates import Caller
from mahavishnu.runtime.routes import resolve, router_of
from mahavishnu.runtime.service import method_label, start
from mahavishnu.runtime.watch import Watch
from mahavishnu.series import METHODS, UNMATCHED
from mahavishnu.spec import Spec

_KEY = "mahavishnu"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_VIA = frozenset((b"forwarded", b"via", b"x-real-ip"))
_EXPOSED = ["RateLimit", "RateLimit-Policy", "Retry-After", "X-Request-ID"]


class Passage(NamedTuple):
    """What the guarded part of a request needs to know."""

    exchange: Exchange
    plan: Plan
    caller: Caller
    method: str
    began: int


class Hardening:
    """Middleware for any ASGI app: limits, deadlines, metrics, health, headers and log, as the spec says.

    Args:
        app: the app inside.
        spec: the spec or its path; MAHAVISHNU_SPEC goes before a path, as what is deployed sets it. By default
            mahavishnu.yaml upwards from here.
        identify: names the verified user of a scope (None: nobody); by default what Starlette's
            AuthenticationMiddleware, mounted outside this one, has accepted.
        clock, process, log_to: time, the operating system's numbers and the log's stream, for tests.

    Raises:
        SpecError: the spec cannot be used; the findings say why.
    """

    def __init__(
        self,
        app: ASGIApp,
        spec: Spec | Path | str | None = None,
        *,
        identify: Identify | None = None,
        clock: Clock | None = None,
        process: Callable[[], Usage] = usage,
        log_to: TextIO | None = None,
    ) -> None:
        self.app = app
        self._disabled = os.environ.get("MAHAVISHNU_DISABLE") == "1"
        if self._disabled:
            return
        self.service = start(_loaded(spec), clock or process_clock(), process, log_to)
        use(self.service)
        loaded = self.service.spec
        self._identity = Identity(loaded.service.trusted_proxies, identify)
        self._ids = map(f"{secrets.token_hex(8)}-{{:x}}".format, count())
        self._headers = STRICT if loaded.security.headers == "strict" else ()
        self._routes: Sequence[Any] | None = None
        self._guarded = self._with_cors(self._guard)
        self._built_in: Mapping[str, Callable[[Scope], Response]] = {
            loaded.observability.metrics.path: self._metrics,
            "/healthz": self._health,
            "/readyz": self._ready,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._disabled:
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def drain(self) -> None:
        """Say `not ready` from now on, and close connections with their next response."""
        self.service.draining = True

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self._built_in.get(_path(scope)) if scope["method"] in ("GET", "HEAD") else None
        if answer is not None:
            await answer(scope)(scope, receive, send)
            return
        request_id = self._request_id(scope)
        passage = self._passage(scope, Exchange(send, lambda: self._added(request_id)))
        scope[_KEY] = passage
        token = REQUEST_ID.set(request_id)
        self.service.active += 1
        try:
            await self._guarded(scope, receive, passage.exchange.send)
        except BaseException as error:
            self._finish(scope, passage, error)
            raise
        else:
            self._finish(scope, passage, None)
        finally:
            self.service.active -= 1
            REQUEST_ID.reset(token)

    async def _guard(self, scope: Scope, receive: Receive, send: Send) -> None:
        passage: Passage = scope.pop(_KEY)
        admission = Admission()
        body = self._bounded(passage, receive)
        fault: Exception | None = None
        try:
            if body is None or not body.announced(scope["headers"]):
                await self._timed(passage, admission, scope, body or receive, send)
        except BodyTooLarge:
            pass
        except Exception as error:  # noqa: BLE001  raised again below, once the refusal it may come from is sent
            fault = error
        finally:
            self.service.engine.release(admission)
        if passage.exchange.pending is not None:
            await self._refuse(passage.exchange, passage.exchange.pending, admission, send)
        elif passage.plan.body and body and not body.over:
            self.service.engine.kept(passage.plan.body[0])
        if fault is not None:
            raise fault

    async def _refuse(self, exchange: Exchange, refusal: Decision, admission: Admission, send: Send) -> None:
        """Answer with the refusal; refused before the handler ran, or for the body, it has spent no quota."""
        if not admission.running or refusal.status == 413:
            await self.service.engine.give_back(admission)
            exchange.decisions = admission.decisions
        await exchange.refuse(refusal, send)

    async def _timed(
        self, passage: Passage, admission: Admission, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if passage.plan.timeout is None:
            await self._admitted(passage, admission, scope, receive, send)
            return
        watch = Watch(self.service, passage.plan.timeout, passage.began, passage.exchange)
        deadline = DEADLINE.set(watch.deadline)
        try:
            async with watch.cutoff:
                await self._admitted(passage, admission, scope, receive, send)
        except TimeoutError:
            if not watch.cutoff.expired:
                raise
        finally:
            DEADLINE.reset(deadline)
            if passage.exchange.pending is None:
                watch.ended()

    async def _admitted(
        self, passage: Passage, admission: Admission, scope: Scope, receive: Receive, send: Send
    ) -> None:
        await self.service.engine.admit(passage.plan, passage.caller, admission)
        passage.exchange.decisions = admission.decisions
        if admission.refused is not None:
            passage.exchange.pending = admission.refused
            return
        admission.running = True
        await self.app(scope, receive, send)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = resolve(self._router(), scope) or UNMATCHED
        caller = self._caller(scope, route)
        plan = self.service.engine.plan(route, "GET")
        admission = Admission()
        token = REQUEST_ID.set(self._request_id(scope))
        fault: dict[str, str] = {}
        try:
            await self.service.engine.admit(plan, caller, admission)
            if admission.refused is not None:
                await _refuse_websocket(scope, receive, send, admission.refused)
            else:
                await self.app(scope, receive, send)
        except BaseException as error:
            fault["error"] = type(error).__name__
            raise
        finally:
            self.service.engine.release(admission)
            self._log_websocket(route, caller, admission, fault)
            REQUEST_ID.reset(token)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._on_sigterm()

        async def watched() -> Message:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                self.drain()
            return message

        await self.app(scope, watched, send)

    def _on_sigterm(self) -> None:
        """Drain on SIGTERM, then do what the server would have done."""
        before = signal.getsignal(signal.SIGTERM)
        if not callable(before) or threading.current_thread() is not threading.main_thread():
            return

        def drain_first(number: int, frame: FrameType | None) -> None:
            self.drain()
            before(number, frame)

        signal.signal(signal.SIGTERM, drain_first)

    def _passage(self, scope: Scope, exchange: Exchange) -> Passage:
        route = resolve(self._router(), scope) or UNMATCHED
        method = method_label(scope["method"])
        plan = self.service.engine.plan(route, method)
        return Passage(exchange, plan, self._caller(scope, route), method, self.service.clock.now())

    def _caller(self, scope: Scope, route: str) -> Caller:
        return Caller(bucket(self._identity.address(scope)), self._identity.user(scope), route)

    def _router(self) -> Sequence[Any]:
        if self._routes is None:
            self._routes = router_of(self.app)
        return self._routes

    def _request_id(self, scope: Scope) -> str:
        """A new id, or the one that a trusted proxy has given."""
        if self._identity.proxied(scope):
            for name, value in scope["headers"]:
                if name == b"x-request-id" and _REQUEST_ID.fullmatch(value.decode("latin-1")):
                    return str(value.decode("ascii"))
        return next(self._ids)

    def _added(self, request_id: str) -> list[Header]:
        closing = ((b"connection", b"close"),) if self.service.draining else ()
        return [(b"x-request-id", request_id.encode()), *self._headers, *closing]

    def _bounded(self, passage: Passage, receive: Receive) -> Bounded | None:
        if passage.plan.body is None:
            return None
        name, limit = passage.plan.body

        def excess() -> bool:
            refusal = self.service.engine.too_large(name, limit)
            passage.exchange.pending = passage.exchange.pending or refusal
            return refusal is not None

        return Bounded(receive, limit.body, excess)

    def _finish(self, scope: Scope, passage: Passage, error: BaseException | None) -> None:
        exchange, route = passage.exchange, passage.caller.route
        status = exchange.status if exchange.started else 499 if _cancelled(error) else 500
        took = self.service.clock.now() - passage.began
        method = passage.method
        self.service.observe(method, route, min(max(status, 100), 599), took / 1e9)
        refused_by = exchange.pending.limit if exchange.pending is not None else None
        fault = type(error).__name__ if error is not None else None
        client = passage.caller.address
        self.service.access(
            Served(method, route, scope["path"], status, took, client, exchange.sent, refused_by, fault)
        )

    def _log_websocket(
        self, route: str, caller: Caller, admission: Admission, fault: Mapping[str, str]
    ) -> None:
        refused = {"refused_by": admission.refused.limit} if admission.refused else {}
        self.service.log.info("websocket", route=route, client=caller.address, **refused, **fault)

    def _with_cors(self, app: ASGIApp) -> ASGIApp:
        cors = self.service.spec.security.cors
        if cors is None:
            return app
        methods = [method for method in METHODS if method != "_OTHER"]
        return CORSMiddleware(app, list(cors.origins), methods, ["*"], expose_headers=_EXPOSED)

    def _metrics(self, scope: Scope) -> Response:
        """The series, for whoever reaches the service directly; nobody who comes through a proxy."""
        names = dict(scope["headers"])
        if any(name in _VIA or name.startswith(b"x-forwarded-") for name in names):
            return PlainTextResponse("not found\n", 404)
        body, content_type = self.service.metrics.expose(names.get(b"accept", b"").decode("latin-1"))
        return Response(body, headers={"content-type": content_type})

    def _health(self, _: Scope) -> Response:
        return PlainTextResponse("ok\n")

    def _ready(self, _: Scope) -> Response:
        return PlainTextResponse("draining\n", 503) if self.service.draining else PlainTextResponse("ready\n")


def _loaded(spec: Spec | Path | str | None) -> Loaded | Spec:
    if isinstance(spec, Spec):
        return spec
    # What is deployed brings the very spec its rules and manifests were compiled from; code may name another.
    path = find_spec() if spec is None or os.environ.get("MAHAVISHNU_SPEC") else Path(spec)
    return accept(path, environment=os.environ.get("MAHAVISHNU_ENV"), runtime=True)


def _path(scope: Scope) -> str:
    return str(scope["path"]).removeprefix(scope.get("root_path", ""))


def _cancelled(error: BaseException | None) -> bool:
    return error is not None and not isinstance(error, Exception)


async def _refuse_websocket(scope: Scope, receive: Receive, send: Send, refusal: Decision) -> None:
    await receive()
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1013, "reason": refusal.detail[:120]})
        return
    body, headers = problem(refusal)
    await send({"type": "websocket.http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})
