"""The receive side of a request, read ahead where that tells who is late, or gone: its client."""

from __future__ import annotations

from asyncio import Event, Task, current_task, get_running_loop
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from typing import Any, cast

from mahavishnu.protocols import Message, Receive
from mahavishnu.runtime.calls.alarm import Alarm

Gone = Callable[[], Coroutine[Any, Any, None]]
"""What ends when a client has gone."""


class ClientGone(Exception):
    """The client has hung up before anybody has worked for it."""


class Upload:
    """`waits` while the app asks for more of a body that is not whole: then it is the client who is late."""

    __slots__ = ("_ahead", "_receive", "_whole", "waits")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._ahead: list[Message] = []
        self._whole = self.waits = False

    async def __call__(self) -> Message:
        """The next message."""
        if self._ahead:
            return self._ahead.pop()
        if self._whole:
            return await self._receive()
        self.waits = True
        try:
            message = await self._receive()
        finally:
            self.waits = False
        self._whole = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    async def gone(self) -> None:
        """End when the client has gone; one part of its body is read for that, and kept for the app."""
        message = await self()
        if message["type"] == "http.disconnect":
            return
        self._ahead.append(message)
        # Who sends more than a part is there.
        if not self._whole or (await self._receive())["type"] != "http.disconnect":
            await Event().wait()


class _Leaving(Alarm):
    """Ends what the current task waits for when its client goes, or sends what is refused; `why` says which."""

    __slots__ = ("_gone", "_handle", "_watching", "why")

    def __init__(self, gone: Gone) -> None:
        self.task = cast("Task[Any]", current_task())
        self.cancelling, self.due, self.expired = self.task.cancelling(), 1, False
        self.why: BaseException = ClientGone()
        self._gone = gone
        self._watching: Task[None] | None = None
        # Who does not wait after all, as where the queue is full, costs no task.
        self._handle = get_running_loop().call_soon(self._watch, context=Context())

    def end(self, error: BaseException | None) -> bool:
        """As of any alarm; nobody looks any longer."""
        self._handle.cancel()
        if self._watching is not None:
            self._watching.remove_done_callback(self._told)
            self._watching.cancel()
        return super().end(error)

    def _watch(self) -> None:
        self._watching = get_running_loop().create_task(self._gone())
        self._watching.add_done_callback(self._told)

    def _told(self, watching: Task[None]) -> None:
        if watching.cancelled():
            return
        fault = watching.exception()
        if fault is not None and not isinstance(
            fault, OSError
        ):  # by one of those a server says that it has gone
            self.why = fault
        self.expire()


async def unless_gone(gone: Gone, waiting: Awaitable[None]) -> None:
    """Wait as long as the client does; raises ClientGone, or what reading from it has raised."""
    leaving = _Leaving(gone)
    try:
        await waiting
    except BaseException as error:
        if leaving.end(error):
            raise leaving.why from None
        raise
    leaving.end(None)
