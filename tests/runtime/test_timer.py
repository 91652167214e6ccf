"""A timer of the runtime: one call at a time, for which no request is kept."""

from __future__ import annotations

from contextvars import ContextVar

from mahavishnu.runtime.timer import Timer
from mahavishnu.testing import VirtualClock

REQUEST: ContextVar[str] = ContextVar("REQUEST", default="none")


def test_it_knows_nothing_of_the_request_that_started_it() -> None:
    """Nor does it keep it alive: it runs in an empty context."""
    clock = VirtualClock()
    seen: list[str] = []
    timer = Timer(clock, lambda: seen.append(REQUEST.get()))
    token = REQUEST.set("the first")
    timer.start(10)
    REQUEST.reset(token)
    clock.advance(9)
    assert (seen, timer.running) == ([], True)
    clock.advance(1)
    assert (seen, timer.running) == (["none"], False)


def test_started_again_it_calls_once_and_later() -> None:
    clock = VirtualClock()
    seen: list[int] = []
    timer = Timer(clock, lambda: seen.append(clock.now()))
    since = clock.now()
    timer.start(10)
    clock.advance(5)
    timer.start(10)
    clock.advance(100)
    assert [one - since for one in seen] == [15]


def test_what_it_calls_may_start_it_again() -> None:
    clock = VirtualClock()
    seen: list[int] = []

    def tick() -> None:
        seen.append(len(seen))
        timer.start(10)

    timer = Timer(clock, tick)
    timer.start(10)
    for _ in range(3):
        clock.advance(10)
    timer.stop()
    clock.advance(100)
    assert (seen, timer.running) == ([0, 1, 2], False)
