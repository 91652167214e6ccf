"""The functions that dependencies of this process guard, for whoever asks them something later."""

from __future__ import annotations

import threading
from typing import Any
from weakref import WeakSet

_GUARDED = WeakSet[Any]()
_lock = threading.Lock()


def remember(operation: object) -> None:
    """It is guarded from now on, for as long as anybody has it."""
    with _lock:
        _GUARDED.add(operation)


def guarded() -> list[Any]:
    """The operations of them all."""
    with _lock:
        return [*_GUARDED]


def forget() -> None:
    """None is; for tests."""
    _GUARDED.clear()
