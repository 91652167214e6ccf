"""The service's log: one line for each event, JSON for machines, with what is secret left out."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, TextIO

import structlog

from mahavishnu.runtime.context import REQUEST_ID
from mahavishnu.spec import Logs

REDACTED = "[redacted]"
_ALWAYS = frozenset(
    "authorization cookie set_cookie password passwd secret token api_key x_api_key access_token refresh_token".split()
)
_LONGEST = 4096


def logger(settings: Logs, stream: TextIO | None = None) -> structlog.typing.FilteringBoundLogger:
    """A logger as the spec asks for it; the process's own structlog configuration is left alone."""
    return structlog.wrap_logger(
        structlog.PrintLogger(stream or sys.stdout),
        processors=[
            _with_request,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            Redactor(settings.redact),
            _renderer(settings),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[settings.level.upper()]),
        cache_logger_on_first_use=True,
    )


class Redactor:
    """A structlog processor: fields with a secret name lose their value, at any depth; no value grows beyond 4 KiB."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = _ALWAYS | {_plain(name) for name in names}

    def __call__(self, _: Any, __: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
        return {key: self._clean(str(key), value, 0) for key, value in event.items()}

    def _clean(self, key: str, value: Any, depth: int) -> Any:
        if _plain(key) in self._names:
            return REDACTED
        if depth > 5:
            return "[too deep]"
        if isinstance(value, Mapping):
            return {str(name): self._clean(str(name), one, depth + 1) for name, one in value.items()}
        if isinstance(value, list | tuple):
            return [self._clean("", one, depth + 1) for one in value[:100]]
        return value if isinstance(value, int | float | bool | None) else _text(value)


def _with_request(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if request_id := REQUEST_ID.get():
        event.setdefault("request_id", request_id)
    return event


def _renderer(settings: Logs) -> Any:
    if settings.format == "json":
        return structlog.processors.JSONRenderer(sort_keys=False, ensure_ascii=True)
    return structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], drop_missing=True)


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")


def _text(value: Any) -> str:
    try:
        text = value if isinstance(value, str) else repr(value)
    except Exception as fault:  # a failing __repr__ must not take the request with it
        text = f"[unprintable {type(value).__name__}: {type(fault).__name__}]"
    return text[:_LONGEST].translate(_CONTROLS)


# Line breaks, escapes and lone surrogates: a value is one piece of one line, in every renderer.
_CONTROLS = {code: "\N{REPLACEMENT CHARACTER}" for code in (*range(32), 127, *range(0x80, 0xA0), *range(0xD800, 0xE000))}
