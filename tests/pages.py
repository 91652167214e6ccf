"""Reads pages: as Markdown, the fenced blocks by the marker in the comment above each, the commands of a runbook."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parent.parent
MANUAL = ("README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
"""The pages for users; each block of them is run by tests/test_readme.py."""
MARKDOWN = MarkdownIt("commonmark").enable("table")
"""CommonMark with tables, as the places where pages are read have it."""
_MARKER = re.compile(r"<!-- (.+?) -->\s*")


class Block(NamedTuple):
    """A fenced block: the marker in the comment above it (empty: none), its language, and its lines."""

    page: str
    line: int
    marker: str
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def fenced(page: str) -> list[Block]:
    """Every block of a page that a reader may copy, indented ones too."""
    found: list[Block] = []
    marker = ""
    for token in MARKDOWN.parse((ROOT / page).read_text(encoding="utf-8")):
        if token.type in ("fence", "code_block"):
            line = token.map[0] + 1 if token.map else 0
            found.append(Block(page, line, marker, token.info, token.content))
        comment = _MARKER.fullmatch(token.content) if token.type == "html_block" else None
        marker = comment[1] if comment else ""
    return found


def blocks(page: str) -> dict[str, str]:
    """The marked blocks of a page at the top of the project: marker -> text with its last newline."""
    return {block.marker: block.text for block in fenced(page) if block.marker}


def inline(page: str) -> list[str]:
    """Everything of a page that stands between backticks in a sentence, a table or a list."""
    tokens = MARKDOWN.parse((ROOT / page).read_text(encoding="utf-8"))
    children = (child for token in tokens for child in token.children or ())
    return [child.content for child in children if child.type == "code_inline"]


def links(page: str) -> list[str]:
    """Where the links of a page lead."""
    tokens = MARKDOWN.parse((ROOT / page).read_text(encoding="utf-8"))
    children = (child for token in tokens for child in token.children or ())
    return [str(child.attrs["href"]) for child in children if child.type == "link_open"]


def anchors(page: Path) -> set[str]:
    """What a link may name of a page: its headings, as GitHub writes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(page: str) -> list[str]:
    """The commands of a runbook: the lines of its blocks that begin with a program."""
    return re.findall(
        r"^    ((?:(?:mahavishnu|curl|amtool|docker|kubectl) |SILENCE=).*)$", page, re.MULTILINE
    )
