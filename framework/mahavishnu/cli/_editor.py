"""The JSON Schema that an editor reads beside a spec: written by `init`, and anew where an earlier version wrote it."""

from __future__ import annotations

import re
from pathlib import Path

from mahavishnu import __version__
from mahavishnu.files.versions import later

SCHEMA = Path(".mahavishnu/schema.json")
_MARK = re.compile(r'"\$comment": "mahavishnu ([^"]*)"')
_HEAD = 1000


def text() -> str:
    """What stands in it."""
    from mahavishnu.loading import schema

    return schema.text(f"mahavishnu {__version__}")


def write(home: Path) -> None:
    """Write it for the spec in this folder."""
    file = home / SCHEMA
    file.parent.mkdir(exist_ok=True)
    file.write_text(text(), encoding="utf-8")


def refresh(home: Path) -> bool:
    """Write it anew where it is there and an earlier version wrote it; whether that was done."""
    file = home / SCHEMA
    if not file.is_file():
        return False
    with file.open(encoding="utf-8", errors="replace") as opened:
        said = _MARK.search(opened.read(_HEAD))
    if said and (said[1] == __version__ or later(said[1], __version__)):
        return False
    write(home)
    return True
