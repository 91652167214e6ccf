"""Where an app serves MCP with sessions, which live in the memory of one process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from mahavishnu.runtime.routing.layers import descends, layers_of
from mahavishnu.runtime.routing.routes import leaves

_SERVES = frozenset(
    {
        "fastmcp.server.http.StreamableHTTPASGIApp",
        "mcp.server.fastmcp.server.StreamableHTTPASGIApp",
        "mcp.server.streamable_http_manager.StreamableHTTPASGIApp",
    }
)


def sessions_of(app: Any) -> Iterator[str]:
    """The paths of those of FastMCP and the SDK, those of mounted apps too."""
    for path, route in leaves(app):
        layers = layers_of(getattr(route, "endpoint", None) or getattr(route, "app", None))
        server = next((one for one in layers if descends(cast("Any", type)(one), _SERVES)), None)
        if server is not None and not _stateless(server, route):
            yield path


def _stateless(server: Any, route: Any) -> bool:
    """FastMCP makes what knows it when it starts; without sessions it takes no GET, for there is nothing to hear."""
    manager, methods = server.session_manager, getattr(route, "methods", None)
    return bool(methods and "GET" not in methods) if manager is None else bool(manager.stateless)
