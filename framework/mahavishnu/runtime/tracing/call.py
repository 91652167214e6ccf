"""A call of a dependency with a span of its own: all of its attempts and pauses, and what its policies did."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mahavishnu.errors import DependencyError
from mahavishnu.outcomes.statuses import status_of, status_of_fault
from mahavishnu.protocols import Leaf, Outcome
from mahavishnu.runtime.calls.call import Call
from mahavishnu.runtime.calls.dependency import DependencyGuard
from mahavishnu.runtime.spans import Facts
from mahavishnu.units import SECOND

if TYPE_CHECKING:
    from mahavishnu.runtime.tracing.traces import Tracing

_REFUSED = {
    "breaker": "mahavishnu.breaker.rejected",
    "bulkhead": "mahavishnu.bulkhead.full",
    "throttle": "mahavishnu.throttled",
    "timeout": "mahavishnu.deadline.passed",
}
_GOOD = frozenset(("success", "cancelled"))


def trace(guard: DependencyGuard, tracing: Tracing) -> None:
    """From now on every call of a dependency has a span, but those that are a part of another one of it."""

    def begin(client: bool, guard: DependencyGuard, repeatable: bool) -> Call:
        if guard.within():
            return Call(guard, repeatable)
        return TracedCall(guard, repeatable, tracing, client=client)

    guard.tracing = tracing
    guard.calls, guard.requests = partial(begin, False), partial(begin, True)


class TracedCall(Call):
    """A Call whose attempts are inside of its span, which ends with it, also where it is given up between two."""

    __slots__ = ("_around", "_error", "_made", "_over", "_span", "_status", "_streams", "_went")

    def __init__(self, guard: DependencyGuard, repeatable: bool, tracing: Tracing, *, client: bool) -> None:
        super().__init__(guard, repeatable)
        self._span = tracing.call(
            guard.name, {**_place(guard), "mahavishnu.dependency": guard.name}, client=client
        )
        self._around: Any = None
        self._error = ""
        self._made = 0
        self._went = "cancelled"
        self._over = self._streams = False
        self._status: int | None = None

    def enter(self) -> None:
        self._around = self._span.enter()
        super().enter()

    async def enter_async(self) -> None:
        self._around = self._span.enter()
        await super().enter_async()

    def failed(self, fault: BaseException) -> int | None:
        self._error = type(fault).__name__
        self._status = status_of_fault(fault)
        try:
            pause = super().failed(fault)
        except DependencyError as other:
            self._error = type(other).__name__
            self._finish()
            raise
        if pause is None:
            self._finish()
        return pause

    def answered(self, answer: object, failed: bool = False) -> int | None:
        self._error, self._status = "", status_of(answer)
        pause = super().answered(answer, failed)
        if pause is None:
            self._finish()
        return pause

    def wants(self, answer: object) -> bool:
        self._status = status_of(answer)
        return super().wants(answer)

    def step_out(self) -> None:
        super().step_out()
        self._streams = True
        self._span.leave(self._around)

    def end(self, outcome: Outcome, leaves: Sequence[Leaf] = (), fault: BaseException | None = None) -> None:
        """As any call's, in its span: wherever that is, and whoever it is that ends it."""
        here = self._span.enter()
        self._went = outcome
        try:
            super().end(outcome, leaves, fault)
        finally:
            self._span.leave(self._around if self._span.around(here) else here)
        if self._streams:
            self._finish()

    def _begin(self, permits: Sequence[object]) -> None:
        super()._begin(permits)
        self._made += 1
        for (policy, guard), permit in zip(self.guard.by_policy.items(), permits, strict=False):
            if guard.observed(permit):
                self._span.event(f"mahavishnu.{policy}.observed", {})

    def _turn_back(self, permits: Sequence[object], fault: BaseException) -> None:
        super()._turn_back(permits, fault)
        self._error = type(fault).__name__
        if isinstance(fault, DependencyError):
            self._went = "rejected"
            facts = {"mahavishnu.reason": fault.what, **_seconds("mahavishnu.retry_after", fault.retry_after)}
            self._span.event(_REFUSED.get(fault.policy, "mahavishnu.rejected"), facts)
        else:
            self._went = "cancelled"
        self._span.leave(self._around)
        self._finish()

    def _again(self, leaves: Sequence[Leaf], answers: Sequence[object]) -> int | None:
        here = self._span.enter()
        try:
            pause = super()._again(leaves, answers)
        finally:
            self._span.leave(here)
        if pause is not None:
            facts: Facts = {"mahavishnu.attempt": self.attempt, "mahavishnu.pause": pause / SECOND}
            self._span.event("mahavishnu.retry", {**facts, **self._end()})
        return pause

    def _end(self) -> Facts:
        """How the last attempt ended."""
        error = {"error.type": self._error} if self._error else {}
        status = {} if self._status is None else {"http.response.status_code": self._status}
        return {"mahavishnu.outcome": self._went, **status, **error}

    def _finish(self) -> None:
        if not self._over:
            self._over = True
            said = self._error or ("" if self._status is None else str(self._status)) or self._went
            error = "" if self._went in _GOOD else said
            self._span.end({**self._end(), "mahavishnu.attempts": self._made}, error)

    def __del__(self) -> None:
        # Of an answer that is dropped, who reads it says how it went.
        if hasattr(self, "_status") and not self._streams:
            self._finish()


def _place(guard: DependencyGuard) -> Facts:
    """Where it is, by the spec."""
    if guard.settings.url is None:
        return {}
    url = urlsplit(guard.settings.url)
    port = {} if url.port is None else {"server.port": url.port}
    return {"server.address": url.hostname or "", **port}


def _seconds(name: str, ns: int | None) -> Facts:
    return {} if ns is None else {name: ns / SECOND}
