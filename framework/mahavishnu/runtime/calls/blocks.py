"""Which call a block of code is: a generator may begin one in one context, and end it in another."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType

from mahavishnu.runtime.calls.call import Call, surrounding

_frame: Callable[[int], FrameType] = getattr(sys, "_getframe")  # noqa: B009 - not for everybody, says its name
_BLOCK = 2
"""How far from here the block is: beyond the method that `with` calls, or awaits."""


class Blocks:
    """The calls that blocks have begun, by the frame that a block is in, which both enters and leaves it.

    Stacks, and classes of one's own, enter for others in frames that have ended when they leave: then the context
    tells which call it is.
    """

    def __init__(self) -> None:
        self._calls: dict[FrameType, list[Call]] = {}  # in one frame there may be blocks within blocks
        self._frames: dict[Call, FrameType] = {}

    def begun(self, call: Call) -> None:
        """Who calls this is entering a block, for the frame around."""
        frame = _frame(_BLOCK)
        self._calls.setdefault(frame, []).append(call)
        self._frames[call] = frame

    def ended(self, name: str) -> Call:
        """The call of the block that is being left; raises RuntimeError where nothing tells which it is."""
        frame = _frame(_BLOCK)
        call = self._calls[frame][-1] if frame in self._calls else _innermost(name)
        entered = self._frames.pop(call, None)
        if entered is not None:
            self._calls[entered].remove(call)
            if not self._calls[entered]:
                del self._calls[entered]
        return call


def _innermost(name: str) -> Call:
    """The call of this dependency that was begun last in this context and has not ended."""
    for one in surrounding():
        if isinstance(one, Call) and one.name == name:
            return one
    raise RuntimeError(f"dependency `{name}`: the block ends in another context than it began in")
