"""The service's log: one line for each event, JSON for machines, with what is secret left out."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping, MutableMapping, Sequence
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any, NamedTuple, TextIO, cast

import structlog

from mahavishnu.runtime.context import REQUEST_ID
from mahavishnu.spec import Logs

REDACTED = "[redacted]"
_ALWAYS = frozenset(
    (
        "authorization",
        "cookie",
        "set_cookie",
        "password",
        "passwd",
        "secret",
        "token",
        "api_key",
        "x_api_key",
        "access_token",
        "refresh_token",
    )
)
_LONGEST = 4096


def logger(settings: Logs, stream: TextIO | None = None) -> structlog.typing.FilteringBoundLogger:
    """A logger as the spec asks for it; the process's own structlog configuration is left alone."""
    wrapped: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
        structlog.PrintLogger(stream or sys.stdout),
        processors=[
            _with_request,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            Redactor(settings.redact),
            _renderer(settings),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_number(settings.level)),
        cache_logger_on_first_use=True,
    )
    return wrapped


class Served(NamedTuple):
    """What the log says of one request; `took` is nanoseconds, `sent` bytes of the response's body."""

    method: str
    route: str
    path: str
    status: int
    took: int
    client: str
    sent: int
    refused_by: str | None = None
    error: str | None = None

    def facts(self) -> dict[str, Any]:
        """The fields of the event, in their order."""
        facts: dict[str, Any] = {
            "method": self.method,
            "route": self.route,
            "path": self.path,
            "status": self.status,
            "duration_ms": round(self.took / 1e6, 3),
            "client": self.client,
            "bytes": self.sent,
        }
        if self.refused_by is not None:
            facts["refused_by"] = self.refused_by
        if self.error is not None:
            facts["error"] = self.error
        return facts


class AccessLog:
    """One `request` event for each request, an error from 500 on.

    A JSON line is encoded here, byte for byte as the logger would, in a fifth of its time. What this does not
    cover goes through the logger: text for people, fields that are to be redacted.
    """

    def __init__(self, settings: Logs, stream: TextIO | None = None) -> None:
        self._log = logger(settings, stream)
        self._print = structlog.PrintLogger(stream or sys.stdout).msg
        self._level = _number(settings.level)
        hidden = Redactor(settings.redact).hides
        self._direct = settings.format == "json" and not any(hidden(name) for name in _ACCESS)
        self._stamp = (-1, "")

    def __call__(self, served: Served) -> None:
        """Write the event, if the level asks for it."""
        level = "error" if served.status >= 500 else "info"
        if not self._direct:
            getattr(self._log, level)("request", **served.facts())
        elif self._level <= (logging.ERROR if level == "error" else logging.INFO):
            self._print(self._line(level, served))

    def _line(self, level: str, one: Served) -> str:
        refused = "" if one.refused_by is None else f', "refused_by": {_quoted(one.refused_by)}'
        fault = "" if one.error is None else f', "error": {_quoted(_text(one.error))}'
        request_id = REQUEST_ID.get()
        named = f', "request_id": {_quoted(request_id)}' if request_id else ""
        return (
            f'{{"method": {_quoted(one.method)}, "route": {_quoted(_text(one.route))}, '
            f'"path": {_quoted(_text(one.path))}, "status": {one.status:d}, '
            f'"duration_ms": {round(one.took / 1e6, 3)}, "client": {_quoted(one.client)}, "bytes": {one.sent}'
            f'{refused}{fault}, "event": "request"{named}, "level": "{level}", "timestamp": "{self._now()}"}}'
        )

    def _now(self) -> str:
        now, ns = divmod(time.time_ns(), 10**9)
        second, text = self._stamp
        if now != second:
            text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
            self._stamp = (now, text)
        return f"{text}.{ns // 1000:06d}Z"


_ACCESS = (*Served("", "", "", 0, 0, "", 0, "", "").facts(), "event", "request_id", "level", "timestamp")


class Redactor:
    """A structlog processor: secret fields lose their value at any depth, and no value exceeds 4 KiB."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = _ALWAYS | {_plain(name) for name in names}

    def hides(self, name: str) -> bool:
        """Whether the value of a field of this name is never written."""
        return _plain(name) in self._names

    def __call__(self, _: Any, __: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
        return {key: self._clean(str(key), value, 0) for key, value in event.items()}

    def _clean(self, key: str, value: Any, depth: int) -> Any:
        if self.hides(key):
            return REDACTED
        if depth > 5:
            return "[too deep]"
        if isinstance(value, Mapping):
            fields = cast("Mapping[object, Any]", value)
            return {str(name): self._clean(str(name), one, depth + 1) for name, one in fields.items()}
        if isinstance(value, list | tuple):
            items = cast("Sequence[Any]", value)
            return [self._clean("", one, depth + 1) for one in items[:100]]
        return value if isinstance(value, int | float | bool | None) else _text(value)


def _with_request(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if request_id := REQUEST_ID.get():
        event.setdefault("request_id", request_id)
    return event


def _renderer(settings: Logs) -> Any:
    if settings.format == "json":
        return structlog.processors.JSONRenderer(sort_keys=False, ensure_ascii=True)
    return structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], drop_missing=True)


def _number(level: str) -> int:
    return logging.getLevelNamesMapping()[level.upper()]


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")


def _text(value: Any) -> str:
    try:
        text = value if isinstance(value, str) else repr(value)
    except Exception as fault:  # noqa: BLE001 - a failing __repr__ must not take the request with it
        text = f"[unprintable {type(value).__name__}: {type(fault).__name__}]"
    if text.isprintable() and len(text) <= _LONGEST:
        return text
    return text[:_LONGEST].translate(_CONTROLS)


# Line breaks, escapes and lone surrogates: a value is one piece of one line, in every renderer.
_CONTROLS = dict.fromkeys(
    (*range(32), 127, *range(0x80, 0xA0), *range(0xD800, 0xE000)), "\N{REPLACEMENT CHARACTER}"
)
