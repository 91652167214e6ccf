"""The headers that let one in, from a file: what is on a command line, every process of the machine can read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from mahavishnu.errors import MahavishnuError

_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)[ \t]*")


def headers(file: Path) -> Mapping[str, str]:
    """One a line, as in HTTP, by name; raises MahavishnuError, which says nothing of what is in the file."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError):
        raise MahavishnuError(f"{file} cannot be read as a file of headers") from None
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        header = _HEADER.fullmatch(line)
        if header:
            found[header[1]] = header[2]
        elif line.strip():
            raise MahavishnuError(f"{file}:{number} is no header like `Authorization: Bearer …`")
    return found
