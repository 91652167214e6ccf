"""For an app that logs by structlog: a processor that puts the ids of the request into its lines, as into ours."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from mahavishnu.runtime.context import current_request
from mahavishnu.runtime.current import current
from mahavishnu.runtime.telemetry import logs

__all__ = ["with_request"]


def with_request(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Add `request_id` in a request, and in a process that traces `trace_id` and `span_id` of the current span.

    It belongs before what renders the lines, as in `structlog.configure(processors=[with_request, …])`. What a line
    says itself stays.
    """
    request = current_request()
    service = (request and request.service) or current()
    event = logs.with_request(logger, method, event)
    if service is None or service.tracing is None:
        return event
    return logs.with_span(service.tracing.ids, logger, method, event)
