"""What people write into a generated page, between two marks: it outlives every generation."""

from __future__ import annotations

BEGIN = "<!-- notes: from here to the next mark the page is yours, and is kept -->"
END = "<!-- end of the notes: what follows is generated -->"
_BEGIN, _END = (f"\n{mark}\n".encode() for mark in (BEGIN, END))


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
    begin, end = page.find(_BEGIN), page.rfind(_END)
    start = begin + len(_BEGIN) - 1  # the line break before the end may be the one after the beginning
    return (page[:start], page[start:end], page[end:]) if begin >= 0 and start <= end else None
