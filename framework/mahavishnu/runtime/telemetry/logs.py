"""The service's log: one line for each event, JSON for machines, with what is secret left out."""

from __future__ import annotations

import json
import logging
import math
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from functools import partial
from json.encoder import encode_basestring_ascii as _quoted
from select import PIPE_BUF
from typing import Any, Protocol, TextIO, cast

import structlog

from mahavishnu.protocols import Decision
from mahavishnu.runtime import context
from mahavishnu.runtime.keys import Caller
from mahavishnu.runtime.spans import Ids
from mahavishnu.runtime.telemetry.outlet import Outlet
from mahavishnu.spec import Logs
from mahavishnu.units import SECOND

Log = structlog.typing.FilteringBoundLogger
REDACTED = "[redacted]"
_ALWAYS = """
    authorization proxy-authorization cookie set-cookie password passwd passphrase secret client-secret token
    access-token refresh-token id-token auth-token x-auth-token api-key x-api-key private-key session-id x-auth-key
    x-access-token x-amz-security-token x-goog-api-key x-vault-token private-token
""".split()  # noqa: SIM905 - a table reads better than thirty quotes - a list of words reads best as words
_FRAME = ("event", "request_id", "level", "timestamp", "trace_id", "span_id")
_LONGEST = 4096  # of one value, as it is written
_ROOM = 14 * 1024  # for all values of a record: with what surrounds them it stays below 16 KiB
_DEEPEST = 5
_MOST = 100
_SHORT = _LONGEST // 2  # what is no longer than this, and plain, is written as it is
# Numbers that are looked up are written in a fifth of the time that formatting them takes.
_THREE = tuple(f"{number:03d}" for number in range(1000))
_THOUSANDTHS = tuple(
    repr(number / 1000)[1:] for number in range(1000)
)  # `.5`, not `.500`, as a float is written


Find = Callable[[], Ids | None]
"""The ids of the span that is current, if one is."""


def outlet(stream: TextIO | Outlet | None) -> Outlet:
    """Where lines go that are written to this stream; by default to the standard output."""
    return stream if isinstance(stream, Outlet) else Outlet(stream or sys.stdout)


def logger(settings: Logs, stream: TextIO | Outlet | None = None, ids: Find | None = None) -> Log:
    """A logger as the spec asks for it; the process's own structlog configuration is left alone."""
    wrapped: Log = structlog.wrap_logger(
        _Lines(outlet(stream)),
        processors=[
            with_request,
            *([] if ids is None else [partial(with_span, ids)]),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            Redactor(settings.redact),
            *_renderers(settings),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_number(settings.level)),
        cache_logger_on_first_use=True,
    )
    return wrapped


class _Planned(Protocol):
    @property
    def key(self) -> tuple[str, str]: ...


class Served(Protocol):
    """What the log says of one request; `sent` are the bytes of the response's body."""

    @property
    def plan(self) -> _Planned: ...
    @property
    def path(self) -> str: ...
    @property
    def status(self) -> int: ...
    @property
    def caller(self) -> Caller: ...
    @property
    def sent(self) -> int: ...
    @property
    def refused(self) -> Decision | None: ...
    @property
    def fault(self) -> str | None: ...
    @property
    def broken(self) -> bool: ...
    @property
    def request_id(self) -> str: ...


class AccessLog:
    """One `request` event for each request, an error from 500 on and where its app has failed.

    `flush` writes those that are held back, and says how many lines were lost before them.

    A JSON line is encoded here, byte for byte as the logger would, in a fraction of its time. What this does not
    cover goes through the logger: text for people, fields that are to be redacted.
    """

    def __init__(self, settings: Logs, stream: TextIO | Outlet | None = None) -> None:
        self._outlet = outlet(stream)
        self._log = logger(settings, self._outlet)
        least = _number(settings.level)
        self._asked = [name for name, level in _LEVELS.items() if level >= least]
        hidden = Redactor(settings.redact).hides
        self._direct = settings.format == "json" and not any(hidden(name) for name in _ACCESS)
        self._heads: dict[tuple[str, str], str] = {}
        self._second = -1
        self._stamp = ""
        self._lines: list[str] = []

    def add(self, one: Served, took: int, at: int) -> None:
        """Add the event of a request that took so many ns and ended at `at` (ns since 1970), if the level asks."""
        level = "error" if one.status >= 500 or (one.fault is not None and one.broken) else "info"
        if level not in self._asked:
            return
        if self._direct:
            self._lines.append(self._line(one, took, at, level))
        else:
            facts = {**_facts(one, took), **self._ids(one)}
            getattr(self._log, level)("request", **facts, request_id=one.request_id)

    def flush(self) -> None:
        """Write and drop the lines. A log that cannot be written (no space, nobody reading) costs no request."""
        if count := len(self._lines):
            lines = self._lines[:count]
            del self._lines[:count]  # what other threads have added meanwhile stays
            if self._outlet.lost:
                self._tell_lost()
            for text in _pieces(lines):
                self._outlet.write(text)

    def _tell_lost(self) -> None:
        if self._outlet.takes():
            lost, self._outlet.lost = self._outlet.lost, 0
            self._log.warning("log lines lost", lines=lost)

    def _line(self, one: Served, took: int, at: int, level: str) -> str:
        key, path = one.plan.key, one.path
        second, ns = divmod(at, SECOND)
        if second != self._second:
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = second
        if not path.isascii() or not path.isprintable() or len(path) > _SHORT:
            path = _text(path)
        unusual = "" if one.refused is None and one.fault is None else _unusual(one)
        took_us, us = took // 1000, ns // 1000
        return (
            f"{self._heads.get(key) or self._head(key)}{_quoted(path)}, "
            f'"status": {one.status}, "duration_ms": {took_us // 1000}{_THOUSANDTHS[took_us % 1000]}, '
            f'"client": "{one.caller.address}", '
            f'"bytes": {one.sent}{unusual}, "event": "request", "request_id": "{one.request_id}", '
            f'"level": "{level}", "timestamp": "{self._stamp}.{_THREE[us // 1000]}{_THREE[us % 1000]}Z"}}\n'
        )

    def _ids(self, one: Served) -> dict[str, str]:  # noqa: ARG002 - where it is traced there are some
        """Fields of its own that the log of a process has."""
        return {}

    def _head(self, key: tuple[str, str]) -> str:
        route, method = key
        head = f'{{"method": {_quoted(method)}, "route": {_quoted(_text(route))}, "path": '
        self._heads[key] = head
        return head


