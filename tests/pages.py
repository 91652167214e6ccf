"""Reads the fenced blocks of a page, each by the marker in the comment above it."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_BLOCK = re.compile(r"<!-- (.+?) -->\n```\w*\n(.*?)\n```", re.DOTALL)


def blocks(page: str) -> dict[str, str]:
    """The marked blocks of a page at the top of the project: marker -> text with its last newline."""
    return {marker: f"{text}\n" for marker, text in _BLOCK.findall((ROOT / page).read_text())}


def commands(page: str) -> list[str]:
    """The commands of a runbook: the lines of its blocks that begin with a program."""
    return re.findall(r"^    ((?:mahavishnu|curl|amtool|docker|kubectl) .*)$", page, re.MULTILINE)
