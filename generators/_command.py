"""A command that a page tells people to type."""

from __future__ import annotations

from typing import NamedTuple


class Command(NamedTuple):
    """What it is for, and the words to type in the folder of the spec."""

    purpose: str
    text: str
