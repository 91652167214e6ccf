"""What is good to know of what runs, and is no difference from the spec."""

from __future__ import annotations


class Note(str):
    """A sentence among those of differences that is none of them."""

    __slots__ = ()
