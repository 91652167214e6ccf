"""Time that passes faster, so that a real Prometheus and Alertmanager show in seconds what takes them days.

Nothing that was generated is edited: the numbers of the contract are scaled before it is compiled, and the patience of
the generators with it.
"""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from typing import Any
from unittest.mock import Mock

import pytest

from mahavishnu.contract import Contract
from mahavishnu.promql import Expr, Selector
from mahavishnu.signals import Alert, Feed
from mahavishnu.units import Duration

_SHORTEST = Duration.parse("6s")  # of a window: six scrapes
_HOLD = Duration.parse("1s")


def scaled(made: Contract, factor: int) -> Contract:
    """The same contract with every window and hold so many times shorter, but for what no scrape could fill."""
    recordings = tuple(replace(one, expr=_expr(one.expr, factor)) for one in made.recordings)
    return replace(made, recordings=recordings, alerts=tuple(_alert(one, factor) for one in made.alerts))


def _alert(one: Alert, factor: int) -> Alert:
    hold = None if one.hold is None else max(Duration(one.hold // factor), _HOLD)
    faster = factor if "increase(" in one.expr.render() else 1
    proof = tuple(_feed(feed, faster, whole=one.bad is not None) for feed in one.proof)
    return replace(one, expr=_expr(one.expr, factor), hold=hold, proof=proof)


def _feed(feed: Feed, faster: int, *, whole: bool) -> Feed:
    """So many in a window are as many in a shorter one; of a share, which stays as it is, all of them."""
    if whole:
        healthy, faulty = (each and each * faster for each in (feed.healthy, feed.faulty))
        return replace(feed, healthy=healthy, faulty=faulty)
    # What is no different while the fault is there is no count of it.
    return feed if feed.faulty == feed.healthy else replace(feed, faulty=feed.faulty and feed.faulty * faster)


def _expr(expr: Expr, factor: int) -> Expr:
    return expr.map_selectors(lambda one: _selector(one, factor))


def _selector(one: Selector, factor: int) -> Selector:
    if one.window is None:
        return one
    return replace(one, window=max(Duration(one.window // factor // 10**9 * 10**9), _SHORTEST))


def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on Alertmanager tells what is new after a second, and Prometheus looks every second."""
    alertmanager: Any = import_module("mahavishnu.generators.alertmanager")
    prometheus: Any = import_module("mahavishnu.generators.prometheus")
    prove: Any = import_module("mahavishnu.generators._prove")
    quick = alertmanager.Rhythm("1s", "1s", "1h")
    monkeypatch.setattr(alertmanager, "RHYTHMS", dict.fromkeys(alertmanager.RHYTHMS, quick))
    monkeypatch.setattr(alertmanager, "HEARTBEATS", alertmanager.Rhythm("0s", "1s", "1s"))
    monkeypatch.setattr(prometheus, "PACE", Duration.parse("1s"))
    monkeypatch.setattr(prometheus, "_COSTLY_INTERVAL", Duration.parse("1s"))
    # Tests of changes are of minutes, and windows are seconds here; nobody runs them.
    monkeypatch.setattr(prove, "changes", Mock(return_value=()))
