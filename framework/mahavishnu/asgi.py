"""The ASGI middleware: everything the spec says about a request, in one pass."""

from __future__ import annotations

import os
import re
import secrets
import time
from asyncio import CancelledError
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import count
from pathlib import Path
from typing import TextIO, cast

from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp

from mahavishnu.clock import process_clock
from mahavishnu.contract import spec_hash
from mahavishnu.errors import RateLimited, SpecError
from mahavishnu.load import Loaded, accept, find_spec
from mahavishnu.policies.body import Body
from mahavishnu.policies.timeout import Timeout
from mahavishnu.policy import Clock, Decision, Scope
from mahavishnu.runtime.context import CURRENT
from mahavishnu.runtime.current import succeed, use
from mahavishnu.runtime.engine import Admission
from mahavishnu.runtime.exchange import BodyTooLarge, Bounded, Message, Passage, Receive, Send
from mahavishnu.runtime.fields import QUOTA_EXCEEDED, REDUCED_CAPACITY, STRICT, problem
from mahavishnu.runtime.hand_on import HANDED
from mahavishnu.runtime.identity import Identify, Identity
from mahavishnu.runtime.intake import BodyTooSlow, Intake
from mahavishnu.runtime.keys import Principal
from mahavishnu.runtime.ops import Ops
from mahavishnu.runtime.process import Usage, usage
from mahavishnu.runtime.reload import Reloader, Take
from mahavishnu.runtime.restart import needed
from mahavishnu.runtime.route_table import RouteTable
from mahavishnu.runtime.service import Service, method_label, start
from mahavishnu.runtime.signal_handlers import on_signal
from mahavishnu.runtime.watch import Watch
from mahavishnu.series import METHODS, UNMATCHED
from mahavishnu.spec import Spec

__all__ = ["Hardening", "Identify", "Principal"]

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_OF_THE_EDGE = (408, 413, 504)  # too slow, too large, too late: the engine sees no caller there
_VIA = frozenset((b"forwarded", b"via", b"x-real-ip"))
_EXPOSED = ["RateLimit", "RateLimit-Policy", "Retry-After", "X-Request-ID"]


