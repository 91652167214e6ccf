"""Alerts of a service that is scraped, but not always: what fails now and then must not silence them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from mahavishnu.contract import Contract
from mahavishnu.policies.threshold import Threshold
from mahavishnu.promql import Call, Selector
from mahavishnu.signals import Alert, Source
from mahavishnu.units import MINUTE, SECOND
from tests import reading
from tests.generators.test_prometheus import EVERYTHING, QUERIED
from tests.judges import of_both
from tests.monitoring import accepts, made, shop

_prove: Any = import_module("mahavishnu.generators._prove")
_thresholds: Any = import_module("mahavishnu.generators._thresholds")

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "examples/shop/deploy/prometheus/rules.yml"
SCRAPE = 15  # seconds
MISSED = 8  # one scrape in so many fails
LOOKED = 20  # scrapes during which an alert must not have cleared


def _instants(alert: Alert) -> Iterator[str]:
    """What of the alert's query is gone at once when a scrape fails."""
    held = {id(one) for node in alert.expr.walk() if isinstance(node, Call) for one in node.args}
    for node in alert.expr.walk():
        if isinstance(node, Selector) and node.signal.source is Source.RUNTIME and id(node) not in held:
            yield str(node)


@pytest.mark.parametrize(
    "of", [made(EVERYTHING), made(QUERIED), shop()], ids=["everything", "queried", "shop"]
)
def test_no_alert_that_waits_asks_for_what_one_failed_scrape_takes_away(of: Contract) -> None:
    """Its `for` would begin anew each time; a threshold's own query is what its user wrote."""
    queries = {name for name, one in of.spec.alerts.thresholds.items() if not isinstance(one, Threshold)}
    waiting = [one for one in of.alerts if one.hold and queries.isdisjoint(one.path)]
    assert len(waiting) > 5
    assert {one.name: found for one in waiting if (found := [*_instants(one)])} == {}


def _reach(alert: Alert, made: Contract) -> int:
    """After so many ns of its fault it must fire."""
    return int(_thresholds.window_of(alert, made)) + (alert.hold or 0)


def _series(alert: Alert, made: Contract, scrapes: int) -> Iterator[dict[str, str]]:
    """What it asks for while its fault lasts, whenever a scrape does not fail.

    The fault is a fifth deeper than one that just fires: a rate is not drawn to the ends of its window where a scrape
    is missing there.
    """
    depth = _thresholds.depth(_thresholds.fault(alert, made.recorded).beyond * 6, 5)
    for one in _thresholds.world_of(alert)(depth):
        labels = {"job": made.job, "instance": "a", **dict(one.labels)}
        named = ",".join(f'{name}="{value}"' for name, value in labels.items())
        values = (one.level * at * SCRAPE / 60 if one.grows else one.level for at in range(scrapes))
        said = ("stale" if at % MISSED == MISSED - 1 else repr(float(one)) for at, one in enumerate(values))
        yield {"series": f"{one.name}{{{named}}}", "values": " ".join(said)}


def _test(pack: Sequence[Alert], made: Contract) -> dict[str, Any]:
    scrapes = max(_reach(one, made) for one in pack) // SECOND // SCRAPE + 2 * MISSED + LOOKED
    lately = f"[{LOOKED * SCRAPE}s]"
    fires = f'max(count_over_time(ALERTS{{alertname="%s",alertstate="firing"}}{lately})) >= bool {LOOKED}'
    return {
        "interval": f"{SCRAPE}s",
        "input_series": [series for one in pack for series in _series(one, made, scrapes)],
        "promql_expr_test": [
            {
                "expr": fires % one.name,
                "eval_time": f"{(scrapes - 1) * SCRAPE}s",
                "exp_samples": [{"labels": "{}", "value": 1}],
            }
            for one in pack
        ],
    }


def _rules(alerts: Sequence[Alert]) -> dict[str, Any]:
    """Those of these alerts alone: promtool evaluates whatever there is at every step."""
    names = {one.name for one in alerts}
    groups = reading.read(RULES.read_text())["groups"]
    return {
        "groups": [
            {"name": group["name"], "rules": rules}
            for group in groups
            if (rules := [one for one in group["rules"] if one.get("alert") in names])
        ]
    }


@pytest.mark.proof
@of_both
def test_alerts_go_on_though_scrapes_fail(tmp_path: Path) -> None:
    """One in eight, for as long as the fault lasts: too few for the replica to be `ReplicaDown`."""
    of = shop()
    quick = [
        one
        for one in _prove._plain(of)
        if _reach(one, of) <= 20 * MINUTE
        and all(base.signal.source is Source.RUNTIME for base in one.expr.selectors())
    ]
    assert len(quick) > 30
    rules, tests = tmp_path / "rules.yml", tmp_path / "rules.test.yml"
    rules.write_text(json.dumps(_rules(quick)))
    asked = [_test(pack, of) for pack in _thresholds.packs_of(quick, of)]
    said = {"rule_files": [rules.name], "evaluation_interval": f"{SCRAPE}s", "tests": asked}
    tests.write_text(json.dumps(said))
    accepts("promtool", "test", "rules", tests)


def test_a_service_that_is_down_stays_so_when_its_last_target_is_forgotten(tmp_path: Path) -> None:
    """A discovery drops what is dead for long; it is the same outage, and was paged already."""
    down = (
        'count_over_time(ALERTS{alertname="ShopDown",alertstate="firing",severity="P1",service="shop"}[8m])'
    )
    test = {
        "interval": "15s",
        "input_series": [{"series": 'up{job="shop",instance="a"}', "values": "1x40 0x20 stale"}],
        "promql_expr_test": [
            {
                "expr": f"sum({down} >= bool 31)",
                "eval_time": "20m30s",
                "exp_samples": [{"labels": "{}", "value": 1}],
            }
        ],
    }
    tests = tmp_path / "rules.test.yml"
    said = {"rule_files": [str(RULES)], "evaluation_interval": "15s", "tests": [test]}
    tests.write_text(json.dumps(said))
    accepts("promtool", "test", "rules", tests)
