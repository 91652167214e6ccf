"""A record of the log as it may leave: without what is secret, on one line, and within bounds."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, MutableMapping, Sequence
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any, cast

REDACTED = "[redacted]"
_ALWAYS = """
    authorization proxy-authorization cookie set-cookie password passwd passphrase secret client-secret token
    access-token refresh-token id-token auth-token x-auth-token api-key x-api-key private-key session-id x-auth-key
    x-access-token x-amz-security-token x-goog-api-key x-vault-token private-token
""".split()  # noqa: SIM905 - a table reads better than thirty quotes - a list of words reads best as words
_FRAME = ("event", "request_id", "level", "timestamp", "trace_id", "span_id")
LONGEST = 4096  # of one value, as it is written
_ROOM = 14 * 1024  # for all values of a record: with what surrounds them it stays below 16 KiB
_DEEPEST = 5
_MOST = 100


class Redactor:
    """A structlog processor: secret fields lose their value at any depth, and the record stays within bounds.

    Whatever it is given it answers: what cannot be read is said to be so, and what is too much is cut.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = {_plain(name) for name in (*_ALWAYS, *names)}

    def hides(self, name: object) -> bool:
        """Whether the value of a field of this name is never written."""
        return _plain(name) in self._names

    def __call__(self, _: Any, __: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
        room = _Room()
        frame = {key: self._clean(event[key], _DEEPEST, room) for key in _FRAME if key in event}
        return {**self._fields({key: event[key] for key in event if key not in frame}, 0, room), **frame}

    def _clean(self, value: Any, depth: int, room: _Room) -> Any:
        try:
            return self._cleaned(value, depth, room)
        except Exception as fault:  # noqa: BLE001 - nothing that is logged may take the request with it
            return room.text(_unprintable(value, fault))

    def _cleaned(self, value: Any, depth: int, room: _Room) -> Any:
        if isinstance(value, Mapping):
            fields = cast("Mapping[object, Any]", value)
            return self._fields(fields, depth + 1, room) if depth < _DEEPEST else "[too deep]"
        if isinstance(value, list | tuple):
            items = cast("Sequence[Any]", value)
            return self._items(items, depth + 1, room) if depth < _DEEPEST else "[too deep]"
        if value is None or isinstance(value, bool) or _plain_number(value):
            return room.small(value)
        return room.text(hex(value) if isinstance(value, int) else value)

    def _fields(self, fields: Mapping[Any, Any], depth: int, room: _Room) -> dict[str, Any]:
        cleaned: dict[str, Any] = {}
        for name, one in fields.items():
            if room.left <= 0 or len(cleaned) >= _MOST:
                cleaned["..."] = "[too much]"
                break
            hidden = self.hides(name)
            cleaned[room.text(_name(name), 256)] = REDACTED if hidden else self._clean(one, depth, room)
        return cleaned

    def _items(self, items: Sequence[Any], depth: int, room: _Room) -> list[Any]:
        if (
            len(items) == 2 and isinstance(items[0], str | bytes) and self.hides(items[0])
        ):  # a header, as a pair
            return [room.text(_name(items[0]), 256), REDACTED]
        cleaned: list[Any] = []
        for one in items:
            if room.left <= 0 or len(cleaned) >= _MOST:
                return [*cleaned, "[too much]"]
            cleaned.append(self._clean(one, depth, room))
        return cleaned


class _Room:
    """How much a record may still hold, in characters as they are written."""

    def __init__(self) -> None:
        self.left = _ROOM

    def text(self, value: object, longest: int = LONGEST) -> str:
        text = one_line(value, max(0, min(longest, self.left)))
        self.left -= len(_quoted(text)) + 2
        return text

    def small(self, value: Any) -> Any:
        self.left -= 26
        return value


def _plain(name: object) -> str:
    """`X-Api-Key`, `x_api_key` and `xApiKey` are one name."""
    return re.sub(r"[-_\s]", "", _name(name).lower())


def _name(name: object) -> str:
    return (
        name.decode("latin-1")
        if isinstance(name, bytes)
        else name
        if isinstance(name, str)
        else one_line(name)
    )


def _plain_number(value: object) -> bool:
    """Whether JSON can say it: no infinity, and no integer that Python would not print."""
    return (isinstance(value, int) and value.bit_length() < 64) or (
        isinstance(value, float) and math.isfinite(value)
    )


def one_line(value: object, longest: int = LONGEST) -> str:
    """A value as text on one line, at most `longest` characters once it is written as JSON."""
    try:
        text = value if isinstance(value, str) else repr(value)
    except Exception as fault:  # noqa: BLE001 - a failing __repr__ must not take the request with it
        text = _unprintable(value, fault)
    if text.isascii() and text.isprintable() and len(text) <= longest // 2:
        return text
    text = text[:longest].translate(_CONTROLS)
    while (size := len(_quoted(text))) > longest and text:
        text = text[: len(text) * longest // size]
    return text


def _unprintable(value: object, fault: Exception) -> str:
    return f"[unprintable {type(value).__name__}: {type(fault).__name__}]"


# Line breaks, escapes and lone surrogates: a value is one piece of one line, in every renderer.
_CONTROLS = dict.fromkeys(
    (*range(32), 127, *range(0x80, 0xA0), 0x2028, 0x2029, *range(0xD800, 0xE000)), "\N{REPLACEMENT CHARACTER}"
)