def _pieces(lines: list[str]) -> Iterator[str]:
    """The lines in pieces that the system writes at once: other workers write to the same pipe, between two."""
    text = "".join(lines)
    if len(text) <= PIPE_BUF:
        yield text
        return
    piece, room = list[str](), PIPE_BUF
    for line in lines:
        if len(line) > room and piece:
            yield "".join(piece)
            piece, room = [], PIPE_BUF
        piece.append(line)
        room -= len(line)
    yield "".join(piece)


def _facts(one: Served, took: int) -> dict[str, Any]:
    """The fields of the event, in their order."""
    route, method = one.plan.key
    facts: dict[str, Any] = {
        "method": method,
        "route": route,
        "path": one.path,
        "status": one.status,
        "duration_ms": took // 1000 / 1000,
        "client": one.caller.address,
        "bytes": one.sent,
    }
    facts |= refusal(one.refused)
    if one.fault is not None:
        facts["error"] = one.fault
        facts |= traceback(getattr(one, "traceback", ()))
    return facts


def refusal(refused: Decision | None) -> dict[str, str]:
    """The fields of what refused, if anything did, and of the spec's line where that is said."""
    if refused is None:
        return {}
    return {"refused_by": refused.limit} | ({"where": refused.where} if refused.where else {})


def traceback(lines: Sequence[str]) -> dict[str, list[str]]:
    """The field of an error that nobody has foreseen, if there was one."""
    return {"traceback": [_text(line) for line in lines]} if lines else {}


def _unusual(one: Served) -> str:
    """The fields that most events lack, as they stand in the line."""
    refused = "" if one.refused is None else f', "refused_by": {_quoted(one.refused.limit)}'
    if one.refused is not None and one.refused.where:
        refused += f', "where": {_quoted(_text(one.refused.where))}'
    if one.fault is None:
        return refused
    raised = traceback(getattr(one, "traceback", ()))
    more = "".join(f', "{name}": {json.dumps(value)}' for name, value in raised.items())
    return f'{refused}, "error": {_quoted(_text(one.fault))}{more}'


_LEVELS = {"info": logging.INFO, "error": logging.ERROR}  # of a request's event
_ACCESS = """
    method route path status duration_ms client bytes refused_by where error traceback event request_id level
    timestamp trace_id span_id
""".split()  # noqa: SIM905 - a table reads better than thirty quotes


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

    def text(self, value: object, longest: int = _LONGEST) -> str:
        text = _text(value, max(0, min(longest, self.left)))
        self.left -= len(_quoted(text)) + 2
        return text

    def small(self, value: Any) -> Any:
        self.left -= 26
        return value


class _Lines:
    """What structlog hands its lines to."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet

    def msg(self, message: str) -> None:
        """Write one line."""
        self._outlet.write(f"{message}\n")

    log = debug = info = warn = warning = fatal = failure = err = error = critical = exception = msg


def with_request(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: the id of the request that is being served."""
    if request_id := context.request_id():
        event.setdefault("request_id", request_id)
    return event


def with_span(ids: Find, _: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: the ids of the span that is current."""
    if "trace_id" not in event and (found := ids()) is not None:
        event.update(named(found))
    return event


def named(ids: Ids) -> dict[str, str]:
    """The ids as fields of a record."""
    return {"trace_id": ids.trace, "span_id": ids.span}


def _renderers(settings: Logs) -> Iterator[Any]:
    if settings.format == "json":
        yield structlog.processors.JSONRenderer(sort_keys=False, ensure_ascii=True)
    else:
        yield _worded
        yield structlog.processors.LogfmtRenderer(
            key_order=["timestamp", "level", "event"], drop_missing=True
        )


def _worded(_: Any, __: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Text for people has no way to quote a name: it becomes one word."""
    return {re.sub(r"[\s=\"]", "_", name) or "_": value for name, value in event.items()}


def _number(level: str) -> int:
    return logging.getLevelNamesMapping()[level.upper()]


def _plain(name: object) -> str:
    """`X-Api-Key`, `x_api_key` and `xApiKey` are one name."""
    return re.sub(r"[-_\s]", "", _name(name).lower())


def _name(name: object) -> str:
    return (
        name.decode("latin-1") if isinstance(name, bytes) else name if isinstance(name, str) else _text(name)
    )


def _plain_number(value: object) -> bool:
    """Whether JSON can say it: no infinity, and no integer that Python would not print."""
    return (isinstance(value, int) and value.bit_length() < 64) or (
        isinstance(value, float) and math.isfinite(value)
    )


def _text(value: object, longest: int = _LONGEST) -> str:
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
