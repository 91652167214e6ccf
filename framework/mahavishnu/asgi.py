"""The ASGI middleware: everything the spec says about a request, in one pass."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TextIO, cast
from weakref import WeakSet

from starlette.types import ASGIApp

from mahavishnu.clock import process_clock
from mahavishnu.errors import MahavishnuError, SpecError
from mahavishnu.ground import variables
from mahavishnu.load import Loaded, accept, find_spec
from mahavishnu.protocols import Clock, Message, Receive, Scope, Send
from mahavishnu.runtime.built_in import PROBES
from mahavishnu.runtime.calls.call import entered
from mahavishnu.runtime.context import HERE, STARTS, hardened
from mahavishnu.runtime.current import current, give_back, succeed, use
from mahavishnu.runtime.edition import Edition
from mahavishnu.runtime.keys import Principal
from mahavishnu.runtime.life import Life
from mahavishnu.runtime.lifespan import lived
from mahavishnu.runtime.misfits import misfits
from mahavishnu.runtime.paths_taken import tell_of_paths
from mahavishnu.runtime.process import Usage, usage
from mahavishnu.runtime.reload import Reloader, Take
from mahavishnu.runtime.requests.identity import Identify
from mahavishnu.runtime.restart import needed
from mahavishnu.runtime.routing.hand_on import HANDED
from mahavishnu.runtime.routing.layers import outside
from mahavishnu.runtime.routing.table import RouteTable
from mahavishnu.runtime.service import Service, start
from mahavishnu.runtime.signal_handlers import on_signal
from mahavishnu.runtime.traced_edition import TracedEdition
from mahavishnu.spec import Spec, spec_hash

__all__ = ["Hardening", "Identify", "Principal"]


class Hardening:
    """Middleware for any ASGI app: limits, deadlines, metrics, health, headers and log, as the spec says.

    A process has one: another one inside of it lets everything through, whatever its spec, and of two side by side each
    counts for itself; the log says so (`hardened twice`).

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
        self.source = spec
        self.identify = identify
        self._path: Path | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.reloader: Reloader | None = None
        self._set_up = partial(self._start, spec, clock, process, log_to, wall)
        self._inside, self._stale = False, hardened()
        if self._stale:
            # Made inside of another one, as by a mounted app that is first called: it does nothing, and needs no spec
            # until somebody asks it who has not come through the other.
            self._disabled = self._aside = True
        else:
            self._set_up()
        MADE.add(self)

    def _start(
        self,
        spec: Spec | Path | str | None,
        clock: Clock | None,
        process: Callable[[], Usage],
        log_to: TextIO | None,
        wall: Callable[[], float],
    ) -> None:
        self._inside, self._loop = False, None
        self._disabled, self._aside = variables.disabled(), True
        self.reloader = None
        if self._disabled:
            return
        self._routes = RouteTable(self.app)
        self._path = None if isinstance(spec, Spec) else _found(self._path or spec)
        self._environment = variables.environment()
        ticks = clock or process_clock()
        if self._path is not None:  # before it is read, so that no change is missed
            self.reloader = Reloader(self._path, self._prepared, lambda: self.service, ticks, wall)
        source = spec if isinstance(spec, Spec) else self._loaded()
        before = _without_middleware(source if isinstance(source, Spec) else source.spec, ticks)
        self._edition = self._at_work(start(source, ticks, process, log_to, before))
        self.service.process_state.hardens = True
        self.service.process_state.loaded_at = wall()
        self.life = Life(lambda: self.service, ticks, self.drain, self.reloader)
        self._before = use(self.service)

    def start_anew(self) -> None:
        """Forget everything, and start again with what is asked next; for tests."""
        self._aside = self._stale = True

    def another(self, loop: asyncio.AbstractEventLoop) -> None:
        """A middleware begins on this event loop: if this one is asked there again, they are two."""
        self._aside = self._aside or self._loop is loop

    @property
    def service(self) -> Service:
        """The spec at work, and everything that enforces it."""
        return self._edition.service

    async def __call__(  # noqa: C901, PLR0912, PLR0915 - each step that is a call costs every request as much
        self, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if scope["type"] != "http" or self._aside:
            await self._other(scope, receive, send)
            return
        edition = self._edition  # this request's from now on, whatever is loaded meanwhile
        answer = edition.built_in.get(_path(scope) if scope.get("root_path") else scope["path"])
        if answer is not None and scope["method"] in ("GET", "HEAD"):
            await answer(scope)(scope, receive, send)
            return
        exchange = edition.exchange(scope, send)
        token = HERE.set([None, exchange] if HERE.get()[0] is None else entered(exchange))
        state = edition.process_state
        state.active += 1
        around = edition.around
        try:
            if around:
                await edition.inside(scope, receive, exchange.send)
            elif edition.admits(exchange, scope, receive):
                if exchange.running or await edition.wait(exchange, receive):
                    await edition.app(scope, exchange.upload or exchange, exchange.send)
                if exchange.bounded is not None or exchange.gates is not None:
                    edition.free(exchange)
                elif exchange.watch is not None:
                    exchange.over()
                if exchange.refused is not None:
                    await edition.refuse(exchange, exchange.send)
            elif (refused := exchange.refused) is not None and refused.status == 429:
                await exchange.turn_away()
            else:
                await edition.refuse(exchange, exchange.send)
        except BaseException as error:
            if around or not await edition.excuses(exchange, error, exchange.send):
                exchange.failed(error)
                raise
        finally:
            state.active -= 1
            HERE.reset(token)
            if (told := exchange.told) is not None:
                state.ended.add(edition.service, exchange, told)
            else:
                await edition.untold(exchange, receive)
            if exchange.bounded is not None:
                # Each has the other: whoever ends comes first, and leaves no work for the garbage collector.
                bounded, exchange.bounded, exchange.upload = exchange.bounded, None, None
                if bounded.unread:
                    await state.linger(scope, receive, send, edition.service.clock)

    def drain(self) -> None:
        """Say `not ready` from now on, and close connections with their next response."""
        if not self._disabled:
            self.life.leave()
            self._edition.drain()

    def _at_work(self, service: Service) -> Edition:
        kind = Edition if service.tracing is None else TracedEdition
        return kind(self.app, service, self._routes, self.identify)

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
        problems = (*needed(before.spec, loaded.spec), *misfits(loaded.spec))
        if problems:
            raise SpecError(tuple(loaded.locate(one) for one in problems))
        after = before.after(loaded)
        edition = self._at_work(after)

        def take() -> None:
            after.take_over(before)
            succeed(after)
            self._edition = edition
            self.life.redriver.start()
            after.tell("reloaded", loaded)

        return take

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if HANDED in scope:
            self._step_back()
            await self.app(scope, receive, send)
            return
        if self._stale:
            self._set_up()
            self._stale = False
        if self._disabled and kind == "lifespan":
            await lived(self.app, scope, receive, send, unknown=lambda _: None)
        elif self._disabled:
            read = kind == "http" and scope["method"] in ("GET", "HEAD")
            answer = PROBES.get(_path(scope)) if read else None
            await (self.app if answer is None else answer(scope))(scope, receive, send)
        elif kind == "http":
            self._first(scope)
            await self(scope, receive, send)
        elif kind == "websocket":
            await self._edition.websocket(scope, receive, send)
        elif kind == "lifespan":
            await self._lifespan(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _step_back(self) -> None:
        """One that stands around this does all that it would do."""
        if self._inside:
            return
        self._inside = True
        if not self._disabled:
            give_back(self.service, self._before)
        _twice("inside of another Hardening this one lets everything through: leave one of them out")

    def _first(self, scope: Scope) -> None:
        """A request comes: the first one, of a server that has not said that it starts, or after another middleware
        has begun."""
        if self._loop is _running_loop():
            self._aside = False
            _twice("side by side each Hardening counts for itself: put one around all instead")
            return
        self._begin(scope)
        if self.service.clock.runs:
            self.service.lag.start()
        tell_of_paths(self.service, self.app)
        self.life.serve()
        self.life.end_unheard()

    def _begin(self, scope: Scope) -> None:
        """From now on, and on this event loop."""
        loop = _running_loop()
        for one in MADE:
            one.another(loop)
        self._loop, self._aside = loop, False
        # Anew, with request ids of its own: this process may be one of several forked from the one before.
        self._edition = self._at_work(self.service)
        self.life.begin()
        self._tell_outside(scope.get("app"))

    def _tell_outside(self, app: object) -> None:
        """Say which middlewares of the app that Starlette names requests meet before this one."""
        found = dict.fromkeys(outside(app, Hardening))
        if names := [name for name in found if name not in self.service.spec.service.outside]:
            help = "what they answer by themselves passes no limit, log or series: add Hardening after them"
            self.service.log.warning("middlewares outside", names=names, help=help)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        on_signal("SIGTERM", self.drain)
        self.service.process_state.draining = False  # a server may start again in its process
        scope[HANDED] = None
        self._begin(scope)
        self.service.lag.start()
        started, token = False, STARTS.set(True)

        async def watched() -> Message:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                await self.life.stop()
                self.drain()
            return message

        async def told(message: Message) -> None:
            nonlocal started
            if message["type"] == "lifespan.startup.complete":
                started = True
                tell_of_paths(self.service, self.app)
                self.life.serve()
            if message["type"].startswith("lifespan.shutdown."):
                await self.life.end()  # the server may end as soon as it hears of it
            await send(message)

        def unknown(fault: Exception) -> None:
            self.service.log.info("no lifespan", error=type(fault).__name__)

        try:
            await lived(self.app, scope, watched, told, unknown)
        except BaseException:
            if not started:  # a server may go on all the same, and never says that it ends
                self._aside, self._loop = True, None
            raise
        finally:
            STARTS.reset(token)


MADE = WeakSet[Hardening]()
"""Every middleware of this process."""


def _without_middleware(spec: Spec, clock: Clock) -> Service | None:
    """The service at work, where it only has guarded calls so far: as those that an app makes when it is imported."""
    service = current()
    if service is None or service.process_state.hardens or service.clock is not clock or service.spec != spec:
        return None
    return service


def _running_loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        what = "Hardening runs on asyncio, and this server or test runs the app on another event loop, like trio's"
        raise MahavishnuError(f"{what}: choose asyncio there") from None


def _twice(help: str) -> None:
    if (service := current()) is not None:
        service.log.warning("hardened twice", help=help)


def _found(spec: Path | str | None) -> Path:
    # What is deployed brings the very spec its rules and manifests were compiled from; code may name another.
    found = find_spec() if spec is None or variables.spec_file() else Path(spec)
    return found.absolute()  # an app may go to another folder, and the file is read again


def _path(scope: Scope) -> str:
    """Below the root path, which a server may have put before it or not."""
    path, root = str(scope["path"]), str(scope.get("root_path", "")).rstrip("/")
    return path[len(root) :] if f"{path}/".startswith(f"{root}/") else path
