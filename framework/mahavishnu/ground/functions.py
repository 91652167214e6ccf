"""What calling something begins: whatever can be called, functions, partials and objects with `__call__`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any


def generates(function: Callable[..., Any]) -> bool:
    """Whether calling it only begins a generator, also where contextlib has made a context manager of that."""
    called: object = getattr(type(function), "__call__", None)  # noqa: B004 - it may be a generator, too
    written_in = getattr(function, "__globals__", {}).get("__name__")
    managed = getattr(function, "__wrapped__", None) if written_in == "contextlib" else None
    return any(
        inspect.isasyncgenfunction(one) or inspect.isgeneratorfunction(one)
        for one in (function, called, managed)
    )


def is_async(function: Callable[..., Any]) -> bool:
    """Whether what it returns must be awaited, as it is `async def`."""
    while isinstance(function, functools.partial):
        function = function.func
    called: object = getattr(type(function), "__call__", None)  # noqa: B004 - it may be `async`
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)
