"""The time limit of one request: until its response starts, then between the parts of a stream."""

from __future__ import annotations

from asyncio import get_running_loop
from collections.abc import Iterable
from typing import Any, Self

from mahavishnu.protocols import Clock, Decision
from mahavishnu.runtime.calls.alarm import TASK_OF, Alarm
from mahavishnu.runtime.calls.cutoff import Cutoff
from mahavishnu.runtime.limits.admission import Admission
from mahavishnu.runtime.limits.time_limit import TimeLimit

_GONE: Any = None


class Timed(Admission):
    """A request whose time is limited."""

    __slots__ = ()

    def overdue(self) -> None:
        """Its time is up, and its app is cancelled; which may hold on all the same."""
        raise NotImplementedError

    def untaken(self, refused: Decision) -> None:
        """Its client has not taken a part of its response within the idle time."""
        raise NotImplementedError

    @property
    def uploading(self) -> bool:
        """Whether its app waits for a part of its body that its client has not sent."""
        raise NotImplementedError


class Deadline(Alarm):
    """Ends a request whose response has not begun in time, where its limit is `plain`: nearly always.

    One is made for every request, by `deadline`.
    """

    __slots__ = ("of", "request")

    idle = None
    of: TimeLimit
    request: Timed

    def part(self, last: bool) -> None:  # noqa: ARG002 - as of a `Watch`
        """The response begins."""
        self.due = 0
        self.request.deadline = None

    def taking(self) -> None:
        """As of a `Watch`."""

    def ended(self, took: int) -> None:
        """The request has ended, and its response began after so many ns: count it, and let go of it.

        A timer that was called off stays with the clock until it is due, so it must not hold the request.
        """
        self.due = 0
        refused, self.request = self.request.refused, _GONE
        if not self.expired:
            self.task = _GONE
        elif hasattr(
            self, "task"
        ):  # the app held on against its cancellation: its task must not stay a cancelled one
            self.end(None)
        if refused is None:
            of = self.of
            margin = of.margin
            if margin.whole - took < margin.mark:
                _count(of, took)
            else:  # nearly always
                of.cells.allowed.value += 1

    begun = ended
    """The response begins: with that it has ended."""

    def _cancel(self) -> None:
        if self.due:
            _refuse(self.of, self.request)
            super()._cancel()
            self.request.overdue()


def deadline(clock: Clock, of: TimeLimit, request: Timed, began: int) -> Deadline:
    """The deadline of a request, which is served by the current task."""
    made = Deadline()
    made.of, made.request = of, request
    loop = get_running_loop()
    task: Any = TASK_OF(loop)
    made.task, made.cancelling = task, task.cancelling()
    made.expired = False
    delay = of.margin.whole
    request.deadline = began + delay
    clock.watch(made, loop, began, delay)
    return made


class Watch(Cutoff):
    """As `Deadline`, in all other cases: with an idle time, of a length the caller has chosen, or only observing.

    How long its caller waits, if he says so among the headers, only ever shortens the time. `trial` counts beside it.
    """

    __slots__ = ("_of", "_request", "_taking", "_trial", "idle")

    def __init__(
        self,
        clock: Clock,
        of: TimeLimit,
        request: Timed,
        headers: Iterable[tuple[bytes, bytes]],
        trial: TimeLimit | None = None,
    ) -> None:
        self._of = of
        self._trial = trial
        self._request = request
        enforced = of.limit.mode == "enforce"
        given = of.inherit and of.inherit(headers)
        delay = of.margin.whole if enforced else None
        self.idle = of.limit.idle if enforced else None
        self._taking = False
        if delay is not None and given is not None and given < delay:
            delay = given  # of a length of the caller's choice: not one that recurs
            super().__init__(clock.call_later, delay, self._given_up)
        else:
            super().__init__(clock.deadline, delay, self._too_late)
        if delay is not None:
            request.deadline = request.entered + delay
        self.begin()

    def begun(self, took: int) -> Self:  # noqa: ARG002 - as of a `Deadline`
        """The response begins: the idle time does too."""
        self.part(False)
        return self

    def taking(self) -> None:
        """A part goes out: until it has gone the idle time is its client's."""
        self.part(False)
        self._taking = True

    def part(self, last: bool) -> None:
        """A part has gone: the first ends the deadline, each starts the idle time anew; the last ends that, too."""
        self._taking = False
        self._request.deadline = None  # what is called from here on has its own timeout
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.idle is not None and not last:
            self.restart(self.idle)

    def ended(self, took: int) -> None:
        """The request has ended, and its response began after so many ns: count it."""
        self.end(None)
        kept = self._request.refused is None
        if kept:
            _count(self._of, took)
        # Of one that was refused in its time nobody knows whether it would have kept that.
        if self._trial is not None and (kept or took > self._trial.margin.whole):
            _count(self._trial, took)

    def _cancel(self) -> None:
        super()._cancel()
        self._request.overdue()

    def _given_up(self) -> None:
        """The caller waits no longer: nothing that is done now reaches him."""
        if self._request.deadline is None:  # the response has begun, and this is its idle time
            self._too_late()
        elif self._request.refused is None:
            self._request.refused = self._of.given_up()

    def _too_late(self) -> None:
        if not self._taking:
            _refuse(self._of, self._request)
        elif self._request.refused is None:
            self._request.untaken(self._of.taken_too_slowly())


def _refuse(of: TimeLimit, request: Timed) -> None:
    """Whatever the app sends from now on is dropped, also when it holds on against its cancellation."""
    if request.refused is None:
        request.refused = of.sent_too_slowly() if request.uploading else of.too_slow()


def _count(of: TimeLimit, took: int) -> None:
    margin = of.margin
    left = margin.whole - took
    if left < 0:
        of.too_slow()
        return
    of.cells.allowed.value += 1
    if left < margin.mark:
        margin.left(left)
