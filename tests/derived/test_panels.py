"""Every series and every alert is shown, by itself; what is drawn is what the spec says; a wrong query is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from mahavishnu.contract import Contract, contract
from mahavishnu.derived.alert_causes import began, behind
from mahavishnu.derived.dashboards import Dashboard, dashboards, queries, spots
from mahavishnu.derived.panels import Panel, Query
from mahavishnu.promql import Matcher, Selector, highest, total
from mahavishnu.queries import closure
from mahavishnu.series import (
    CPU_LIMIT,
    HTTP_ACTIVE,
    HTTP_DURATION,
    LIMIT_DECISIONS,
    LIMIT_IN_FLIGHT,
    MEMORY,
    SPEC_INFO,
    UP,
)
from mahavishnu.signals import AgreementError, Alert, Kind, Label, Severity, Signal
from mahavishnu.spec import Spec
from tests.monitoring import accepts, made, shop
from tests.strategies import specs


@pytest.fixture(scope="module")
def ours() -> Contract:
    return shop()


@pytest.fixture(scope="module")
def boards(ours: Contract) -> dict[str, Dashboard]:
    return {one.name: one for one in dashboards(ours)}


def panel(board: Dashboard, title: str, row: str = "") -> Panel:
    (found,) = (
        one for each in board.rows for one in each.panels if one.title == title and row in ("", each.title)
    )
    return found


def shown(of: Contract) -> set[str]:
    """The series that some panel asks for."""
    return {selector.signal.name for _, expr in queries(dashboards(of)) for selector in expr.selectors()}


def test_every_series_is_shown(ours: Contract) -> None:
    """Those of the process, and those that are recorded."""
    assert {*ours.signals} - shown(ours) == set()


def test_every_alert_has_one_panel(ours: Contract) -> None:
    """Under the number that links use, with what the rule measures and no more."""
    places = spots(dashboards(ours))
    for alert in ours.alerts:
        spot = places[alert.name]
        one = dict(spot.dashboard.numbered())[spot.number]
        assert isinstance(one, Panel)
        assert one.alert == alert.name
        assert all(query.expr in [*alert.expr.walk()] for query in one.queries)


@pytest.mark.parametrize(
    ("board", "row", "title", "bounds"),
    [
        ("service", "requests", "Duration", ["1"]),
        ("service", "requests", "Share answered with 5xx", ["0.001"]),
        ("service", "process", "Replicas that answer", ["3"]),
        ("service", "process", "Memory", ["536870912"]),
        ("service", "process", "Processor cores used", ["0.5"]),
        ("service", "alerts", "ShopThresholdMemory", ["0.9"]),
        ("resilience", "limits.per_client", "Limit quota", ["300"]),
        ("resilience", "limits.reports", "Limit in flight", ["4"]),
        ("resilience", "limits.reports", "Limit queued", ["4"]),
        ("resilience", "limits.uploads", "Limit quota", ["65536"]),
        ("resilience", "limits.per_client", "ShopThresholdThrottling", ["0.2"]),
        ("resilience", "dependencies.payment", "Dependency duration", ["0.15", "0.2"]),
        ("resilience", "dependencies.payment", "Bulkhead in flight", ["32"]),
        ("slos", "slos.checkout", "SLI error", ["0.005"]),
        ("slos", "slos.checkout", "Error budget", ["0"]),
        ("slos", "slos.checkout", "ShopSloCheckoutBurnP1", ["0.072"]),
    ],
)
def test_lines_are_numbers_of_the_spec(
    boards: dict[str, Dashboard], board: str, row: str, title: str, bounds: list[str]
) -> None:
    """Quotas, places, deadlines, budgets, thresholds."""
    assert [str(one) for one in panel(boards[board], title, row).bounds] == bounds


def test_another_number_is_another_line() -> None:
    """Nothing of it is written down twice."""
    spec: dict[str, Any] = {
        "mahavishnu": 1,
        "service": {"name": "shop", "app": "shop.main:app"},
        "limits": {"reports": {"concurrency": 7}},
    }
    resilience = next(one for one in dashboards(made(spec)) if one.name == "resilience")
    assert panel(resilience, "Limit in flight", "limits.reports").bounds == (Decimal(7),)


def test_the_panel_of_a_share_shows_that_alone() -> None:
    """And not how many bad ones its alert waits for, though here that is the number of its bound."""
    spec: dict[str, Any] = {
        "mahavishnu": 1,
        "service": {"name": "shop", "app": "shop.main:app"},
        "alerts": {"thresholds": {"slow": {"when": "latency.p95 > 10s", "severity": "P3"}}},
    }
    service = next(one for one in dashboards(made(spec)) if one.name == "service")
    (query,) = panel(service, "ShopThresholdSlow").queries
    assert query.expr.render().startswith("histogram_quantile(0.95, ")


@pytest.mark.parametrize(
    ("row", "title", "bound"),
    [
        ("limits.reports", "Limit in flight", 28),
        ("limits.reports", "Limit queued", 12),
        ("limits.reports", "Limit quota", 28),
        ("limits.uploads", "Limit quota", 1024),
        ("dependencies.payment", "Bulkhead in flight", 20),
    ],
)
def test_what_each_worker_has_is_drawn_for_all_of_them(row: str, title: str, bound: int) -> None:
    """As its series are shown: those of places are sums, a size is the same in each."""
    spec: dict[str, Any] = {
        "mahavishnu": 1,
        "service": {"name": "shop", "app": "shop.main:app", "workers": 4},
        "limits": {"reports": {"concurrency": 7, "queue": 3, "wait": "1s"}, "uploads": {"body": "1Ki"}},
        "dependencies": {"payment": {"timeout": "1s", "bulkhead": {"concurrency": 5}}},
    }
    resilience = next(one for one in dashboards(made(spec)) if one.name == "resilience")
    assert panel(resilience, title, row).bounds == (Decimal(bound),)


@pytest.mark.judge
@pytest.mark.parametrize(
    ("board", "title", "well", "ill", "seen"),
    [
        ("service", "Spec reload successful", {"": 1}, {"": 0}, {"{}": 0}),
        ("service", "Spec reload", {"": 9}, {"": 5}, {"{}": 5000}),
        ("resilience", "Dead letters store up", {"": 1}, {"": 0}, {"{}": 0}),
        ("resilience", "Retry budget", {"": 1}, {"": 0}, {"{}": 0}),
        (
            "resilience",
            "Breaker state",
            {'state="closed"': 1, 'state="open"': 0},
            {'state="closed"': 0, 'state="open"': 1},
            {'{state="closed"}': 0, '{state="open"}': 1},
        ),
    ],
)
def test_a_fault_of_one_replica_is_seen(
    boards: dict[str, Dashboard],
    board: str,
    title: str,
    well: dict[str, int],
    ill: dict[str, int],
    seen: dict[str, int],
    tmp_path: Path,
) -> None:
    """The other is well, and does not hide it."""
    expr = panel(boards[board], title).queries[0].expr
    name = next(expr.selectors()).signal.name
    series = [
        {"series": f'{name}{{job="shop",instance="{at}",{labels}}}', "values": f"{level}x5"}
        for at, levels in (("a", well), ("b", ill))
        for labels, level in levels.items()
    ]
    found = [{"labels": labels, "value": level} for labels, level in seen.items()]
    asked = [{"expr": expr.render(), "eval_time": "3m", "exp_samples": found}]
    path = tmp_path / "replicas.test.yml"
    test = {"interval": "1m", "input_series": series, "promql_expr_test": asked}
    path.write_text(json.dumps({"evaluation_interval": "1m", "tests": [test]}), encoding="utf-8")
    accepts("promtool", "test", "rules", path)


AGE = Signal(
    "mahavishnu_backup_age_seconds", Kind.GAUGE, "Age of the newest backup.", (Label("backup", ("orders",)),)
)


def with_backups(of: Contract) -> Contract:
    """The contract with the series and the alert that a policy for backups would bring."""
    age = AGE.select(backup="orders").scoped("job", "shop")
    old = Alert(
        "ShopBackupOrdersOld", Severity.P2, age > 90_000, "Old.", ("backups", "orders"), (), unit="seconds"
    )
    return replace(of, signals={**of.signals, AGE.name: AGE}, alerts=(*of.alerts, old))


def test_a_new_family_appears_by_itself(ours: Contract) -> None:
    """No backups, no dashboard of backups; with their series there is one, with panel and alert."""
    without = contract(ours.spec.model_copy(update={"backups": {}}))
    assert [one.name for one in dashboards(without)] == ["service", "resilience", "slos"]
    assert [one.name for one in dashboards(ours)] == ["service", "resilience", "slos", "backups"]
    *_, backups = dashboards(with_backups(without))
    assert [row.title for row in backups.rows] == ["backups", "backups.orders"]
    assert [one.title for one in backups.panels] == ["Backup age", "ShopBackupOrdersOld"]
    assert panel(backups, "Backup age").unit == "s"
    assert panel(backups, "ShopBackupOrdersOld").bounds == (Decimal(90_000),)


def test_what_is_behind_an_alert(ours: Contract) -> None:
    """A limit's alert rests on its decisions, a recorded ratio on requests by route."""
    named = {alert.name: alert for alert in ours.alerts}
    assert [one.title for one in behind(ours, named["ShopLimitLoginRefusing"])] == [
        "Limit decisions in the last 1h"
    ]
    burning = behind(ours, named["ShopSloCheckoutBurnP2"])
    assert [one.title for one in burning] == [
        "Answered with 5xx in the last 6h, by route and status",
        "Requests per second, over 6h",
        "Share answered with 5xx, by route, over 6h",
        "Duration by route (p95), over 6h",
    ]
    assert [one.title for one in behind(ours, named["ShopSloLatencyNoData"])] == [*QUICK]


