"""What the parser complains of, in words that help, and where the mistake is, which may be long before."""

from __future__ import annotations

import re
from typing import Any

from mahavishnu.ground import codes
from mahavishnu.loading.nodes import Mark
from mahavishnu.loading.stopped import Stopped

_ADVICE = (
    ("mapping values are not allowed", "quote a text that contains `: `, and look at the indentation"),
    ("expected ',' or", "a bracket is not closed, or a comma is missing"),
    ("expected <block end>", "look at the indentation: this line does not fit the lines above"),
    ("could not find expected ':'", "write `key: value`, with a space after the colon"),
    ("cannot start any token", "quote a text that begins with such a character"),
    ("scanning an alias", 'put a text that begins with `*` in quotes, like `"*"`'),
    ("scanning an anchor", 'put a text that begins with `&` in quotes, like `"&"`'),
)

_NUMBER_SIGN = "put a text that begins with `#` in quotes"
HIDING = f"` #` begins a comment: {_NUMBER_SIGN}"
_BRACKETED = 'put a text with `{` or `[` in it in quotes, like `"/orders/{id}"`'
_LONGEST = (
    1000  # no line of a person's is longer, and what is looked for in it may take with its length squared
)
_QUOTED = re.compile(r'"(?:\\.|[^"\\])*"|' r"'[^']*'")
_BEGINS = re.compile(r"(?<=\s)#")
_WORD = re.compile(r"[^\s,\"'{}\[\]]+|[{\[][^\s,\"'{}\[\]]*[}\]]")
"""A piece of a text without spaces: one without brackets, or one in a pair of them."""


def broken(fault: Any, lines: tuple[str, ...] = ()) -> Stopped:
    """What this fault of ruamel's means in a text of these lines."""
    began, mark = _mark(fault.context_mark), _mark(fault.problem_mark or fault.context_mark)
    said = ", ".join(str(part) for part in (fault.context, fault.problem) if part)
    if "quoted scalar" in said and "end of stream" in said:
        return Stopped(
            codes.SYNTAX, began, "this is not YAML: a quote that is never closed", "close the quote"
        )
    if "flow" in said and (comment := _hiding_comment(lines, began, mark)):
        what = "this is not YAML: ` #` begins a comment, which hides a bracket"
        return Stopped(codes.SYNTAX, comment, what, _NUMBER_SIGN)
    if word := _bracketed(lines, mark):
        what = "this is not YAML: a text with a bracket in it stands without quotes"
        return Stopped(codes.SYNTAX, word, what, _BRACKETED)
    if "\\t" in said:
        indents = not "".join(lines[mark.line - 1 : mark.line])[: mark.column - 1].strip()
        what = "a tab stands here; a spec is read with spaces only"
        return Stopped(
            codes.SYNTAX, mark, what, "indent with spaces" if indents else "write a space in its place"
        )
    advice = next((help for words, help in _ADVICE if words in said), "")
    opened = "".join(lines[began.line - 1 : began.line])[began.column - 1 : began.column]
    if "expected ',' or" in said and opened in ("{", "["):
        advice = f"the `{opened}` of line {began.line} is not closed, or a comma is missing"
    return Stopped(codes.SYNTAX, mark, f"this is not YAML: {said}", advice)


def _mark(place: Any) -> Mark:
    return Mark(place.line + 1, place.column + 1) if place else Mark(1, 1)


def _hiding_comment(lines: tuple[str, ...], began: Mark, end: Mark) -> Mark | None:
    """The last comment before the end that looks like a value, and holds a bracket which therefore closes nothing."""
    first = began.line if began.line < end.line else 1
    for number in range(min(end.line, len(lines)), first - 1, -1):
        bare = _QUOTED.sub(lambda quoted: "q" * len(quoted[0]), lines[number - 1][:_LONGEST])
        found = _BEGINS.search(bare)
        comment = bare[found.end() :] if found else ""
        if found and comment[:1].strip() and ("}" in comment or "]" in comment):
            return Mark(number, found.start() + 1)
    return None


def _bracketed(lines: tuple[str, ...], mark: Mark) -> Mark | None:
    """The text like `/orders/{id}` within which a bracket, or what comes after one, stopped the parser."""
    line, at = "".join(lines[mark.line - 1 : mark.line])[:_LONGEST], mark.column - 1
    pieces: list[re.Match[str]] = []
    for piece in _WORD.finditer(line):
        if pieces and pieces[-1].end() != piece.start():
            if pieces[0].start() < at < pieces[-1].end():
                break
            pieces = []
        pieces.append(piece)
    inside = pieces and pieces[0].start() < at < pieces[-1].end()
    bracketed = [piece[0][0] in "{[" for piece in pieces]
    if not inside or not any(bracketed) or all(bracketed):
        return None
    start = pieces[0].start()
    return Mark(mark.line, start + 1, pieces[-1].end() - start)
