"""A text that is cut where it is too long to be read in a sentence."""

from __future__ import annotations


def short(text: str, most: int = 60) -> str:
    """The text, with `…` in place of its end where it has more characters than `most`."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