QUICK = ("Requests per second", "Share answered with 5xx, by route", "Duration by route (p95)")


@pytest.mark.judge
@pytest.mark.parametrize("alert", ["ShopSloAvailabilityBurnP4", "ShopSloAvailabilityBudgetExhausted"])
def test_what_failed_hours_ago_is_found(ours: Contract, alert: str, tmp_path: Path) -> None:
    """By its route and status, and when: one that fails for twenty minutes, five hours and more ago."""
    (of,) = (one for one in ours.alerts if one.name == alert)
    ago, when = behind(ours, of)[0].queries[0].expr, began(ours, of)[0].queries[0].expr
    named = 'http_route="/import"'
    series = [
        {
            "series": f'{HTTP_DURATION.name}_count{{job="shop",instance="a",{named},{status}}}',
            "values": values,
        }
        for status, values in (
            ('http_response_status_code="200"', "0+9x400"),
            ('http_response_status_code="500"', "0x20 0+1x20 20x400"),
        )
    ]
    asked = [
        {
            "expr": f"({expr}) > bool 0",
            "eval_time": at,
            "exp_samples": [{"labels": labels, "value": 1}] if labels else [],
        }
        for expr, at, labels in (
            (ago, "6h", f'{{{named},http_response_status_code="500"}}'),
            (when, "40m", f"{{{named}}}"),
            (when, "6h", ""),
        )
    ]
    path = tmp_path / "hours.test.yml"
    test = {"interval": "1m", "input_series": series, "promql_expr_test": asked}
    path.write_text(json.dumps({"evaluation_interval": "1m", "tests": [test]}), encoding="utf-8")
    accepts("promtool", "test", "rules", path)


