"""One spec at work on requests, each of which has a span."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from mahavishnu.protocols import Receive, Scope, Send
from mahavishnu.runtime.context import current_request
from mahavishnu.runtime.edition import Edition
from mahavishnu.runtime.limits.admission import Admission
from mahavishnu.runtime.requests.exchange import Exchange
from mahavishnu.runtime.requests.identity import Identify
from mahavishnu.runtime.routing.table import RouteTable
from mahavishnu.runtime.service import Service
from mahavishnu.runtime.telemetry.redaction import Redactor
from mahavishnu.runtime.tracing.log import refusal
from mahavishnu.series import UNMATCHED

if TYPE_CHECKING:
    from mahavishnu.runtime.tracing.traces import Trace, Tracing


class TracedEdition(Edition):
    """An Edition whose requests are traced; their spans end with their line of the log.

    What a span says are OpenTelemetry's semantic conventions for HTTP servers, and no more than the log does: never a
    query, a header or a body, nor what the spec wants redacted there.
    """

    def __init__(self, app: Any, service: Service, routes: RouteTable, identify: Identify | None) -> None:
        super().__init__(app, service, routes, identify)
        self._tracing = cast("Tracing", service.tracing)
        hidden = Redactor(service.spec.observability.logs.redact).hides
        self._said = {name: not hidden(name) for name in ("path", "client")}
        self._untraced, self.inside = self.inside, self._traced
        self.around = True

    def exchange(self, scope: Scope, send: Send) -> Exchange:
        """The request that begins now, with its span."""
        made = super().exchange(scope, send)
        made.trace = self._begin(scope, made)
        return made

    async def _converse(self, admission: Admission, scope: Scope, receive: Receive, send: Send) -> None:
        span = self._begin(scope, admission)
        around, fault = span.enter(), ""
        try:
            await super()._converse(admission, scope, receive, send)
        except Exception as error:
            fault = type(error).__name__
            raise
        finally:
            if admission.refused is not None and admission.refused.where is None:
                self._tracing.note("mahavishnu.limit.refused", refusal(admission.refused))
            span.leave(around)
            span.end({}, fault)

    async def _traced(self, scope: Scope, receive: Receive, send: Send) -> None:
        span = cast("Exchange", current_request()).trace
        around = span.enter()
        try:
            await self._untraced(scope, receive, send)
        finally:
            span.leave(around)

    def _begin(self, scope: Scope, one: Admission) -> Trace:
        """The span of what begins, with all that is said of it."""
        route, method = one.plan.key
        name = "HTTP" if method == "_OTHER" else method
        facts = {
            "http.request.method": method,
            "http.route": route,
            "url.scheme": scope.get("scheme", "http"),
            "mahavishnu.request_id": one.request_id,
            **({"url.path": scope["path"]} if self._said["path"] else {}),
            **({"client.address": one.caller.address} if self._said["client"] else {}),
        }
        return self._tracing.request(
            name if route == UNMATCHED else f"{name} {route}",
            facts,
            scope["headers"],
            trusted=self._proxies and self._identity.proxied(scope),
        )
