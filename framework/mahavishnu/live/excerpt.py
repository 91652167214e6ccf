"""Two texts that differ, short enough for a sentence, and so that one sees where."""

from __future__ import annotations

_MOST, _BEFORE = 100, 30


def excerpts(one: str, other: str) -> tuple[str, str]:
    """Both, from a little before the place where they part; whole where they are short."""
    start = max(0, _alike(one, other) - _BEFORE)
    return _cut(one, start), _cut(other, start)


def _alike(one: str, other: str) -> int:
    """How many characters they begin with together."""
    shared = min(len(one), len(other))
    return next((at for at in range(shared) if one[at] != other[at]), shared)


def _cut(text: str, start: int) -> str:
    if len(text) <= _MOST:
        return text
    end = start + _MOST
    return f"{'…' if start else ''}{text[start:end]}{'…' if end < len(text) else ''}"
