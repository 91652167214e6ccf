"""The request that an MCP server answers with a tool's call, where its SDK runs that in the context of another one."""

from __future__ import annotations

import sys
from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any, cast

from mahavishnu.protocols import Scope

_SDK = "mcp.server.lowlevel.server"


def answered() -> Scope | None:
    """Its scope, as MCP's SDK says before its version 2; None where no such SDK answers one.

    There all calls of a session are in the context of the request that opened it.
    """
    told: ContextVar[Any] | None = getattr(sys.modules.get(_SDK), "request_ctx", None)
    request: object = None if told is None else getattr(told.get(None), "request", None)
    scope: object = getattr(request, "scope", None)
    return cast("Scope", scope) if isinstance(scope, MutableMapping) else None
