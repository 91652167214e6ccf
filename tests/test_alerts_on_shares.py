"""Alerts on shares: a handful of bad events wakes nobody, and where few come, what lasts is told of all the same."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from examples.shop.firing import firing
from mahavishnu.alerts.handful import LEAST, LONGER, parts
from mahavishnu.promql import Binary, Call, Expr
from mahavishnu.signals import Alert, Feed, Kind
from mahavishnu.units import MINUTE
from tests.judges import judge
from tests.monitoring import MINIMAL, made, texts
from tests.narrowed import narrowed

# One of each alert on a share.
SPEC: dict[str, Any] = {
    **MINIMAL,
    "store": "redis://redis:6379/0",
    "limits": {
        "per_client": {"rate": "100/minute"},
        "reports": {"concurrency": 4, "queue": 8},
        "uploads": {"body": "1MiB"},
        "request": {"timeout": "10s"},
    },
    "dependencies": {
        "stripe": {
            "timeout": "1s",
            "retry": {"attempts": 2},
            "breaker": {"failure_rate": "50%", "slow_call": "500ms"},
            "bulkhead": {"concurrency": 8},
            "throttle": {},
            "fallback": {"static": {}},
        }
    },
    "alerts": {
        "thresholds": {
            "errors": {"when": "error_rate > 5%", "severity": "P2"},
            "slow": {"when": "latency.p95 > 800ms", "severity": "P3"},
            "refused": {"when": "limits.per_client.refused > 20%", "severity": "P4"},
            "failures": {"when": "dependencies.stripe.failures > 20%", "severity": "P2"},
            "sluggish": {"when": "dependencies.stripe.slow > 20%", "severity": "P3"},
            "cpu": {"when": "cpu > 85%", "severity": "P3"},
        }
    },
}
OF = made(SPEC)
SHARES = [alert for alert in OF.alerts if alert.bad is not None]


def minutes(time: int | None) -> int:
    return (time or 0) // MINUTE


def window(alert: Alert) -> int:
    """Over how many minutes its share is measured."""
    condition, _ = parts(alert)
    return max(minutes(one.window) for one in condition.selectors())


def hold(alert: Alert) -> int:
    return minutes(alert.hold)


def divides(expr: Expr) -> bool:
    """Whether it measures what part of all events is so."""
    return any(
        node.name == "histogram_quantile"
        if isinstance(node, Call)
        else isinstance(node, Binary)
        and node.op == "/"
        and all(one.window and one.signal.kind is not Kind.GAUGE for one in node.selectors())
        for node in expr.walk()
    )


def test_every_alert_on_a_share_says_what_is_bad() -> None:
    """All that divide what is counted; objectives have a guard of their own, and queries of a user are as he says."""
    divided = [one for one in OF.alerts if one.path[0] != "slos" and divides(one.expr)]
    assert divided == SHARES
    assert len(SHARES) == 16


# --- how many -----------------------------------------------------------------------------------------------


class Life(NamedTuple):
    """The minutes in which a good event comes, and those of bad ones; it lasts for so many."""

    goods: Collection[int]
    bads: Collection[int]
    length: int

    def series(self, alert: Alert) -> dict[str, list[float | None]]:
        """Those that an alert asks for, with a sample a minute."""
        return {str(feed.series): [*accumulate(self._moves(feed))] for feed in alert.proof}

    def _moves(self, feed: Feed) -> Iterator[float]:
        healthy, faulty = feed.healthy or 0, feed.faulty or 0
        # An event that fails does not time out as well.
        bad = faulty >= healthy and "timeout" not in str(feed.series)
        for minute in range(self.length + 1):
            yield (minute in self.goods and healthy >= faulty) + (minute in self.bads and bad)


@pytest.fixture
def fired(tmp_path: Path) -> Callable[[Alert, Life], list[int]]:
    """The minutes of a life in which an alert fires."""
    rules = tmp_path / "rules.yml"
    rules.write_text(texts(OF)["prometheus/rules.yml"])

    def ask(alert: Alert, life: Life) -> list[int]:
        asked = narrowed(rules, [alert.name], life.series(alert))
        found = firing(judge("promtool"), *asked, range(life.length + 1))
        return [minute for minute, names in enumerate(found) if names]

    return ask


Fired = Callable[[Alert, Life], list[int]]
each_share = pytest.mark.parametrize("alert", SHARES, ids=lambda one: one.name)


@pytest.mark.judge
@each_share
def test_half_of_a_handful_wakes_nobody(alert: Alert, fired: Fired) -> None:
    """One of two is bad in each window, for longer than that has to last."""
    apart = window(alert) - 2
    pairs = [10 + apart * one for one in range(hold(alert) // apart + 2)]
    assert len(pairs) < LEAST
    assert fired(alert, Life({one + 1 for one in pairs}, pairs, pairs[-1] + 2 * window(alert))) == []


@pytest.mark.judge
@each_share
def test_an_outage_at_one_request_a_minute_is_told_of(alert: Alert, fired: Fired) -> None:
    """After as many minutes as bad events are waited for, and the time for which that must last; an hour was well."""
    told = 60 + LEAST + hold(alert)
    first, *_ = fired(alert, Life(range(60), range(61, told + 3), told + 2))
    assert first in range(told - 1, told + 3)


@pytest.mark.judge
@each_share
def test_what_lasts_is_told_of_when_the_longer_time_is_over(alert: Alert, fired: Fired) -> None:
    """However few come: one that is bad in each window, and no other, is all that keeps a share above its bound."""
    last = 10 + LONGER * window(alert) + hold(alert)
    assert fired(alert, Life((), range(10, last, window(alert) - 1), last))
