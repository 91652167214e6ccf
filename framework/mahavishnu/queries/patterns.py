"""The choices that a pattern leaves: each of its alternatives as a pattern by itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

_PART = re.compile(
    r"""\\.                              # what is escaped
    |\[\^?\]?(?:\\.|[^\]\\])*\]        # one of several characters
    |\((?:\?(?:P?<\w+>|[a-zA-Z-]*:))?  # the beginning of a group
    |[?*+]\??|\{\d+(?:,\d*)?\}\??      # how often
    |.""",
    re.VERBOSE | re.DOTALL,
)
_FLAGS = re.compile(r"\(\?[a-zA-Z]+\)")
_FLAGGED = re.compile(r"\(\?[a-zA-Z-]+:")
_OFTEN = re.compile(r"[?*+]|\{\d")
Branch = list[str]


def alternatives(pattern: str) -> tuple[str, ...]:
    """For each alternative, however deep in groups, the pattern in which it is the only one.

    A group that may be left out, or stand there several times, is kept as it is.
    """
    flags = _FLAGS.match(pattern)
    start = flags[0] if flags else ""
    parts = _PART.findall(pattern[len(start) :])
    if any(one == "(" and other.startswith("?") for one, other in pairwise(parts)):
        return (pattern,)  # what looks ahead is no pattern to Prometheus
    return tuple(start + one for one in _choices(parts)) or (pattern,)


def _choices(parts: Branch) -> Iterator[str]:
    for branch in filter(None, _branches(parts)):
        groups = [*_groups(branch)]
        if not groups:
            yield "".join(branch)
        for first, last in groups:
            for one in _choices(branch[first + 1 : last]):
                alone = f"{branch[first]}{one})" if _FLAGGED.match(branch[first]) else one
                yield "".join((*branch[:first], alone, *branch[last + 1 :]))


def _branches(parts: Branch) -> Iterator[Branch]:
    """What stands between the bars that are in no group."""
    depth, branch = 0, Branch()
    for part in parts:
        depth += _deeper(part)
        if part == "|" and not depth:
            yield branch
            branch = []
        else:
            branch.append(part)
    yield branch


def _groups(branch: Branch) -> Iterator[tuple[int, int]]:
    """Where each group with something to choose begins and ends, unless it may be left out or stand there again."""
    depth, first = 0, 0
    for place, part in enumerate(branch):
        first = place if not depth and _deeper(part) == 1 else first
        depth += _deeper(part)
        if part == ")" and not depth and not any(map(_OFTEN.match, branch[place + 1 : place + 2])):
            inside = branch[first + 1 : place]
            if "|" in inside and all(_branches(inside)):
                yield first, place


def _deeper(part: str) -> int:
    return 1 if part.startswith("(") else -1 if part == ")" else 0
