"""The marks that a merge leaves in a file, around what its two sides say otherwise."""

from __future__ import annotations

import re
from typing import NamedTuple

# The first and the last of a conflict: a line of `=======` alone is also how Markdown underlines a heading.
_MARK = re.compile(rb"^(?:<{7}|>{7})(?: [^\r\n]*)?$", re.MULTILINE)


class Unmerged(NamedTuple):
    """A mark, and the line that it is, from 1."""

    line: int
    mark: str


def unmerged(content: bytes) -> Unmerged | None:
    """The first mark that a merge has left in a file; None in one without."""
    found = _MARK.search(content.replace(b"\r\n", b"\n"))
    if found is None:
        return None
    line = found.string.count(b"\n", 0, found.start()) + 1
    return Unmerged(line, found[0].decode("utf-8", "replace"))
