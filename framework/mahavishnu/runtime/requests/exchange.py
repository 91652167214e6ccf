"""One request and its response on their way through the middleware: what was sent, and what is added to it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from mahavishnu.protocols import Decision, Gate, Message, Receive, Scope, Send, Taken
from mahavishnu.runtime.calls.degraded import DEGRADED, said
from mahavishnu.runtime.context import Degraded
from mahavishnu.runtime.keys import Caller
from mahavishnu.runtime.limits.fields import ADDED, Header, missing, problem, speaks_rpc
from mahavishnu.runtime.limits.plan import Plan
from mahavishnu.runtime.requests.bounded import Bounded
from mahavishnu.runtime.requests.let_out import failed
from mahavishnu.runtime.requests.upload import Upload
from mahavishnu.runtime.requests.watch import Deadline, Timed, Watch
from mahavishnu.runtime.telemetry.defects import noted


class Exchange(Timed):
    """One HTTP request: exactly one start, nothing held back, headers added on the way.

    Once it is refused, the app's own answer is dropped: the refusal takes its place. `began`, `answered` (the
    response's start) and `told` (its end: what the app does after that, nobody waits for) are times of the clock
    `now`, `sent` counts the body's bytes, `fault` names what was raised. Who has `listened` has asked by GET for a
    stream of events, which lasts as long as its client likes. `refusing` is the task that answers with the refusal, or
    has tried to; `through` is what its messages go through, where that is not `send` itself. Where the app was given no
    `upload`, it asks the exchange for its messages, which come from `source`.
    """

    __slots__ = (
        "_headers", "_now", "_send", "answered", "began", "bounded", "cancelled", "fault", "head", "listened", "path",
        "refusing", "running", "sent", "source", "status", "through", "told", "traceback", "upload", "watch",
    )  # fmt: skip

    head: Sequence[Header]  # of the app's response; not there before it
    source: Receive  # not there where `upload` is from the start
    through: Send  # not there where nothing is between
    traceback: tuple[str, ...]  # not there where nothing was raised that is the app's fault

    if TYPE_CHECKING:

        def __init__(self) -> None: ...
    else:  # a class that has none of its own is quicker to call; `begin` follows
        __init__ = object.__init__

    def begin(
        self,
        scope: Scope,
        send: Send,
        plan: Plan,
        caller: Caller,
        request_id: str,
        headers: Sequence[Header],
        now: Callable[[], int],
    ) -> None:
        """A request comes; its `service` is set by whoever begins it."""
        self.scope = scope
        self.request_id = request_id
        self.caller = caller
        self.plan = plan
        self.path = scope["path"]
        self._send = send
        self._headers = headers
        self._now = now
        self.began = self.entered = now()
        self.deadline: int | None = None
        self.refused = self.aside = None
        self.taken: Taken | None = None
        self.left: tuple[int, ...] | None = None
        self.gates: list[Gate] | None = None
        self.watch: Deadline | Watch | None = None
        self.bounded: Bounded | None = None
        self.upload: Upload | None = None
        self.answered: int | None = None
        self.told: int | None = None
        self.fault: str | None = None
        self.refusing: asyncio.Task[Any] | None = None
        self.around = ()
        self.running = self.cancelled = self.listened = False
        self.status = self.sent = 0

    def __call__(self) -> Awaitable[Message]:
        """The next message for an app that was given no `upload`; one is made now, where its time is limited."""
        if self.upload is not None:
            return self.upload()
        if self.service is None:
            return _over()
        receive = self.bounded or self.source
        if self.plan.timeout is None:
            return receive()
        self.upload = Upload(receive)
        return self.upload()

    def degrade(self, one: Degraded) -> None:
        """As of any request; its response will say so."""
        super().degrade(one)
        others = (header for header in self._headers if header[0] != DEGRADED)
        self._headers = [*others, (DEGRADED, said(self.degraded.values()))]

    def send(  # noqa: C901 - each step that is a call costs every request as much
        self, message: Message
    ) -> Awaitable[None]:
        """Pass a message on, with the headers added to the start of the response."""
        if self.refused is not None:
            return self._of_the_refusal(message) if self.refusing is asyncio.current_task() else _dropped()
        kind = message["type"]
        if kind == "http.response.body":
            before, watch = self.sent, self.watch
            if "body" in message:
                self.sent = before + len(message["body"])
            if watch is not None and watch.idle is not None:
                return self._taken(message, watch)
            if "more_body" not in message or not message["more_body"]:
                if before:
                    return self._end(message)
                now = self._now
                self.told = now()  # there is nothing that a server would have to send before it
                self.listened = not self.sent and self.listens
        elif kind == "http.response.start":
            message = self._started(message)
            watch = self.watch
            if watch is not None and watch.idle is not None:
                return self._taken(message, watch)
        elif kind == "http.response.pathsend" or (
            kind == "http.response.zerocopysend" and not message.get("more_body", False)
        ):
            if self.watch is not None:
                self.watch.part(True)
            return self._end(message)
        send = self._send
        return send(message)

    async def _taken(self, message: Message, watch: Deadline | Watch) -> None:
        """Pass a message on, which waits until its client has taken what was sent before: its app does not pause."""
        watch.taking()
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            await self._end(message)
            return
        await self._send(message)
        watch.part(False)

    async def _end(self, message: Message) -> None:
        """Pass the end on, which waits until its client has taken what was sent before; for the rest nobody waits."""
        try:
            await self._send(message)
        finally:
            self.told = self._now()
            self.listened = self.listens
            if self.watch is not None:
                self.watch.part(True)

    async def refuse(self, send: Send) -> None:
        """Answer with the refusal through `send`, unless the response has begun already."""
        if self.refused is None or self.status:
            return
        self.refusing = asyncio.current_task()
        body, headers = self._problem(self.refused)
        await send({"type": "http.response.start", "status": self.refused.status, "headers": headers})
        self.status = self.refused.counted or self.refused.status
        bounded = self.bounded if self.refused.status == 413 else None
        unread = bounded is not None and not bounded.whole
        await send({"type": "http.response.body", "body": body, "more_body": unread})
        if bounded is not None:
            bounded.unread = unread
        self.refusing = None

    def overdue(self) -> None:
        """Its time is up, and its app is cancelled: its client waits no longer for one that holds on, as one that
        waits for a thread has to. What only waits for its turn ends at once."""
        if self.running and not self.status:
            self.refusing = asyncio.get_running_loop().create_task(self._beside())

    def untaken(self, refused: Decision) -> None:
        """Its client does not take the response: that is cut, which is no fault of the app."""
        self.refused, self.fault, self.cancelled = refused, "untaken", True

    @property
    def uploading(self) -> bool:
        """Whether its app waits for its client."""
        return self.upload is not None and self.upload.waits

    async def _beside(self) -> None:
        """Answer beside the app, and let that be told of: when the app ends, if it ever does, all is done."""
        with suppress(OSError):  # whom a server tells so that the client has gone
            await self.refuse(getattr(self, "through", self.send))
        if self.service is not None and self.status:
            deadline, told = self.deadline, self.told
            self.service.process_state.ended.add(self.service, self, self._now() if told is None else told)
            self.deadline, self.told = deadline, None  # whatever it still calls is late

    async def turn_away(self) -> None:
        """Answer with the refusal where nothing has been sent, and nothing stands between: as `refuse`, in short."""
        refused = cast("Decision", self.refused)
        body, headers = self._problem(refused)
        headers += self._added()
        self.answered, self.status = self._now(), refused.status
        await self._send({"type": "http.response.start", "status": refused.status, "headers": headers})
        self.sent = len(body)
        await self._send({"type": "http.response.body", "body": body})

    def _problem(self, refused: Decision) -> tuple[bytes, list[Header]]:
        """The refusal in the language of its client."""
        return problem(refused, rpc=self.plan.key[1] == "POST" and speaks_rpc(self.scope["headers"]))

    def _added(self) -> tuple[Header, ...]:
        """All headers of ours."""
        return (b"x-request-id", self.request_id.encode()), *self._headers, *self._fields()

    def _fields(self) -> tuple[Header, ...]:
        """The RateLimit fields, if it was charged."""
        if self.left is None and self.taken is not None:
            self.left = self.plan.told.numbers(self.taken)
        return () if self.left is None else self.plan.told.fields(self.left)

    def took(self) -> int | None:
        """How long the work took until the response began, or what ended it (ns); None where there was none, or it had
        to wait for the body."""
        if self.answered is not None:
            return self.answered - self.entered
        refused = self.refused
        idle = not self.running or (refused is not None and refused.status in (408, 413))
        return None if idle else self._now() - self.entered

    @property
    def listens(self) -> bool:
        """Whether its response is one that lasts as long as its client likes; to know that takes a while."""
        return self.plan.key[1] == "GET" and _is_event_stream(getattr(self, "head", ()))

    @property
    def waited(self) -> int:
        """How long who has listened waited for the events to begin (ns)."""
        return (self.began if self.answered is None else self.answered) - self.began

    @property
    def gone(self) -> bool:
        """Whether the client has gone, or waits no longer, before there was an answer."""
        refused = self.refused
        given_up = refused is not None and refused.counted is not None
        return self.answered is None and (self.cancelled or given_up)

    @property
    def broken(self) -> bool:
        """Whether its app has failed, or left its response without an end, though its client was there."""
        return self.fault is not None and not self.cancelled

    @property
    def counted(self) -> int:
        """The status that the series show: a response that its app has broken off was none."""
        return 500 if self.broken and self.told is None and self.refused is None else self.status

    @property
    def unended(self) -> bool:
        """Whether its app has ended without a response, or in the midst of one, and nobody has said why."""
        return self.refused is None and self.fault is None

    def left_so(self, *, gone: bool) -> None:
        """Remember why: its client has gone, and an app that sees it may end without a word; else it is a fault."""
        if not gone:
            self.fault = "incomplete"
        elif not self.status:
            self.cancelled = True

    def over(self) -> None:
        """The app has ended: so has its time."""
        watch, self.watch = self.watch, None
        if watch is not None:
            watch.ended((self._now() if self.answered is None else self.answered) - self.began)

    def failed(self, error: BaseException) -> None:
        """Remember how it ended: in words only, for an error holds on to everything it came from."""
        self.fault = type(error).__name__
        if self.answered is None and self.refused is None and self.taken is not None:
            self.plan.told.numbers(self.taken)  # said to nobody, but what is left is noted
        self.cancelled = not failed(error)
        if not self.cancelled:
            self.traceback = noted(error)
        if self.refusing is not None and self.refusing is not asyncio.current_task():
            self.refusing.cancel()
        status: object = self.status  # the app's word
        if not isinstance(status, int):  # which is why the server has raised
            self.status = 0
        elif self.cancelled and status == 500:  # said by what stands around the app, to nobody
            self.status = 499

    def _of_the_refusal(self, message: Message) -> Awaitable[None]:
        """Pass on a message of the refusal. The app may still run: when its time ends is none of this."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = message["headers"]
            message = {**message, "headers": [*headers, *missing(self._added(), headers)]}
        else:
            self.sent = len(message["body"])
            if not message["more_body"]:
                self.told = self._now()
        return self._send(message)

    def _started(self, message: Message) -> Message:
        """The start of the response with our headers; it ends the deadline."""
        status = message["status"]
        self.status = status if type(status) is int else _whole(status)
        now, watch = self._now, self.watch
        self.answered = now()
        if self.around:
            self.begin_answer()
        if watch is not None:
            self.deadline = None  # what is called from here on has its own timeout
            self.watch = watch.begun(self.answered - self.began)
        headers: list[Header] = [*message.get("headers", ())]  # ASGI lets them be gone after one look
        self.head = headers
        if self.gates and self.service is not None and _is_event_stream(headers):
            self.service.engine.lasting(self, self.took())
        left = self.left
        for name, _ in headers:
            if name in ADDED or not name.islower():
                headers += missing(self._added(), headers)
                break
        else:  # as `_added`, with no list between
            headers.append((b"x-request-id", self.request_id.encode()))
            if self._headers:
                headers += self._headers
            if left is not None:
                headers += self.plan.told.fields(left)
            elif self.taken is not None:
                headers += self._fields()
        message = {**message}  # which is quicker in two steps
        message["headers"] = headers
        return message


def _is_event_stream(headers: Iterable[Header]) -> bool:
    return any(
        name.lower() == b"content-type" and value.lower().startswith(b"text/event-stream")
        for name, value in headers
    )


def _whole(status: Any) -> Any:
    """The number that a server sends of an app's word; what is none is left to the server to refuse."""
    return int(status) if isinstance(status, int | float) else status


async def _over() -> Message:
    """What a task is told that its request has left behind."""
    return {"type": "http.disconnect"}


async def _dropped() -> None:
    """What an app sends that has been refused meanwhile goes nowhere."""
