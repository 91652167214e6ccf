"""A line of the log for each request, encoded by hand: byte for byte what the logger would say of it."""

from __future__ import annotations

import json
import logging
import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from json.encoder import encode_basestring_ascii as _quoted
from select import PIPE_BUF
from typing import Any, Protocol, TextIO

from mahavishnu.protocols import Decision
from mahavishnu.runtime.keys import Caller
from mahavishnu.runtime.telemetry.logs import logger, number_of, outlet
from mahavishnu.runtime.telemetry.outlet import Outlet
from mahavishnu.runtime.telemetry.redaction import LONGEST, Redactor, one_line
from mahavishnu.spec import Logs
from mahavishnu.units import SECOND

_SHORT = LONGEST // 2  # what is no longer than this, and plain, is written as it is
# Numbers that are looked up are written in a fifth of the time that formatting them takes.
_THREE = tuple(f"{number:03d}" for number in range(1000))
_THOUSANDTHS = tuple(
    repr(number / 1000)[1:] for number in range(1000)
)  # `.5`, not `.500`, as a float is written


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
        least = number_of(settings.level)
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
            path = one_line(path)
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
        head = f'{{"method": {_quoted(method)}, "route": {_quoted(one_line(route))}, "path": '
        self._heads[key] = head
        return head


def _pieces(lines: list[str]) -> Iterator[str]:
    """The lines in pieces that the system writes at once: other workers write to the same pipe, between two."""
    text = "".join(lines)
    if len(text) <= PIPE_BUF:
        yield text
        return
    ends = [0, *accumulate(map(len, lines))]
    begin = 0
    while begin < len(text):
        end = ends[bisect_right(ends, begin + PIPE_BUF) - 1]
        if end == begin:  # one line is longer than a piece
            end = ends[bisect_right(ends, begin)]
        yield text[begin:end]
        begin = end


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
    return {"traceback": [one_line(line) for line in lines]} if lines else {}


def _unusual(one: Served) -> str:
    """The fields that most events lack, as they stand in the line."""
    refused = "" if one.refused is None else f', "refused_by": {_quoted(one.refused.limit)}'
    if one.refused is not None and one.refused.where:
        refused += f', "where": {_quoted(one_line(one.refused.where))}'
    if one.fault is None:
        return refused
    raised = traceback(getattr(one, "traceback", ()))
    more = "".join(f', "{name}": {json.dumps(value)}' for name, value in raised.items())
    return f'{refused}, "error": {_quoted(one_line(one.fault))}{more}'


_LEVELS = {"info": logging.INFO, "error": logging.ERROR}  # of a request's event
_ACCESS = """
    method route path status duration_ms client bytes refused_by where error traceback event request_id level
    timestamp trace_id span_id
""".split()  # noqa: SIM905 - a table reads better than thirty quotes
