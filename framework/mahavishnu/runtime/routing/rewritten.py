"""A request that the app's own middleware has changed: its limits were chosen by what its client has sent."""

from __future__ import annotations

from mahavishnu.protocols import Scope
from mahavishnu.runtime.context import current_request
from mahavishnu.runtime.requests.exchange import Exchange
from mahavishnu.runtime.service import method_label

_HELP = (
    "a middleware inside of Hardening changes the path or method of requests: their limits, series and log lines are "
    "those of what the client has sent. Put Hardening inside of it, and name it in `service.outside`"
)


def told(scope: Scope) -> None:
    """Say so in the log, once for each process, if this is one."""
    request = current_request()
    if not isinstance(request, Exchange) or request.service is None or scope["type"] != "http":
        return
    state = request.service.process_state
    sent = request.path, request.plan.key[1]
    if state.rewritten or (scope["path"], method_label(scope["method"])) == sent:
        return
    state.rewritten = True
    request.service.log.warning("rewritten inside", route=request.plan.key[0], help=_HELP)
