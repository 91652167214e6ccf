"""One spec at work on requests, each of which has a span."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from mahavishnu.edition import Edition
from mahavishnu.policy import Scope
from mahavishnu.runtime.context import CURRENT
from mahavishnu.runtime.exchange import Passage, Receive, Send
from mahavishnu.runtime.identity import Identify
from mahavishnu.runtime.logs import Redactor
from mahavishnu.runtime.route_table import RouteTable
from mahavishnu.runtime.service import Service
from mahavishnu.runtime.spans import Facts
from mahavishnu.series import UNMATCHED

if TYPE_CHECKING:
    from mahavishnu.runtime.traces import Tracing


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
        route, method = made.plan.key
        name = "HTTP" if method == "_OTHER" else method
        made.trace = self._tracing.request(
            name if route == UNMATCHED else f"{name} {route}",
            self._facts(scope, made),
            scope["headers"],
            trusted=self._proxies and self._identity.proxied(scope),
        )
        return made

    async def _traced(self, scope: Scope, receive: Receive, send: Send) -> None:
        span = cast("Passage", CURRENT.get()).trace
        around = span.enter()
        try:
            await self._untraced(scope, receive, send)
        finally:
            span.leave(around)

    def _facts(self, scope: Scope, made: Passage) -> Facts:
        route, method = made.plan.key
        facts: dict[str, str | int | float] = {
            "http.request.method": method,
            "http.route": route,
            "url.scheme": scope.get("scheme", "http"),
            "mahavishnu.request_id": made.request_id,
        }
        facts |= {"url.path": made.path} if self._said["path"] else {}
        return facts | ({"client.address": made.caller.address} if self._said["client"] else {})