class Hardening:
    """Middleware for any ASGI app: limits, deadlines, metrics, health, headers and log, as the spec says.

    Args:
        app: the app inside.
        spec: the spec or its path; MAHAVISHNU_SPEC goes before a path, as what is deployed sets it. By default
            mahavishnu.yaml upwards from here.
        identify: names the verified user of a scope, or a Principal (None: nobody); by default what Starlette's
            AuthenticationMiddleware, mounted outside this one, has accepted. When it raises, nobody is verified.
        clock, process, log_to, wall: time, the operating system's numbers, the log's stream and the time of day,
            for tests.

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
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.app = app
        self._disabled = self._aside = os.environ.get("MAHAVISHNU_DISABLE") == "1"
        if self._disabled:
            return
        self._identify = identify
        self._routes = RouteTable(app)
        self._ids = map(f"{secrets.token_hex(8)}-{{:x}}".format, count())
        self._path = None if isinstance(spec, Spec) else _found(spec)
        self._environment = os.environ.get("MAHAVISHNU_ENV")
        ticks = clock or process_clock()
        self.reloader: Reloader | None = None
        if self._path is not None:  # before it is read, so that no change is missed
            self.reloader = Reloader(self._path, self._prepared, lambda: self.service, ticks, wall)
        source = spec if isinstance(spec, Spec) else self._loaded()
        self._edition = self._at_work(start(source, ticks, process, log_to))
        self.service.lasting.loaded_at = wall()
        self._aside = self.reloader is not None
        use(self.service)

    @property
    def service(self) -> Service:
        """The spec at work, and everything that enforces it."""
        return self._edition.service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._aside:
            await self._other(scope, receive, send)
            return
        edition = self._edition  # this request's from now on, whatever is loaded meanwhile
        answer = edition.built_in.get(_path(scope) if scope.get("root_path") else scope["path"])
        if answer is not None and scope["method"] in ("GET", "HEAD"):
            await answer(scope)(scope, receive, send)
            return
        passage = edition.passage(scope, send)
        token = CURRENT.set(passage)
        lasting = edition.lasting
        lasting.active += 1
        try:
            await edition.inside(scope, receive, passage.send)
        except BaseException as error:
            passage.failed(error)
            raise
        finally:
            lasting.active -= 1
            CURRENT.reset(token)
            edition.finish(passage)

    def drain(self) -> None:
        """Say `not ready` from now on, and close connections with their next response."""
        self._edition.drain()

    def _at_work(self, service: Service) -> Edition:
        return Edition(self.app, service, self._routes, self._identify, self._ids)

    async def reload(self) -> None:
        """Read the spec's file now: take it or, saying why in the log, keep the spec at work."""
        if self.reloader is not None:
            await self.reloader.judge()

    def _loaded(self) -> Loaded:
        return accept(cast("Path", self._path), self._environment, runtime=True)

    def _prepared(self) -> Take | None:
        """Build all of what the file says beside what is at work; raises SpecError, and whatever building may."""
        loaded, before = self._loaded(), self.service
        if loaded.spec == before.spec and spec_hash(loaded.declared) == before.hash:
            return None
        if faults := tuple(loaded.locate(one) for one in needed(before.spec, loaded.spec)):
            raise SpecError(faults)
        after = before.after(loaded)
        edition = self._at_work(after)

        def take() -> None:
            after.take_over(before)
            succeed(after)
            self._edition = edition
            after.tell("reloaded", loaded)

        return take

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if self._disabled:
            await self.app(scope, receive, send)
        elif kind == "http":  # the first one, of a server that has not said that it starts
            self._watch_file()
            await self(scope, receive, send)
        elif kind == "websocket":
            await self._edition.websocket(scope, receive, send)
        elif kind == "lifespan":
            await self._lifespan(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _watch_file(self) -> None:
        """Reload when the file changes or SIGHUP asks for it, from now on and on this event loop."""
        self._aside = False
        if self.reloader is not None:
            self.reloader.start()
            on_signal("SIGHUP", self.reloader.ask, alone=True)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        on_signal("SIGTERM", self.drain)
        self._watch_file()
        self.service.lag.start()

        async def watched() -> Message:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                self.service.lag.stop()
                if self.reloader is not None:
                    self.reloader.stop()
                self.drain()
            return message

        await self.app(scope, watched, send)


class Edition:
    """One spec at work on requests; a request stays with the one it began with, so it never sees two."""

    def __init__(
        self,
        app: ASGIApp,
        service: Service,
        routes: RouteTable,
        identify: Identify | None,
        ids: Iterator[str],
    ) -> None:
        spec = service.spec
        self.app = app
        self.service = service
        self.lasting = service.lasting
        self._routes = routes
        self._ids = ids
        self._identity = Identity(
            spec.service.trusted_proxies, identify, spec.service.forwarded, self._unidentified
        )
        self._proxies = bool(spec.service.trusted_proxies)
        self._headers = [*STRICT] if spec.security.headers == "strict" else []
        self.inside = self._with_cors(self._guard)
        self.built_in: dict[str, Callable[[Scope], Response]] = {
            spec.observability.metrics.path: self._metrics,
            "/healthz": self._health,
            "/readyz": self._ready,
        }
        if service.ops is not None and spec.ops is not None:
            self.built_in[f"{spec.ops.path.rstrip('/')}/refused"] = partial(self._refused, service.ops)

    def drain(self) -> None:
        """Say `not ready` from now on, and close connections with their next response."""
        if not self.lasting.draining:
            self.lasting.draining = True
            self._headers.append((b"connection", b"close"))

    def passage(self, scope: Scope, send: Send) -> Passage:
        """The request that begins now."""
        found = self._routes.find(scope)
        route = UNMATCHED
        if found is not None:
            route = found.template
            if found.route is not None:
                scope[HANDED] = found
        service = self.service
        engine, method = service.engine, scope["method"]
        plan = engine.planned(route, method) or engine.plan(route, method_label(method))
        caller = self._identity.caller(scope, route)
        name = self._request_id(scope) if self._proxies else next(self._ids)
        made = Passage(send, plan, caller, name, scope["path"], self._headers, service.clock.now)
        made.service = service
        return made

    def finish(self, passage: Passage) -> None:
        """Count the request, and write its line."""
        took = self.service.clock.now() - passage.began
        if not passage.status:
            passage.status = 499 if passage.cancelled else 500
        self.service.observe(passage.plan, passage.status, took / 1e9)
        self.service.access(passage, took)
        passage.service = None  # what it leaves running goes on with whichever spec is at work

    async def websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A websocket, from its handshake to its end."""
        found = self._routes.find(scope)
        route = UNMATCHED if found is None else found.template
        engine = self.service.engine
        caller = self._identity.caller(scope, route)
        name = self._request_id(scope) if self._proxies else next(self._ids)
        admission = Admission(name, caller, self.service.clock.now())
        admission.service = self.service
        token = CURRENT.set(admission)
        fault: dict[str, str] = {}
        try:
            await engine.admit(engine.plan(route, "GET"), admission)
            if admission.refused is not None:
                await _refuse_websocket(scope, receive, send, admission.refused)
            else:
                await self.app(scope, receive, send)
        except BaseException as error:
            fault["error"] = type(error).__name__
            raise
        finally:
            engine.release(admission, None)
            self._log_websocket(admission, fault)
            CURRENT.reset(token)

    async def _guard(  # noqa: C901 - flat, for every step of a request costs a microsecond
        self, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Everything that may refuse a request, around the app; rates that answer at once come before any timer."""
        passage: Passage = CURRENT.get()  # type: ignore[assignment]
        plan, engine = passage.plan, self.service.engine
        if plan.body is not None:
            receive = self._bounded(plan.body, passage, scope, receive)
        waiting = engine.charge(plan, passage) if plan.rates and passage.refused is None else None
        if passage.refused is not None:
            await self._refuse(passage, send)
            return
        watch = None if plan.timeout is None else self._watch(plan.timeout, passage, scope)
        try:
            if waiting is not None:
                await waiting
            if plan.gates and not engine.try_enter(plan, passage):
                await engine.enter(plan, passage)
            if passage.let_in():
                await self.app(scope, receive, send)
        except (BodyTooLarge, BodyTooSlow):
            pass
        except CancelledError as error:
            if watch is None or not watch.end(error):
                raise
        except RateLimited as error:
            # Of a tool that the app has called: an answer as of any limit, if there is none yet.
            if passage.status:
                raise
            passage.refused = _refusal(error)
        except Exception:
            await self._refuse(passage, send)  # where it comes from a refusal, as with an app that wraps it
            raise
        finally:
            self._over(passage, watch)
        await self._refuse(passage, send)

    def _over(self, passage: Passage, watch: Watch | None) -> None:
        """The app has ended, in whatever way: what it held is free, what it kept to is counted."""
        engine = self.service.engine
        if watch is not None:
            watch.ended(passage.answered)
        if passage.gates is not None:
            engine.release(passage, passage.took())
        body = passage.plan.body
        if body is not None and passage.refused is None and passage.bounded and not passage.bounded.over:
            engine.kept(body[0], passage.bounded.read)

    def _watch(self, named: tuple[str, Timeout], passage: Passage, scope: Scope) -> Watch:
        """The request's time limit, which begins now."""
        inherit = passage.plan.inherit
        given = None if inherit is None else inherit(scope["headers"])
        watch = passage.watch = Watch(self.service.engine, named, passage, passage.began, given)
        watch.begin()
        return watch

    async def _refuse(self, passage: Passage, send: Send) -> None:
        """Answer with the refusal, if there is one; what was refused before the handler ran has spent no quota."""
        if passage.refused is not None:
            if passage.refused.status in _OF_THE_EDGE:
                self.service.refusals.saw(passage.refused.limit, passage.caller.client)
            if not passage.running:
                await self.service.engine.give_back(passage)
            await passage.refuse(send)

    def _request_id(self, scope: Scope) -> str:
        """A new id, or the one that a trusted proxy has given."""
        if self._identity.proxied(scope):
            for name, value in scope["headers"]:
                if name == b"x-request-id" and _REQUEST_ID.fullmatch(value.decode("latin-1")):
                    return str(value.decode("ascii"))
        return next(self._ids)

    def _bounded(self, named: tuple[str, Body], passage: Passage, scope: Scope, receive: Receive) -> Bounded:
        """The receive side of a bounded body; one that is announced as too large is refused here and now."""
        name, limit = named
        engine = self.service.engine

        def excess() -> bool:
            refusal = engine.too_large(name, limit)
            passage.refused = passage.refused or refusal
            return refusal is not None

        def late() -> None:
            bounded.over = True
            passage.refused = passage.refused or engine.dripping(name, limit)

        if limit.within is not None or limit.min_rate is not None:
            enforced = limit.mode == "enforce"
            receive = Intake(
                receive, engine.clock, late, within=limit.within, rate=limit.min_rate, enforced=enforced
            )
        bounded = passage.bounded = Bounded(receive, limit.body, excess)
        bounded.announced(scope["headers"])
        return bounded

    def _unidentified(self, fault: Exception) -> None:
        """The app's `identify` hook has failed; its words may hold what it was asked to verify."""
        self.service.log.warning("identify failed", error=type(fault).__name__)

    def _log_websocket(self, admission: Admission, fault: Mapping[str, str]) -> None:
        refused = {"refused_by": admission.refused.limit} if admission.refused else {}
        caller = admission.caller
        self.service.log.info("websocket", route=caller.route, client=caller.address, **refused, **fault)

    def _with_cors(self, app: ASGIApp) -> ASGIApp:
        cors = self.service.spec.security.cors
        if cors is None:
            return app
        methods = [method for method in METHODS if method != "_OTHER"]
        return CORSMiddleware(app, list(cors.origins), methods, ["*"], expose_headers=_EXPOSED)

    def _metrics(self, scope: Scope) -> Response:
        """The series, for whoever reaches the service directly; nobody who comes through a proxy."""
        if _handed_on(scope):
            return PlainTextResponse("not found\n", 404)
        accept: bytes = dict(scope["headers"]).get(b"accept", b"")
        body, content_type = self.service.metrics.expose(accept.decode("latin-1"))
        return Response(body, headers={"content-type": content_type})

    def _refused(self, ops: Ops, scope: Scope) -> Response:
        """Who is refused, for operators who reach the service directly."""
        if _handed_on(scope):
            return PlainTextResponse("not found\n", 404)
        authorization = dict(scope["headers"]).get(b"authorization", b"")
        answer = ops.refused(self._identity.address(scope), authorization, scope.get("query_string", b""))
        response = Response(answer.body, answer.status)
        response.raw_headers = answer.headers
        return response

    def _health(self, _: Scope) -> Response:
        return PlainTextResponse("ok\n")

    def _ready(self, _: Scope) -> Response:
        return PlainTextResponse("draining\n", 503) if self.lasting.draining else PlainTextResponse("ready\n")


def _found(spec: Path | str | None) -> Path:
    # What is deployed brings the very spec its rules and manifests were compiled from; code may name another.
    return find_spec() if spec is None or os.environ.get("MAHAVISHNU_SPEC") else Path(spec)


def _refusal(error: RateLimited) -> Decision:
    kind = QUOTA_EXCEEDED if error.status == 429 else REDUCED_CAPACITY
    return Decision(False, error.limit, error.status, kind, error.what, error.retry_after)


def _handed_on(scope: Scope) -> bool:
    """Whether a request came through a proxy."""
    return any(name in _VIA or name.startswith(b"x-forwarded-") for name, _ in scope["headers"])


def _path(scope: Scope) -> str:
    return str(scope["path"]).removeprefix(scope.get("root_path", "").rstrip("/"))


async def _refuse_websocket(scope: Scope, receive: Receive, send: Send, refusal: Decision) -> None:
    await receive()
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1013, "reason": refusal.detail[:120]})
        return
    body, headers = problem(refusal)
    await send({"type": "websocket.http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})
