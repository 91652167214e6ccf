"""What a collector says of what it does not take, for a log: short, printable, and without secrets that it was sent."""

from __future__ import annotations

import re
from collections.abc import Iterable

from mahavishnu.ground.short import short

_MOST = 200
_SHORTEST = 4
"""What has fewer characters is no secret, and may be a part of any word."""
_HIDDEN = "<secret>"
# google.rpc.Status, as OTLP has its errors: a code (field 1), a message (field 2) after its length, and details.
_STATUS = re.compile(rb"(?:\x08[\x80-\xff]*[\x00-\x7f])?\x12([\x80-\xff]{0,3}[\x00-\x7f])")


def worded(reason: str, said: bytes, secrets: Iterable[str]) -> str:
    """The reason, and behind it what was said, if anything; `secrets` are the headers that were sent."""
    text = _message(said).decode("utf-8", "replace")
    for secret in sorted(_words(secrets), key=len, reverse=True):
        text = text.replace(secret, _HIDDEN)
    text = " ".join("".join(one if one.isprintable() else " " for one in text).split())
    return f"{reason}: {short(text, _MOST)}" if text else reason


def _message(said: bytes) -> bytes:
    """The message in a status; what is none is a message as a whole."""
    found = _STATUS.match(said)
    if found is None:
        return said
    length = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(found[1]))
    return said[found.end() :][:length]


def _words(secrets: Iterable[str]) -> set[str]:
    """Them, and what is in them: a server says of `Bearer …` mostly what follows."""
    words = {word for one in secrets for word in (one, *one.split()) if len(word) >= _SHORTEST}
    return words - {"Basic", "Bearer"}
