"""How findings reach a person or a machine: full, concise, json, sarif, github."""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any, TextIO

from mahavishnu import __version__
from mahavishnu.errors import Finding, Level, Where

_WIDEST = 160
_RED, _YELLOW, _BLUE, _BOLD, _PLAIN = "\x1b[1;31m", "\x1b[1;33m", "\x1b[1;34m", "\x1b[1m", "\x1b[0m"


class Format(StrEnum):
    """How findings are written."""

    FULL = "full"
    CONCISE = "concise"
    JSON = "json"
    SARIF = "sarif"
    GITHUB = "github"


def report(findings: Sequence[Finding], form: Format = Format.FULL) -> None:
    """Write findings: for people on stderr, for machines on stdout, also when there are none."""
    if form in (Format.FULL, Format.CONCISE):
        text = full(findings, coloured(sys.stderr)) if form is Format.FULL else concise(findings)
        print(text, end="", file=sys.stderr)
    else:
        print(
            {Format.JSON: as_json, Format.SARIF: as_sarif, Format.GITHUB: as_github}[form](findings), end=""
        )


def as_file(text: str) -> None:
    """Print what is a file, or several: in UTF-8, as files are, whatever the terminal speaks."""
    if reconfigure := getattr(sys.stdout, "reconfigure", None):
        reconfigure(encoding="utf-8")
    print(text, end="")


def count(number: int, noun: str, several: str = "") -> str:
    """`1 file`, `2 files`; `several` is the noun of more than one where it is no plain plural."""
    return f"{number} {noun if number == 1 else several or f'{noun}s'}"


def verdict(findings: Iterable[Finding], strict: bool = False) -> int:
    """The exit code of a run: 1 for an error, with `strict` for a warning too, else 0."""
    return int(any(strict or finding.severity is Level.ERROR for finding in findings))


def coloured(stream: TextIO) -> bool:
    """Whether colour may be written: on a terminal, unless NO_COLOR is set (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def full(findings: Sequence[Finding], colour: bool = False) -> str:
    """Each finding with its line, a caret under the token, and help."""
    return "\n".join(_block(finding, colour) for finding in findings)


def concise(findings: Sequence[Finding]) -> str:
    """One line for each finding."""
    return "".join(
        f"{_place(one)}{one.severity}[{one.code}]: {printable(_sentence(one))}\n" for one in findings
    )


def as_json(findings: Sequence[Finding]) -> str:
    """An array of objects, one for each finding; without a place `file`, `line` and `column` are null."""
    return json.dumps([_object(finding) for finding in findings], indent=2) + "\n"


def as_github(findings: Sequence[Finding]) -> str:
    """Workflow commands, which GitHub shows at the line of the pull request."""
    return "".join(_command(finding) for finding in findings)


def as_sarif(findings: Sequence[Finding]) -> str:
    """SARIF 2.1.0, for code scanning."""
    driver = {
        "name": "mahavishnu",
        "version": __version__,
        "rules": [{"id": code} for code in sorted({finding.code for finding in findings})],
    }
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_result(finding) for finding in findings],
    }
    schema = "https://json.schemastore.org/sarif-2.1.0.json"
    return json.dumps({"$schema": schema, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def printable(text: str) -> str:
    """The text without anything that could move a terminal's cursor or turn its direction."""
    return "".join(
        c if c.isprintable() else " " if c in "\t\n" else "\N{REPLACEMENT CHARACTER}" for c in text
    )


def _sentence(finding: Finding) -> str:
    return f"{finding.what} (help: {finding.help})" if finding.help else finding.what


def _place(finding: Finding) -> str:
    where = finding.where
    return f"{where.file}:{where.line}:{where.column}: " if where else ""


def _block(finding: Finding, colour: bool) -> str:
    shade = {Level.ERROR: _RED, Level.WARNING: _YELLOW}[finding.severity]
    level = _paint(f"{finding.severity}[{finding.code}]", shade, colour)
    lines = [f"{level}: {_paint(printable(finding.what), _BOLD, colour)}"]
    gutter = " " * (len(str(finding.where.line)) if finding.where else 2)
    if finding.where:
        lines += _frame(finding.where, gutter, shade, colour)
    if finding.help:
        lines.append(f"{gutter} {_paint('= help:', _BLUE, colour)} {printable(finding.help)}")
    return "\n".join(lines) + "\n"


def _frame(where: Where, gutter: str, shade: str, colour: bool) -> list[str]:
    bar = _paint("|", _BLUE, colour)
    head = f"{gutter}{_paint('-->', _BLUE, colour)} {where.file}:{where.line}:{where.column}"
    if not where.text or where.text.isspace():
        return [head]
    text, before, width = _cut(where)
    caret = _paint("^" * width, shade, colour)
    return [head, f"{gutter} {bar}", f"{where.line} {bar} {text}", f"{gutter} {bar} {' ' * before}{caret}"]


def _cut(where: Where) -> tuple[str, int, int]:
    """The line, short enough for a terminal, with the columns before the caret and under it."""
    start = where.column - 1
    left = max(0, start - _WIDEST // 2) if len(where.text) > _WIDEST else 0
    shown = printable(where.text[left : left + _WIDEST])
    before, token = shown[: start - left], shown[start - left : start - left + where.width]
    return shown, _columns(before), max(1, _columns(token))


def _columns(text: str) -> int:
    """How many columns of a terminal the text takes."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) > 0 for c in text)


def _paint(text: str, shade: str, colour: bool) -> str:
    return f"{shade}{text}{_PLAIN}" if colour else text


def _object(finding: Finding) -> dict[str, Any]:
    where = finding.where
    return {
        "severity": finding.severity,
        "code": finding.code,
        "what": finding.what,
        "help": finding.help,
        "file": where.file if where else None,
        "line": where.line if where else None,
        "column": where.column if where else None,
        "width": where.width if where else None,
    }


def _result(finding: Finding) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": finding.code,
        "level": finding.severity,
        "message": {"text": _sentence(finding)},
    }
    if where := finding.where:
        region = {
            "startLine": where.line,
            "startColumn": where.column,
            "endColumn": where.column + where.width,
        }
        location = {"artifactLocation": {"uri": where.file}, "region": region}
        result["locations"] = [{"physicalLocation": location}]
    return result


def _command(finding: Finding) -> str:
    fields = {"title": finding.code}
    if where := finding.where:
        last = where.column + where.width - 1
        fields |= {
            "file": where.file,
            "line": str(where.line),
            "col": str(where.column),
            "endColumn": str(last),
        }
    inside = ",".join(f"{key}={_escaped(value, ':,')}" for key, value in fields.items())
    return f"::{finding.severity} {inside}::{_escaped(_sentence(finding))}\n"


def _escaped(text: str, more: str = "") -> str:
    for character in f"%\r\n{more}":
        text = text.replace(character, f"%{ord(character):02X}")
    return text
