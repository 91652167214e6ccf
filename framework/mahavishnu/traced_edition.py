"""One spec at work on requests, each of which has a span."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from mahavishnu.edition import Edition
from mahavishnu.policy import Scope
from mahavishnu.runtime.context import CURRENT
from mahavishnu.runtime.engine import Admission
from mahavishnu.runtime.exchange import Passage, Receive, Send
from mahavishnu.runtime.identity import Identify
from mahavishnu.runtime.keys import Caller
from mahavishnu.runtime.logs import Redactor
from mahavishnu.runtime.route_table import RouteTable
from mahavishnu.runtime.service import Service
from mahavishnu.runtime.spans import Facts
from mahavishnu.runtime.traced_log import refusal
from mahavishnu.series import UNMATCHED

if TYPE_CHECKING:
    from mahavishnu.runtime.traces import Trace, Tracing

_NOTHING: Facts = {}


class TracedEdition(Edition):
    """An Edition whose requests are traced; their spans end with their line of the log.

    What a span says are OpenTelemetry's semantic conventions for HTTP servers, and no more than the log does: never a
    query, a header or a body, nor what the spec wants redacted there.
    """

    def __init__(
        self,
        app: Any,
        service: Service,
        routes: RouteTable,
        identify: Identify | None,
        ids: Iterator[str],
    ) -> None:
        super().__init__(app, service, routes, identify, ids)
        self._tracing = cast("Tracing", service.tracing)
        hidden = Redactor(service.spec.observability.logs.redact).hides
        self._said = {name: not hidden(name) for name in ("path", "client")}
        self._untraced, self.inside = self.inside, self._traced
        self._around = True

    def passage(self, scope: Scope, send: Send) -> Passage:
        """The request that begins now, with its span."""
        made = super().passage(scope, send)
        made.trace = self._begin(scope, *made.plan.key, made.path, self._whose(made.request_id, made.caller))
        return made

    async def websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A websocket, from its handshake to its end, with its span."""
        found = self._routes.find(scope)
        route = UNMATCHED if found is None else found.template
        span = self._begin(scope, route, "GET", scope["path"])
        around, fault = span.enter(), ""
        try:
            await super().websocket(scope, receive, send)
        except Exception as error:
            fault = type(error).__name__
            raise
        finally:
            span.leave(around)
            span.end({}, fault)

    def _log_websocket(self, admission: Admission, fault: Mapping[str, str]) -> None:
        super()._log_websocket(admission, fault)
        self._tracing.tell(self._whose(admission.request_id, admission.caller))
        if admission.refused is not None:
            self._tracing.note("mahavishnu.limit.refused", refusal(admission.refused))

    async def _traced(self, scope: Scope, receive: Receive, send: Send) -> None:
        span = cast("Passage", CURRENT.get()).trace
        around = span.enter()
        try:
            await self._untraced(scope, receive, send)
        finally:
            span.leave(around)

    def _begin(self, scope: Scope, route: str, method: str, path: str, facts: Facts = _NOTHING) -> Trace:
        """The span of what begins, with what is said of it, and these facts."""
        name = "HTTP" if method == "_OTHER" else method
        said = {
            "http.request.method": method,
            "http.route": route,
            "url.scheme": scope.get("scheme", "http"),
            **({"url.path": path} if self._said["path"] else {}),
        }
        return self._tracing.request(
            name if route == UNMATCHED else f"{name} {route}",
            {**said, **facts},
            scope["headers"],
            trusted=self._proxies and self._identity.proxied(scope),
        )

    def _whose(self, request_id: str, caller: Caller) -> Facts:
        client = {"client.address": caller.address} if self._said["client"] else {}
        return {"mahavishnu.request_id": request_id, **client}
