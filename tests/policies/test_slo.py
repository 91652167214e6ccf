"""Promises: the maths of burn rates against the published tables, matchers, and what cannot be promised."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mahavishnu.alerts.drift import SPEC_RELOAD_TIME
from mahavishnu.burn_rates import decimal
from mahavishnu.contract import contract
from mahavishnu.policies.slo import Slo
from mahavishnu.policy import Match, camel
from mahavishnu.queries.written import Unproved
from mahavishnu.snapshots.series import BACKUP_AGE
from mahavishnu.spec import Spec
from mahavishnu.units import Duration
from tests.monitoring import MINIMAL
from tests.strategies import names


def slo(**said: Any) -> Slo:
    return Slo.model_validate(said)


def burns(**said: Any) -> dict[str, Any]:
    return {burn.tier.severity.value: burn for burn in slo(**said).tiers()}


@pytest.mark.parametrize("window", ["7d", "28d", "30d", "90d"])
def test_the_factors_and_shares_are_the_published_ones_in_every_window(window: str) -> None:
    """SRE workbook, table 5-8, and the tier of a day: never below what the budget allows anyway."""
    found = burns(objective="99.9%", window=window)
    published = {"P1": ("14.4", 2), "P2": ("6", 5), "P3": ("3", 10), "P4": ("1", 10)}
    for severity, (factor, spent) in published.items():
        assert found[severity].factor == Fraction(factor)
        assert found[severity].tier.spent == Fraction(spent, 100)
    assert found["P1"].threshold == Decimal("0.0144")


@pytest.mark.parametrize(
    ("window", "windows"),
    [
        ("7d", ["14m/2m", "1h24m/7m", "5h36m/28m", "16h48m/1h24m"]),
        ("28d", ["56m/4m40s", "5h36m/28m", "22h24m/1h52m", "2d19h12m/5h36m"]),
        ("30d", ["1h/5m", "6h/30m", "1d/2h", "3d/6h"]),
        ("90d", ["3h/15m", "18h/1h30m", "3d/6h", "9d/18h"]),
    ],
)
def test_the_windows_are_as_long_as_the_period_asks(window: str, windows: list[str]) -> None:
    """A month's windows, scaled; none shorter than eight scrapes."""
    found = burns(objective="99.9%", window=window).values()
    assert [f"{burn.tier.long}/{burn.tier.short}" for burn in found] == windows


def test_a_threshold_without_end_is_cut_at_twelve_digits() -> None:
    """7 parts of 1,500: no float, no endless tail."""
    assert f"{decimal(Fraction(7, 1500)):f}" == "0.00466666666667"


@pytest.mark.parametrize(
    ("objective", "requests"),
    [("99.9%", (70, 167, 334, 1000)), ("99.99%", (695, 1667, 3334, 10000))],
)
def test_so_many_requests_keep_one_failure_from_firing(objective: str, requests: tuple[int, ...]) -> None:
    """One of so many is not above the threshold, one of fewer is."""
    for burn, number in zip(burns(objective=objective).values(), requests, strict=True):
        assert burn.requests == number
        assert not Fraction(1, number) > burn.ratio
        assert Fraction(1, number - 1) > burn.ratio


@pytest.mark.parametrize(("objective", "dead"), [("93.05%", ["P1"]), ("93.06%", []), ("80%", ["P1", "P2"])])
def test_a_tier_that_cannot_fire_is_known_and_raises_no_alert(objective: str, dead: list[str]) -> None:
    """`check` reports it; the rules do not carry it."""
    found = burns(objective=objective)
    assert [name for name, burn in found.items() if burn.dead] == dead
    raised = {str(alert.severity) for alert in slo(objective=objective).alerts("x")}
    assert raised == found.keys() - set(dead)


@given(st.integers(1, 99_999_999), st.sampled_from(["7d", "28d", "30d", "90d"]))
def test_thresholds_are_exact_to_twelve_digits(parts: int, window: str) -> None:
    """Whatever the objective: the rule's number is the fraction, rounded once."""
    text = f"{Decimal(parts) / 10**6:f}%"
    for burn in burns(objective=text, window=window).values():
        assert abs(Fraction(burn.threshold) - burn.ratio) <= burn.ratio / 10**11
        assert len(burn.threshold.normalize().as_tuple().digits) <= 12


def test_a_promise_of_everything_is_refused() -> None:
    """100% leaves no budget to divide by."""
    with pytest.raises(ValidationError, match="no error budget"):
        slo(objective="100%")


def test_fewer_severities_need_fewer_windows() -> None:
    """Nothing is recorded that no alert and no budget reads."""
    names = [one.signal.name for one in slo(objective="99.9%", severities=["P1"]).recordings("x")]
    assert names == [
        "slo:sli_error:ratio_rate5m",
        "slo:sli_error:ratio_rate1h",
        "slo:sli_error:ratio_rate30d",
        "slo:error_budget:remaining_ratio",
    ]


def test_the_bound_of_a_latency_promise_becomes_a_bucket() -> None:
    """No interpolation: the histogram counts what is fast enough exactly."""
    _, durations = slo(objective="95%", under="1234ms").signals("x")
    assert Decimal("1.234") in durations.buckets
    assert list(durations.buckets) == sorted(durations.buckets)


@pytest.mark.parametrize(
    ("path", "matching", "other"),
    [
        ("/orders/*", ["/orders/", "/orders/{id}", "/orders/a/b"], ["/orders", "/my/orders/"]),
        ("/a.b*", ["/a.b", "/a.b/c"], ["/aXb"]),
        ("/{path:path}/*", ["/{path:path}/x"], ["/path/x"]),
        ("/*", ["/", "/x"], ["unmatched"]),
    ],
)
def test_a_star_stands_for_anything_and_nothing_else_does(
    path: str, matching: list[str], other: list[str]
) -> None:
    """Of a whole route, in which everything else is what it looks like."""
    match = Match(path=path)
    assert all(match.meets(one, "GET") for one in matching)
    assert not any(match.meets(one, "GET") for one in other)