def test_an_objective_on_time_asks_who_was_slow(ours: Contract) -> None:
    """And one on something else than requests asks its own series over its own windows."""
    (slow,) = (one for one in ours.alerts if one.name == "ShopSloLatencyBurnP3")
    assert behind(ours, slow)[0].title == "Took longer than 1s in the last 1d, by route"
    query = {
        "total": 'mahavishnu_limit_decisions_total{limit="reports"}',
        "bad": 'mahavishnu_limit_decisions_total{limit="reports",outcome="refused"}',
    }
    spec = {
        "mahavishnu": 1,
        "service": {"name": "shop", "app": "shop.main:app"},
        "limits": {"reports": {"concurrency": 7}},
        "slos": {"served": {"objective": "99%", "query": query}},
    }
    of = made(spec)
    (burn,) = (one for one in of.alerts if one.name == "ShopSloServedBurnP2")
    assert [one.title for one in behind(of, burn)] == ["Limit decisions in the last 6h"]
    assert began(of, burn) == ()


# --- a wrong query is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "expr",
    [
        Selector(LIMIT_DECISIONS, matchers=(Matcher("lmit", "=", "per_client"),)),
        Selector(LIMIT_DECISIONS, matchers=(Matcher("limit", "=", "per_clent"),)),
        total(LIMIT_DECISIONS.select(), "outcme"),
        total(HTTP_DURATION.part("_count"), "le"),
        highest(LIMIT_IN_FLIGHT.select(), "service"),
        Selector(replace(SPEC_INFO, name="mahavishnu_spec_inf")),
    ],
)
def test_a_broken_query_is_refused(ours: Contract, expr: Any) -> None:
    """A label, a value, a label that is summed by, a series: each broken once."""
    with pytest.raises(AgreementError):
        closure.resolve(expr, closure.World(ours.signals, None))


