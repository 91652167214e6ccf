"""Requests that have ended: counted, and their log lines written, together at the end of a turn of the event loop."""

from __future__ import annotations

import asyncio
import time
import weakref
from typing import TYPE_CHECKING

from mahavishnu.series import RATE_LIMITED
from mahavishnu.units import SECOND

if TYPE_CHECKING:
    from mahavishnu.protocols import Decision
    from mahavishnu.runtime.requests.exchange import Exchange
    from mahavishnu.runtime.service import Service

_MOST = 64
Entry = tuple["Service", "Exchange", int, int]
"""The service a request began with, the request, how long it took, and when it ended by the service's clock (ns)."""


class Ended:
    """What is still to be told of requests; whoever reads the series, or the process's end, settles it at once.

    Done one after the other it costs half of what it costs between two requests, whose code is in the way.
    A killed process loses those of its last turn.
    """

    def __init__(self) -> None:
        self._waiting: list[Entry] = []
        weakref.finalize(self, _settle, self._waiting)

    def add(self, service: Service, one: Exchange, ended: int) -> None:
        """A request has ended at this time of the service's clock."""
        one.service = None  # what it leaves running goes on with whichever spec is at work,
        one.deadline = None  # and nobody waits for it
        waiting = self._waiting
        waiting.append((service, one, ended - one.began, ended))
        count = len(waiting)
        if count == 1:
            self._settle_soon()
        elif count >= _MOST:
            _settle(waiting)

    def settle(self) -> None:
        """Tell it now."""
        _settle(self._waiting)

    def _settle_soon(self) -> None:
        try:
            asyncio.get_running_loop().call_soon(_settle, self._waiting)
        except RuntimeError:
            self.settle()


def _settle(waiting: list[Entry]) -> None:
    entries = waiting[:]
    del waiting[: len(entries)]  # what other threads have added meanwhile stays
    if not entries:
        return
    since_1970 = time.time_ns() - entries[0][0].clock.now()  # of one clock, whose services follow one another
    access = entries[0][0].access
    for service, one, took, ended in entries:
        status = one.status = one.status or (499 if one.cancelled else 500)
        seconds = (one.waited if one.listened else took) / SECOND  # who listens does so as long as he likes
        if one.aside is not None:
            _set_aside(service, one, one.aside, seconds)
        if one.fault is not None:
            status = one.counted
        (one.plan.cells.get(status) or service.cell(one.plan, status)).observe(seconds)
        if service.access is not access:  # a reload has come between
            access.flush()
            access = service.access
        access.add(one, took, ended + since_1970)
    access.flush()


def _set_aside(service: Service, one: Exchange, aside: Decision, seconds: float) -> None:
    """No objective is about it, where its app was not asked, or a rate has refused a call in it: also where its app, as
    an MCP server does, has answered as if nothing had happened. An error stays one."""
    if not aside.allowed:
        one.refused = one.refused or aside  # which from now on is only told of
    if (aside.status == RATE_LIMITED or not one.running) and one.counted < 500:
        service.cell(one.plan, one.counted).set_aside(seconds)
