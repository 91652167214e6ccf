"""End a task's work when its time is over, for the many that seldom need it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

from mahavishnu.protocols import Clock

TASK_OF: Callable[[asyncio.AbstractEventLoop], asyncio.Task[Any] | None] = (
    asyncio.current_task if sys.version_info >= (3, 12) else getattr(asyncio.tasks, "_current_tasks").get  # noqa: B009 - not in the types
)
"""The task that a running loop runs. Before 3.12 asyncio has a function of Python between, which costs half as much
again."""


class Alarm:
    """Cancels the task that has set it when it is due. Whoever sets one ends it, in the same task.

    As asyncio.timeout has it: a cancellation from outside stays one, also when both come together. One is made for
    every call: it is ready once it has its `task`, and how often somebody was `cancelling` that already.
    """

    __slots__ = ("cancelling", "due", "expired", "task")

    task: asyncio.Task[Any]
    cancelling: int
    due: int
    expired: bool

    def end(self, error: BaseException | None) -> bool:
        """Call it off; whether the error that ends the work is the cancellation of this very alarm."""
        task = self.task
        self.due = 0
        del self.task  # with it no cycle is left for the garbage collector
        if not self.expired:
            return False
        outside = task.uncancel() > self.cancelling
        return isinstance(error, asyncio.CancelledError) and not outside

    def expire(self) -> None:
        """The time is over."""
        # By way of the loop: whoever moves a virtual clock may be another thread, or the very task.
        if self.due:
            self.task.get_loop().call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self.due:
            self.expired = True
            self.task.cancel()


def alarm(clock: Clock, now: int, delay: int, *, recurs: bool) -> Alarm | None:
    """One for the current task, so long after now (ns); None where none runs. `recurs`: the delay is one of a few."""
    loop = asyncio.get_running_loop()
    task = TASK_OF(loop)
    if task is None:
        return None
    made = Alarm()
    made.task, made.cancelling = task, task.cancelling()
    made.expired = False
    (clock.watch if recurs else clock.watch_once)(made, loop, now, delay)
    return made
