"""No stack is measured on trust: each must have refused, counted, logged and ended what it says."""

from __future__ import annotations

import asyncio

from benchmarks.app import Visit, visit
from benchmarks.stacks import Build, Setup, Stack, lines_of

_NEWCOMER = 1_000_000
_RATE = Setup().requests
_ITS_OWN = (b"x-request-id", b"ratelimit", b"content-length")
_ITS_OWN_FACTS = ("duration_ms", "request_id", "timestamp", "bytes", "refused_by")
_FLOOD = 2 * _RATE + 10  # more than any window, fixed ones at their boundary included, lets through


def worked(stack: Stack, sent: int) -> None:
    """After the measurement: its metrics have seen every request, its log has a line for each."""
    if stack.counted is not None:
        seen = stack.counted()
        _holds(stack, seen == sent, f"its metrics show {seen:.0f} of {sent} requests")
    if stack.sink is not None:
        stack.flush()
        _holds(
            stack, stack.sink.size > 100 * sent, f"its log has {stack.sink.size} bytes for {sent} requests"
        )


async def refuses(stack: Stack) -> None:
    """The measured instance admits a newcomer's rate, and no more."""
    if stack.limits:
        statuses = [(await visit(stack.app, _NEWCOMER)).status for _ in range(_FLOOD)]
        admitted = statuses.count(200)
        _holds(stack, _RATE <= admitted <= 2 * _RATE, f"{admitted} of {_FLOOD} admitted at {_RATE} a minute")
        _holds(stack, statuses.count(429) == _FLOOD - admitted, f"it answers {set(statuses)}")


async def behaves(build: Build) -> None:
    """A second instance with a short deadline does everything else that the first one says of itself."""
    stack = build(Setup(deadline=0.05))
    await _logs(stack)
    if stack.times:
        _holds(stack, (await visit(stack.app, 1, "/slow")).status == 504, "a slow request is not ended")
    if stack.breaks:
        await _breaks(stack)


async def equals(ours: Stack, bound: Stack) -> None:
    """The bound does the very jobs that ours does: the same headers, log fields and numbers, let in or refused."""
    told = [await _told(stack) for stack in (ours, bound)]
    for mine, other in zip(*told, strict=True):
        _holds(bound, mine == other, f"{other}, and ours {mine}")


async def _told(stack: Stack) -> list[object]:
    if stack.sink is None:
        raise AssertionError(f"{stack.name} has no log")
    stack.sink.kept = []
    visits = [await visit(stack.app, 1, path) for path in ("/items/17", "/nowhere", *["/items/18"] * _RATE)]
    await _written(stack)
    said: list[object] = []
    for one, line in zip(visits, lines_of(stack.sink), strict=True):
        headers = {name: value for name, value in one.headers if name not in _ITS_OWN}
        facts = {name: value for name, value in line.items() if name not in _ITS_OWN_FACTS}
        said.append((one.status, headers, facts, set(line) if one.status == 200 else None))
    return said


async def _written(stack: Stack) -> None:
    """Whoever writes the lines of one turn of the event loop together has done so."""
    await asyncio.sleep(0)
    stack.flush()


async def _logs(stack: Stack) -> None:
    if stack.sink is not None:
        stack.sink.kept = []
    answers = [await visit(stack.app, client) for client in range(3)]
    ids = {_header(one, b"x-request-id") for one in answers}
    _holds(stack, len(ids) == (3 if stack.names else 1), f"request ids {ids}")
    if stack.sink is not None:
        await _written(stack)
        lines = lines_of(stack.sink)
        _holds(stack, [line["status"] for line in lines] == [200] * 3, f"it logs {lines}")
        for wanted in ("method", "path", "duration_ms", "client", "timestamp"):
            _holds(stack, all(line.get(wanted) for line in lines), f"no {wanted} in {lines}")
        if stack.names:
            _holds(stack, {line["request_id"] for line in lines} == ids, "the ids differ")


async def _breaks(stack: Stack) -> None:
    stack.payments.failing = True
    for client in range(50):
        await visit(stack.app, 100 + client)
    reached = stack.payments.reached
    _holds(stack, reached < 30, f"a failing dependency was called {reached} times")


def _header(one: Visit, name: bytes) -> str:
    return next((value.decode() for key, value in one.headers if key == name), "")


def _holds(stack: Stack, holds: bool, otherwise: str) -> None:
    if not holds:
        raise AssertionError(f"{stack.name} does not do its job: {otherwise}")