def test_get_covers_head_and_a_plain_path_is_an_equality() -> None:
    """As the router does."""
    said = Match(path="/a.b", method="GET")
    assert [said.meets("/a.b", one) for one in ("GET", "HEAD", "POST")] == [True, True, False]
    assert not said.meets("/aXb", "GET")
    assert [Match(method="POST").meets("/x", one) for one in ("POST", "HEAD")] == [True, False]


def test_the_budget_is_gone_when_the_alert_says() -> None:
    """At the rate of P1 a month's budget lasts two days and two hours."""
    alert = slo(objective="99.9%").alerts("x")[0]
    assert "gone in 2d2h" in alert.impact
    assert Duration.parse("30d") / burns(objective="99.9%")["P1"].factor / Duration.parse("1h") == 50


@given(names, names)
def test_different_names_make_different_alerts(one: str, other: str) -> None:
    """`a_1` and `a1` are two names, and Prometheus must not see one alert."""
    assert (camel(one) == camel(other)) is (one == other)
    assert camel("a_1") != camel("a1")
    assert camel("per_client") == "PerClient"


@pytest.mark.parametrize(
    "said",
    [
        {
            "query": {
                "total": "mahavishnu_spec_reloads_total",
                "bad": 'mahavishnu_spec_reloads_total{outcome="refused"}',
            }
        },
        {"fresh": "2h", "query": {"age": "time() - mahavishnu_spec_reload_timestamp_seconds"}},
    ],
)
def test_silence_of_a_query_is_not_sought_among_requests(said: dict[str, Any]) -> None:
    """No route brings back what its series lacks."""
    shown = contract(Spec.model_validate(MINIMAL | {"slos": {"own": {"objective": "99%", **said}}}))
    (alert,) = (one for one in shown.alerts if one.name.endswith("NoData"))
    text = f"{alert.impact} {alert.action}"
    assert "route" not in text
    assert "requests" not in text
    assert "mahavishnu_" in alert.action


def silence_of(service: dict[str, Any], **said: Any) -> tuple[str, str] | None:
    """When its silence is told of, and how."""
    of = MINIMAL | {"service": MINIMAL["service"] | service, "slos": {"own": {"objective": "99%", **said}}}
    alerts = contract(Spec.model_validate(of)).alerts
    found = [(str(one.hold), str(one.severity)) for one in alerts if one.name.endswith("NoData")]
    return found[0] if found else None


@pytest.mark.parametrize(
    ("service", "said", "told"),
    [
        ({}, {}, ("1h", "P3")),
        ({"tier": "critical"}, {}, ("1h", "P3")),
        ({"tier": "critical", "traffic": "50/second"}, {}, ("5m", "P1")),
        ({"traffic": "50/second"}, {}, ("5m", "P2")),
        ({"tier": "experimental", "traffic": "10/minute"}, {}, ("30m", "P3")),
        ({"tier": "critical", "traffic": "50/second"}, {"severities": ["P2", "P4"]}, ("5m", "P2")),
        ({"tier": "critical", "traffic": "50/second"}, {"severities": ["P4"]}, ("5m", "P4")),
        ({"traffic": "50/second"}, {"severities": ["P1"]}, ("5m", "P1")),
        ({"tier": "critical", "traffic": "1/minute"}, {}, ("5h", "P3")),
        ({"tier": "critical", "traffic": "1/1d"}, {}, ("1w", "P3")),
        ({"tier": "critical", "traffic": "50/second"}, {"match": {"path": "/a"}}, ("6h", "P3")),
        ({"tier": "critical", "traffic": "50/second"}, {"silent": "14h"}, ("14h", "P3")),
        ({"tier": "critical"}, {"match": {"path": "/a"}, "silent": "10m"}, ("10m", "P1")),
        ({"tier": "critical", "traffic": "50/second"}, {"silent": "never"}, None),
    ],
)
def test_silence_is_told_when_it_is_no_chance_and_as_loud_as_the_tier(
    service: dict[str, Any], said: dict[str, Any], told: tuple[str, str] | None
) -> None:
    """By the traffic of the whole service, or by what the objective says itself."""
    assert silence_of(service, **said) == told


@pytest.mark.parametrize(
    "age",
    [
        "max_over_time(mahavishnu_backup_age_seconds[5m])",
        "mahavishnu_backup_age_seconds * 1000",
        "mahavishnu_backup_age_seconds / 1000",
        "mahavishnu_backup_age_seconds < 5",
        "100 - mahavishnu_backup_age_seconds",
        "abs(mahavishnu_backup_age_seconds)",
        "count(mahavishnu_backup_age_seconds)",
        "(time() - mahavishnu_spec_reload_timestamp_seconds) / 60",
        "mahavishnu_spec_reload_timestamp_seconds - time()",
        "time() - mahavishnu_spec_reload_timestamp_seconds * 2",
    ],
)
def test_what_tells_no_age_in_seconds_is_refused(age: str) -> None:
    """Before any file is written: no test could show that its alerts fire and clear."""
    signals = {one.name: one for one in (BACKUP_AGE, SPEC_RELOAD_TIME)}
    promise = slo(objective="99%", fresh="10m", query={"age": age})
    with pytest.raises(Unproved, match=r"nothing shows that .* is an age in seconds"):
        promise.reading("a", signals)
