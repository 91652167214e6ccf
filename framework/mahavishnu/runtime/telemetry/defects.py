"""An error that nobody has foreseen, for the log: where it was raised, and of what; never its text."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from traceback import walk_tb
from typing import cast

from mahavishnu.outcomes.faults import why

_FRAMES, _OUTER = 15, 4
_CAUSES, _OF_A_CAUSE = 3, 3
_ROOM = 2500
"""Characters of a traceback: with all else its line is one that a pipe takes in one piece."""
_LONGEST = 300
_AROUND = frozenset(("mahavishnu", "starlette", "fastapi"))
"""Whose frames stand between the service's own, and say nothing."""


def noted(error: BaseException) -> tuple[str, ...]:
    """Its traceback, an entry for each place, with the errors that it was made of.

    The text of an error may hold what a client has sent, so only kinds are named. No file is read, and nothing here
    holds on to the error.
    """
    lines = [*_frames(error)]
    if len(lines) > _FRAMES:
        lines = [*lines[:_OUTER], f"... {len(lines) - _FRAMES} more", *lines[_OUTER - _FRAMES :]]
    lines.append(why(error))
    for cause in islice(_causes(error), _CAUSES):
        lines += [f"caused by {why(cause)}", *[*_frames(cause)][-_OF_A_CAUSE:]]
    return tuple(_fitting(lines))


def _fitting(lines: list[str]) -> list[str]:
    """Those at the end that there is room for."""
    kept, room = list[str](), _ROOM
    for one in reversed(lines):
        line = one[-_LONGEST:]
        room -= len(line)
        if room < 0:
            break
        kept.insert(0, line)
    return kept


def _frames(error: BaseException) -> Iterator[str]:
    """Where it went through, the outermost first."""
    for frame, line in walk_tb(error.__traceback__):
        if str(frame.f_globals.get("__name__")).partition(".")[0] not in _AROUND:
            yield f"{frame.f_code.co_filename}:{line} in {frame.f_code.co_name}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """What it was made of, or raised beside; those in a group."""
    seen, waiting = {id(error)}, [error]
    while waiting:
        one = waiting.pop(0)
        group = cast("BaseExceptionGroup[BaseException]", one)
        inner = group.exceptions if isinstance(one, BaseExceptionGroup) else ()
        context = None if one.__suppress_context__ else one.__context__
        for other in (*inner, one.__cause__ or context):
            if other is not None and id(other) not in seen:
                seen.add(id(other))
                waiting.append(other)
                yield other
