"""One spec at work on requests: who asks, which limits they meet, and what may refuse them, around the app."""

from __future__ import annotations

import re
import secrets
from asyncio import CancelledError, current_task
from collections.abc import Iterator
from functools import partial
from itertools import count
from typing import Any

from starlette.types import ASGIApp

from mahavishnu.outcomes.faults import leaves
from mahavishnu.protocols import Receive, Scope, Send
from mahavishnu.runtime.built_in import answers
from mahavishnu.runtime.calls.call import entered
from mahavishnu.runtime.context import HERE, current_request
from mahavishnu.runtime.limits.admission import Admission
from mahavishnu.runtime.limits.fields import STRICT
from mahavishnu.runtime.requests.bounded import BodyTooLarge, Bounded
from mahavishnu.runtime.requests.conversation import Conversation
from mahavishnu.runtime.requests.cross_origin import cross_origin
from mahavishnu.runtime.requests.exchange import Exchange
from mahavishnu.runtime.requests.gone import gone
from mahavishnu.runtime.requests.handshake import Handshake
from mahavishnu.runtime.requests.identity import Identify, Identity
from mahavishnu.runtime.requests.intake import BodyTooSlow
from mahavishnu.runtime.requests.let_out import answer, failed
from mahavishnu.runtime.requests.on_trial import BoundedOnTrial
from mahavishnu.runtime.requests.upload import ClientGone, Upload, unless_gone
from mahavishnu.runtime.requests.watch import Watch, deadline
from mahavishnu.runtime.routing.hand_on import HANDED
from mahavishnu.runtime.routing.table import RouteTable
from mahavishnu.runtime.service import Service, method_label
from mahavishnu.runtime.telemetry.access_log import refusal, traceback
from mahavishnu.runtime.telemetry.defects import noted
from mahavishnu.series import UNMATCHED

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_OF_THE_EDGE = (408, 413, 504)  # too slow, too large, too late: the engine sees no caller there
_SCHEMES = {"http": ("http", "https"), "websocket": ("ws", "wss")}
_CLOSE = (b"connection", b"close")


