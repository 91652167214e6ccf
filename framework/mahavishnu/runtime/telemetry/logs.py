"""The service's log: one line for each event, JSON for machines, with what is secret left out."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from functools import partial
from typing import Any, TextIO

import structlog

from mahavishnu.runtime import context
from mahavishnu.runtime.spans import Ids
from mahavishnu.runtime.telemetry.outlet import Outlet
from mahavishnu.runtime.telemetry.redaction import Redactor
from mahavishnu.spec import Logs

Log = structlog.typing.FilteringBoundLogger

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
        wrapper_class=structlog.make_filtering_bound_logger(number_of(settings.level)),
        cache_logger_on_first_use=True,
    )
    return wrapped


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


def number_of(level: str) -> int:
    """A level of the spec as the number that `logging` compares."""
    return logging.getLevelNamesMapping()[level.upper()]