@pytest.mark.parametrize(
    "series", [UP, HTTP_DURATION, HTTP_ACTIVE, MEMORY, CPU_LIMIT, LIMIT_DECISIONS, SPEC_INFO]
)
def test_a_panel_that_asks_for_nothing_stops_the_compiler(ours: Contract, series: Signal) -> None:
    """Where a series that a panel or an alert needs is not shown there is no dashboard at all."""
    without = {name: one for name, one in ours.signals.items() if name != series.name}
    with pytest.raises(AgreementError):
        dashboards(replace(ours, signals=without))


# --- whatever a spec says -----------------------------------------------------------------------------------


@settings(max_examples=25)
@given(specs())
def test_random_specs_are_shown_whole(spec: dict[str, Any]) -> None:
    """Every series and every alert is in some panel, once; no panel without a query."""
    of = contract(Spec.model_validate(spec))
    boards = dashboards(of)
    alerts = [one.alert for board in boards for one in board.panels if one.alert]
    assert sorted(alerts) == sorted(alert.name for alert in of.alerts)
    assert {*of.signals} - shown(of) == set()
    assert all(one.queries for board in boards for one in board.panels)
    assert len({board.uid for board in boards}) == len(boards)
    assert all(len(board.uid) <= 40 for board in boards)


def test_a_query_is_a_value() -> None:
    """Two panels of one contract are the same panel: what is generated does not depend on when."""
    assert dashboards(shop()) == dashboards(shop())
    assert Query(SPEC_INFO.select()) == Query(SPEC_INFO.select())


def test_the_overview_of_objectives_has_each_of_them() -> None:
    """Over the shortest of its own windows, as the title says; those of another period are others."""
    slos = {
        "availability": {"objective": "99.9%"},
        "latency": {"objective": "95%", "under": "1s", "window": "7d"},
        "late": {"objective": "98%", "severities": ["P3"]},
    }
    spec = {"mahavishnu": 1, "service": {"name": "shop", "app": "shop.main:app"}, "slos": slos}
    (board,) = (one for one in dashboards(made(spec)) if one.name == "slos")
    error = panel(board, "SLI error over 5m, 2m, 2h", "slos")
    assert [query.expr.render() for query in error.queries] == [
        'max by (slo) (slo:sli_error:ratio_rate5m{service="shop"})',
        'max by (slo) (slo:sli_error:ratio_rate2m{service="shop"})',
        'max by (slo) (slo:sli_error:ratio_rate2h{service="shop",slo=~"late"})',
    ]
    assert len({query.name for query in error.queries}) == 3
    assert len(panel(board, "Error budget", "slos").queries) == 1


def test_what_counts_no_requests_is_no_bound_of_them() -> None:
    """An objective on time or on events of one's own has its line where it is recorded, and not among the 5xx."""
    query = {"age": "time() - mahavishnu_spec_reload_timestamp_seconds"}
    slos = {
        "availability": {"objective": "99.9%"},
        "reread": {"objective": "98%", "fresh": "2h", "query": query},
    }
    spec = {"mahavishnu": 1, "service": {"name": "shop", "app": "shop.main:app"}, "slos": slos}
    (board,) = (one for one in dashboards(made(spec)) if one.name == "service")
    assert panel(board, "Share answered with 5xx").bounds == (Decimal("0.001"),)
