"""What is refused of a file before any parser sees it: what is no text, too large, or would keep the parser busy."""

from __future__ import annotations

import re

from mahavishnu.files.merges import unmerged
from mahavishnu.ground import codes
from mahavishnu.ground.short import short
from mahavishnu.loading.nodes import Mark
from mahavishnu.loading.stopped import Stopped

LARGEST = 2**20
UNTAGGED = "remove it; quote the value where it is text"
_UNBROKEN = re.compile(r"[^\s,\[\]{}]{500,}")
# What YAML 1.2 does not let stand in a file, and the line breaks that only some readers see.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")


def decoded(data: bytes) -> str:
    """The text of a file; raises Stopped where it is none, or too large."""
    if len(data) > LARGEST:
        what = f"the file has {len(data):,} bytes; a spec has at most {LARGEST:,}"
        raise Stopped(codes.TOO_LARGE, Mark(1, 1), what)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        before = data[: fault.start].decode("utf-8", "replace")
        what = f"byte 0x{data[fault.start]:02x} is not UTF-8"
        raise Stopped(codes.NOT_TEXT, _after(before), what, "save the file as UTF-8") from None
    if bad := _UNPRINTABLE.search(text):
        what = f"the character U+{ord(bad[0]):04X} may not stand in a spec"
        raise Stopped(codes.NOT_TEXT, _after(text[: bad.start()]), what, "remove it")
    return text


def _after(text: str) -> Mark:
    lines = re.split(r"\r\n|\r|\n", text)
    return Mark(len(lines), len(lines[-1].removeprefix("\ufeff")) + 1)


def guarded(data: bytes, lines: tuple[str, ...]) -> None:
    """Raises Stopped for lines that are not read, whatever a parser would say of them."""
    _no_conflict(data, lines)
    _no_directives(lines)
    _no_long_tags(lines)


def _no_conflict(data: bytes, lines: tuple[str, ...]) -> None:
    """Whatever a reader of YAML says of the marks of a merge, it is not what is wrong."""
    if found := unmerged(data):
        what = f"a merge left its marks in this file, here `{short(found.mark)}`"
        help = "keep what holds of both sides, and remove the lines of `<<<<<<<`, `=======` and `>>>>>>>`"
        raise Stopped(codes.SYNTAX, Mark(found.line, 1, len(lines[found.line - 1])), what, help)


def _no_long_tags(lines: tuple[str, ...]) -> None:
    """Ruamel spells out each tag, which takes with its length squared, before anybody can refuse it."""
    for number, line in enumerate(lines, 1):
        for word in _UNBROKEN.finditer(line):
            if (place := word[0].find("!")) >= 0:
                mark = Mark(number, word.start() + place + 1, 1)
                raise Stopped(codes.TAG, mark, f"`{short(word[0][place:])}` is a tag", UNTAGGED)


def _no_directives(lines: tuple[str, ...]) -> None:
    for number, line in enumerate(lines, 1):
        if line.startswith("%"):
            raise Stopped(
                codes.DIRECTIVE, Mark(number, 1, len(line.rstrip())), f"`{short(line.split()[0])}` is a directive",
                "remove the line",
            )  # fmt: skip
        if line.strip() and not line.lstrip().startswith("#"):
            return
