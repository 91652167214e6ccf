"""Secrets in what other programs say: they are left out, however they are written there."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from functools import partial
from urllib.parse import quote, unquote


def hiding(secrets: Iterable[str]) -> Callable[[str], str]:
    """A text without these: raw, quoted, in JSON, or in an address as Go escapes it anew."""
    known = {text for one in secrets if one for text in (one, unquote(one))}
    either = ("".join(map(_escaped, one)) for one in sorted(known, key=len, reverse=True))
    return partial(re.compile("|".join(either) or "(?!)").sub, "***")


def _escaped(char: str) -> str:
    if char.isalnum() and char.isascii():
        return char
    ways = (f"\\u{ord(char):04x}", json.dumps(char)[1:-1], quote(char, safe=""), char)
    return f"(?:{'|'.join(re.escape(way) for way in dict.fromkeys(ways))})"
