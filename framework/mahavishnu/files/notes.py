"""What people write into a generated page, between two marks: it outlives every generation."""

from __future__ import annotations

import re

BEGIN = "<!-- notes: from here to the next mark the page is yours, and is kept -->"
END = "<!-- end of the notes: what follows is generated -->"
# Whatever a checkout or an editor has done to the end of their lines, the marks are found.
_BEGIN, _END = (
    re.compile(b"\n" + re.escape(mark.encode()) + rb"[ \t]*\r?(?=\n|\Z)") for mark in (BEGIN, END)
)


def placed(page: bytes) -> bool:
    """Whether a page has a place for notes."""
    return _parted(page) is not None


def written(page: bytes) -> bytes:
    """What stands between the marks; nothing in a page without them."""
    parts = _parted(page)
    return parts[1] if parts else b""


def blank(page: bytes) -> bytes:
    """The page as it was generated: nothing between the marks."""
    return carried(page, b"")


def carried(page: bytes, notes: bytes) -> bytes:
    """The page with these notes in the place of its own; a page without marks has none."""
    parts = _parted(page)
    return parts[0] + notes + parts[2] if parts else page


def _parted(page: bytes) -> tuple[bytes, bytes, bytes] | None:
    """Before, between and after the marks: the first beginning and the last end, so that notes may hold anything."""
    begin, ends = _BEGIN.search(page), [one.start() for one in _END.finditer(page)]
    if not begin or not ends or ends[-1] < begin.end():
        return None
    # The line break after the beginning is the notes' own, and may be the one before the end.
    return page[: begin.end()], page[begin.end() : ends[-1]], page[ends[-1] :]
