"""Which call a block of code is: a generator may begin one in one context, and end it in another."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from types import FrameType
from typing import TypeGuard

from mahavishnu.runtime.calls.call import Call, surrounding

_frame: Callable[[int], FrameType] = getattr(sys, "_getframe")  # noqa: B009 - not for everybody, says its name
_BLOCK = 3
"""How far it is from `_generator` to a block: the methods here and of the dependency are between."""
_GENERATORS = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
_ENTERS = ("__enter__", "__aenter__")


class Blocks:
    """The calls that blocks of generators have begun, by their frames. Of all others the context knows them."""

    def __init__(self) -> None:
        self._calls: dict[FrameType, list[Call]] = {}  # in one frame there may be blocks within blocks
        self._frames: dict[Call, FrameType] = {}

    def begun(self, call: Call) -> None:
        """This is the call of the block that is being entered."""
        frame = _generator()
        if frame is not None:
            self._calls.setdefault(frame, []).append(call)
            self._frames[call] = frame
            # A dependency of FastAPI that yields stands around the answer of its request.
            if call.request is not None:
                call.request.surround(call)

    def ended(self, name: str) -> Call:
        """The call of the block that is being left; raises RuntimeError where nothing tells which it is."""
        frame = _generator()
        call = self._calls[frame][-1] if frame in self._calls else _innermost(name)
        begun = self._frames.pop(call, None)
        if begun is not None:
            self._calls[begun].remove(call)
            if not self._calls[begun]:
                del self._calls[begun]
            if call.request is not None:
                call.request.leave(call)
        return call


def between(depth: int) -> bool:
    """Whether others run in the midst of the block that is being entered, so many frames above whoever asks.

    A generator hands out its parts from within the block: its task is its reader's (PEP 789). That of a context manager
    is different: what runs meanwhile is inside of it.
    """
    frame: FrameType | None = _frame(depth + 1)
    while frame is not None:
        if frame.f_code.co_flags & _GENERATORS:
            if not _of_contextlib(frame.f_back):
                return True
        elif frame.f_code.co_name not in _ENTERS and not _of_contextlib(frame):
            return False
        frame = frame.f_back
    return False


def _generator() -> FrameType | None:
    """The generator that has the block, itself or in a stack of contextlib; None where it is no generator."""
    frame: FrameType | None = _frame(_BLOCK)
    while _of_contextlib(frame):
        frame = frame.f_back
    return frame if frame is not None and frame.f_code.co_flags & _GENERATORS else None


def _of_contextlib(frame: FrameType | None) -> TypeGuard[FrameType]:
    return frame is not None and frame.f_globals.get("__name__") == "contextlib"


def _innermost(name: str) -> Call:
    """The call of this dependency that was begun last in this context and has not ended."""
    for one in surrounding():
        if isinstance(one, Call) and one.name == name:
            return one
    raise RuntimeError(f"dependency `{name}`: the block ends in another context than it began in")
