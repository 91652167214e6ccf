"""Reads pages: as Markdown, the fenced blocks by the marker in the comment above each, the commands of a runbook."""

from __future__ import annotations

import re
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parent.parent
MARKDOWN = MarkdownIt("commonmark").enable("table")
"""CommonMark with tables, as the places where pages are read have it."""
_BLOCK = re.compile(r"<!-- (.+?) -->\n```\w*\n(.*?)\n```", re.DOTALL)


def pages() -> tuple[Path, ...]:
    """README, and the pages that it leads to."""
    return (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))


def blocks(page: str) -> dict[str, str]:
    """The marked blocks of a page at the top of the project: marker -> text with its last newline."""
    return {marker: f"{text}\n" for marker, text in _BLOCK.findall((ROOT / page).read_text())}


def commands(page: str) -> list[str]:
    """The commands of a runbook: the lines of its blocks that begin with a program."""
    return re.findall(r"^    ((?:mahavishnu|curl|amtool|docker|kubectl) .*)$", page, re.MULTILINE)
