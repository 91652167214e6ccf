"""An explicit loop over the attempts of a call, for code that no decorator can wrap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Self

from mahavishnu.protocols import Leaf, Outcome
from mahavishnu.runtime.calls.blocks import between
from mahavishnu.runtime.calls.call import Call
from mahavishnu.runtime.calls.dependency import DependencyGuard


class Attempts:
    """`async for attempt in …: with attempt:`, or `for`: a loop that says that repeating does no harm."""

    def __init__(self, guard: Callable[[], DependencyGuard]) -> None:
        self._find = guard
        self._call: Call | None = None
        self._pause: int | None = 0  # None: the last attempt is over

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Attempt:
        call = self._next()
        if call is None:
            raise StopIteration
        if self._pause:
            self._clock.pause(self._pause)
        call.enter()
        return Attempt(self, call, watched=False)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Attempt:
        call = self._next()
        if call is None:
            raise StopAsyncIteration
        if self._pause:
            await self._clock.sleep(self._pause)
        await call.enter_async()
        call.lift()  # until it is used, and perhaps it never is
        return Attempt(self, call, watched=True)

    def ended(self, pause: int | None) -> None:
        """The attempt is over: the pause before the next one, or None: that was the last."""
        self._pause = pause

    def _next(self) -> Call | None:
        if self._call is not None and self._call.active:
            self._call.end(Outcome.CANCELLED)
            raise RuntimeError("an attempt must be used: `with attempt: …`")
        if self._pause is None:
            return None
        if self._call is None:
            guard = self._find()
            self._clock = guard.clock
            self._call = guard.calls(guard, True)
        return self._call


class Attempt:
    """One attempt of an explicit loop: a context manager that keeps back what will be tried again."""

    __slots__ = ("_attempts", "_call", "_watched", "number")

    def __init__(self, attempts: Attempts, call: Call, *, watched: bool) -> None:
        self._attempts = attempts
        self._call = call
        self._watched = watched
        self.number = call.attempt

    def __enter__(self) -> Self:
        if self._watched and not between(1):
            self._call.watch()
        return self

    def __exit__(self, kind: object, fault: BaseException | None, trace: object) -> bool:
        pause: int | None = None
        if not self._call.watched:
            self._call.outlasted(streams=self._watched)
        try:
            pause = self._call.answered(None) if fault is None else self._call.failed(fault)
        finally:
            self._attempts.ended(pause)
        return pause is not None

    def __del__(self) -> None:
        call = self._call
        if call.active and call.attempt == self.number:  # the loop was left before it was used
            call.guard.drop(call, _UNUSED)


_UNUSED: Sequence[Leaf] = ((Outcome.CANCELLED, frozenset()),)
