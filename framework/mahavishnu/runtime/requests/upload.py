"""The receive side of a request, read ahead where that tells who is late, or gone: its client."""

from __future__ import annotations

from asyncio import CancelledError, Event, Handle, Task, current_task, get_running_loop
from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import Context
from typing import Any, cast

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]


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
            return self._ahead.pop(0)
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


class _Leaving:
    """Ends what the current task waits for when its client goes, or sends what is refused."""

    def __init__(self, upload: Upload) -> None:
        self._upload = upload
        self._task = cast("Task[Any]", current_task())
        self._before = self._task.cancelling()
        self._watching: Task[None] | None = None
        self._fault: BaseException | None = None
        # Who does not wait after all, as where the queue is full, costs no task.
        self._handle: Handle = get_running_loop().call_soon(self._watch, context=Context())

    def stop(self) -> None:
        """Look no longer."""
        self._handle.cancel()
        if self._watching is not None:
            self._watching.remove_done_callback(self._end)
            self._watching.cancel()

    def fault(self) -> BaseException | None:
        """Why the task has been cancelled, where it was from here and from nowhere else."""
        mine = self._fault is not None and self._task.uncancel() <= self._before
        return self._fault if mine else None

    def _watch(self) -> None:
        self._watching = get_running_loop().create_task(self._upload.gone())
        self._watching.add_done_callback(self._end)

    def _end(self, watching: Task[None]) -> None:
        if not watching.cancelled():
            fault = watching.exception()
            self._fault = ClientGone() if fault is None or isinstance(fault, OSError) else fault
            self._task.cancel()


async def unless_gone(upload: Upload, waiting: Awaitable[None]) -> None:
    """Wait as long as the client does; raises ClientGone, or what reading its body has raised."""
    leaving = _Leaving(upload)
    try:
        await waiting
    except CancelledError:
        fault = leaving.fault()
        if fault is None:
            raise
        raise fault from None
    finally:
        leaving.stop()