class Edition:
    """One spec at work on requests; a request stays with the one it began with, so it never sees two."""

    def __init__(
        self,
        app: ASGIApp,
        service: Service,
        routes: RouteTable,
        identify: Identify | None,
    ) -> None:
        spec = service.spec
        self.app = app
        self.service = service
        self.process_state = service.process_state
        self.now = service.clock.now
        self._routes = routes
        self._ids = _ids()
        self._identity = Identity(
            [*spec.service.networks().values()],
            identify,
            spec.service.forwarded,
            self._unidentified,
            unix="unix" in spec.service.trusted_proxies,
            shared=self._undistinguished,
        )
        service.identity = self._identity
        self._caller = self._identity.caller
        self._planner = service.engine.planner
        self._plans = self._planner.plans
        self._proxies = bool(spec.service.trusted_proxies)
        self._headers = [*STRICT] if spec.security.headers == "strict" else []
        if self.process_state.draining:
            self._headers.append(_CLOSE)
        cors = spec.security.cors
        self.inside: ASGIApp = self._guard if cors is None else cross_origin(self._guard, cors)
        self.around = cors is not None
        """Whether something stands between the middleware and what may refuse."""
        self.built_in = answers(service, self._identity)

    def drain(self) -> None:
        """Say `not ready` from now on, and close connections with their next response."""
        if not self.process_state.draining:
            self.process_state.draining = True
            self._headers.append(_CLOSE)

    def exchange(self, scope: Scope, send: Send) -> Exchange:
        """The request that begins now."""
        find = self._routes.find  # a function in an attribute is quicker to call by a name
        found = find(scope)
        if found is None:
            route, scope[HANDED] = UNMATCHED, None
        else:
            route, scope[HANDED] = found
        method = scope["method"]
        plan = self._plans.get((route, method)) or self._planner.plan(route, method_label(method))
        name = self._handed_over(scope) if self._proxies else next(self._ids)
        made = Exchange()  # with no `__init__`, for a class is quicker to call without
        made.begin(scope, send, plan, self._caller(scope), name, self._headers, self.now)
        made.service = self.service
        return made

    async def websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A websocket, from its handshake to its end; what it calls is guarded by the spec at work, for it may last."""
        found = self._routes.find(scope)
        route = UNMATCHED if found is None else found[0]
        scope[HANDED] = None
        engine = self.service.engine
        plan = engine.planner.plan(route, "GET")
        name = self._handed_over(scope) if self._proxies else next(self._ids)
        admission = Admission(name, self._identity.caller(scope), plan, self.service.clock.now())
        admission.scope = scope
        token = HERE.set(entered(admission))
        try:
            await self._converse(admission, scope, receive, send)
        finally:
            HERE.reset(token)

    async def _converse(self, admission: Admission, scope: Scope, receive: Receive, send: Send) -> None:
        engine = self.service.engine
        talk, handshake = Conversation(scope, send, partial(self._accepted, admission)), Handshake(receive)
        fault: BaseException | None = None
        let_in = False
        try:
            await engine.admit(admission, partial(unless_gone, handshake.gone))
            if admission.refused is not None:
                await handshake.rest()()
                await talk.refuse(admission.refused)
            else:
                let_in = True
                await self.app(scope, handshake.rest(), talk.send)
        except ClientGone:
            await talk.leave()
        except BaseException as error:
            said = None if talk.over else answer(error)
            if said is None:
                fault = error
                raise
            admission.refused = said
            await talk.refuse(said)
        finally:
            engine.release(admission, None)
            if not let_in:
                await engine.give_back(admission)
            self._tell_of_websocket(admission, fault)

    def _accepted(self, admission: Admission) -> None:
        self.service.engine.lasting(admission, None)
        admission.begin_answer()

    def admits(self, exchange: Exchange, scope: Scope, receive: Receive) -> bool:
        """Let a request in, or refuse it. What is let in is not `running` yet where it still has to `wait`."""
        plan, engine = exchange.plan, self.service.engine
        if plan.body is not None:
            if plan.body_trial is None:
                exchange.bounded = Bounded(engine.clock, plan.body, exchange, receive)
            else:
                exchange.bounded = BoundedOnTrial(engine.clock, plan.body, plan.body_trial, exchange, receive)
            exchange.bounded.announced(scope["headers"])
            if exchange.refused is not None:
                exchange.aside = exchange.refused
                return False
        if plan.uploads:
            exchange.upload = Upload(exchange.bounded or receive)
        else:  # where nearly nobody sends a body it is made when the app first asks for one
            exchange.source = receive
        if plan.rates and not plan.later:
            fast = plan.fast if not plan.gates or plan.has_room() else None
            if fast is None or not fast.charge(exchange):  # as `engine.charge`, with one call less
                engine.decide(exchange)
            if exchange.refused is not None:
                return False
        if plan.timeout is not None:  # what answers at once comes before any timer
            if plan.plain:
                exchange.watch = deadline(engine.clock, plan.timeout, exchange, exchange.began)
            else:
                exchange.watch = Watch(
                    engine.clock, plan.timeout, exchange, scope["headers"], plan.timeout_trial
                )
        exchange.running = not plan.later and (not plan.gates or engine.try_enter(exchange))
        return True

    async def wait(self, exchange: Exchange, receive: Receive) -> bool:
        """For what the store says of its rates, and for a place: then it is `running`, or refused.

        Raises ClientGone, so that nobody works for who has hung up, nor waits behind it.
        """
        plan, engine = exchange.plan, self.service.engine
        if plan.later:
            await engine.charged(exchange)
        tried = exchange.gates is not None
        if plan.gates and (tried or not engine.try_enter(exchange)):
            upload = exchange.upload = exchange.upload or Upload(exchange.bounded or receive)
            await unless_gone(upload.gone, engine.enter(exchange))
        exchange.running = exchange.refused is None
        return exchange.running

    async def _guard(self, scope: Scope, receive: Receive, send: Send) -> None:
        """All that may refuse a request, around the app, where something else stands before it."""
        exchange: Exchange = current_request()  # type: ignore[assignment]  # of a request it is one
        exchange.through = send
        try:
            let_in = self.admits(exchange, scope, receive)
            if let_in and (exchange.running or await self.wait(exchange, receive)):
                await self.app(scope, exchange.upload or exchange, send)
        except BaseException as error:
            if not await self.excuses(exchange, error, send):
                raise
        else:
            await self.over(exchange, send)

    async def excuses(self, exchange: Exchange, error: BaseException, send: Send) -> bool:
        """The app has ended so: whether it is no fault, but a limit or a dependency that has ended it. Answers it."""
        watch = exchange.watch
        excused = all(isinstance(each, BodyTooLarge | BodyTooSlow) for each in leaves(error))
        if isinstance(error, CancelledError):
            excused = watch is not None and watch.end(error)
            exchange.cancelled = exchange.cancelled or not excused
        elif isinstance(error, ClientGone):
            exchange.cancelled = excused = True
        self.free(exchange)
        said = None if exchange.status else answer(error)
        if said is not None:  # of a tool or a dependency that the app has called
            excused, exchange.refused = True, exchange.refused or said
        # Where a fault comes from a refusal, as with an app that wraps it, the refusal is the answer all the same.
        if exchange.refused is not None and (excused or isinstance(error, Exception)):
            await self.refuse(exchange, send)
        elif not exchange.running:  # as what is refused before the handler ran
            await self.service.engine.give_back(exchange)
        return excused

    async def over(self, exchange: Exchange, send: Send) -> None:
        """The app has ended; if it was refused meanwhile, that is the answer."""
        self.free(exchange)
        if exchange.refused is not None:
            await self.refuse(exchange, send)

    async def untold(self, exchange: Exchange, receive: Receive) -> None:
        """Tell of a request whose response has no end; also where it is the app that has left it so, without a word.

        A process that is about to end lets go of those who only listen, who ask another one.
        """
        if exchange.service is None:  # it was told of while the app held on, for whom nobody waits any more
            exchange.deadline = None
            return
        ended = self.now()
        if exchange.running:
            exchange.listened = exchange.listens
        try:
            if exchange.unended and not (exchange.listened and self.process_state.draining):
                exchange.left_so(gone=await gone(receive))
        finally:
            self.process_state.ended.add(self.service, exchange, ended)

    def free(self, exchange: Exchange) -> None:
        """What the app held is free, what it kept to is counted."""
        exchange.over()
        if exchange.gates is not None:
            self.service.engine.release(exchange, exchange.took(), answered=not exchange.gone)
        if exchange.bounded is not None:
            exchange.bounded.ended()

    async def refuse(self, exchange: Exchange, send: Send) -> None:
        """Answer with the refusal; what was refused before the handler ran has spent no quota."""
        refusing = exchange.refusing
        if refusing is not None:
            if refusing is current_task():  # which has failed: nobody listens
                return
            await refusing  # beside the app, which held on
        refused = exchange.refused
        if refused is not None and refused.status in _OF_THE_EDGE:
            self.service.refusals.saw(refused.limit, exchange.caller.client)
        if not exchange.running:
            await self.service.engine.give_back(exchange)
        await exchange.refuse(send)

    def _handed_over(self, scope: Scope) -> str:
        """Let the app see the scheme that a trusted proxy names; a new id, or the one that it has given."""
        if self._identity.proxied(scope):
            secure = self._identity.secure(scope)
            if secure is not None:
                scope["scheme"] = _SCHEMES[scope["type"]][secure]
            for name, value in scope["headers"]:
                if name == b"x-request-id" and _REQUEST_ID.fullmatch(value.decode("latin-1")):
                    return str(value.decode("ascii"))
        return next(self._ids)

    def _unidentified(self, fault: Exception) -> None:
        """The app's `identify` hook has failed; its words may hold what it was asked to verify."""
        self.service.log.warning("identify failed", error=type(fault).__name__)

    def _undistinguished(self) -> None:
        """Limits by address are one for all who come through a Unix socket that nobody believes."""
        help = "add `unix` to `service.trusted_proxies`, and let the proxy there write `service.forwarded`"
        self.service.log.warning("clients without an address", help=help)

    def _tell_of_websocket(self, admission: Admission, fault: BaseException | None) -> None:
        facts: dict[str, Any] = {"route": admission.route, "client": admission.caller.address}
        facts |= refusal(admission.refused or admission.aside)
        log, outcome = self.service.log.info, "ended" if admission.refused is None else "refused"
        if fault is not None:
            facts["error"] = type(fault).__name__
            if failed(fault):
                log, outcome = self.service.log.error, "failed"
                facts |= traceback(noted(fault))
        self.service.websockets[outcome].inc()
        log("websocket", **facts)


def _ids() -> Iterator[str]:
    """Ids for requests; no other process has them."""
    return map(f"{secrets.token_hex(8)}-%x".__mod__, count())
