"""Queries that mean what they say stay accepted, and those that cannot hold are refused: one beside the other."""

from __future__ import annotations

from typing import Any

import pytest

from mahavishnu.contract import doubts
from mahavishnu.contract import shown as bare
from mahavishnu.policies.queried import Queried
from mahavishnu.policies.slo import Slo
from tests.monitoring import shop

SHOP = bare(shop().spec)
HTTP, CALLS = "http_server_request_duration_seconds", "mahavishnu_dependency_calls_total"
LIMITS, AT = "mahavishnu_limit_decisions_total", "mahavishnu_spec_reload_timestamp_seconds"
BACKUP = "mahavishnu_backup_"


def said(policy: Slo | Queried) -> list[str]:
    """What is said against a policy of the example."""
    return [str(one) for one in doubts("a", policy, SHOP)]


def promise(**more: Any) -> Slo:
    """An objective that says this."""
    return Slo.model_validate({"objective": "99%", **more})


def alarm(query: str) -> Queried:
    """An alert on this query."""
    return Queried.model_validate({"query": query, "severity": "P3"})


@pytest.mark.parametrize(
    "age",
    [
        f"time() - {AT}",
        f"time() - min({AT})",
        f"max(time() - {AT})",
        f"time() - {BACKUP}last_success_timestamp_seconds",
        f'time() - max({BACKUP}last_success_timestamp_seconds{{copy="1"}})',
        f'time() - {BACKUP}last_verified_timestamp_seconds{{backup="orders"}}',
        f"time() - {BACKUP}last_drill_timestamp_seconds",
        f"{BACKUP}age_seconds",
        f'min({BACKUP}age_seconds{{backup="orders"}})',
        f"{BACKUP}drill_age_seconds",
        f"{BACKUP}verified_age_seconds",
        "mahavishnu_dead_letters_age_seconds",
        'max by (dependency) (mahavishnu_dead_letters_age_seconds{dependency="payment"})',
        f"avg({BACKUP}age_seconds)",
    ],
)
@pytest.mark.parametrize("fresh", ["10m", "26h"])
def test_an_age_is_promised(age: str, fresh: str) -> None:
    """Of one series that tells it, or of the point in time that it is counted from."""
    assert said(promise(fresh=fresh, query={"age": age})) == []


@pytest.mark.parametrize(
    "age",
    [
        "up",
        AT,
        f"{BACKUP}last_success_timestamp_seconds",
        f"{BACKUP}step_successful",
        f"{BACKUP}duration_seconds",
        f"{BACKUP}history_seconds",
        f"{BACKUP}size_bytes",
        f"{BACKUP}snapshots",
        "mahavishnu_spec_info",
        "mahavishnu_limit_utilisation_ratio",
        "mahavishnu_dead_letters",
        "mahavishnu_event_loop_late_seconds",
        "process_resident_memory_bytes",
        "time() - up",
        "time() - mahavishnu_memory_limit_bytes",
        f"time() - {BACKUP}age_seconds",
        f"sum({BACKUP}age_seconds)",
        f"sum(time() - {AT})",
    ],
)
def test_what_never_is_an_age_or_always_an_old_one_is_refused(age: str) -> None:
    """Its objective would be kept for ever, or never."""
    (fault,) = said(promise(fresh="1h", query={"age": age}))
    assert "is an age in seconds:" in fault


@pytest.mark.parametrize(
    ("total", "bad"),
    [
        (CALLS, f'{CALLS}{{outcome=~"failure|timeout"}}'),
        (f"{HTTP}_count", f'{HTTP}_count{{http_response_status_code=~"5.."}}'),
        (f"{HTTP}_count", f'{HTTP}_bucket{{le="0.1"}}'),
        (f'{HTTP}_bucket{{le="+Inf"}}', f'{HTTP}_count{{http_response_status_code=~"5.."}}'),
        (f'{HTTP}_bucket{{le="1.0"}}', f'{HTTP}_bucket{{le="0.1"}}'),
        (f'{HTTP}_bucket{{le="1.0"}}', f'{HTTP}_bucket{{le="1.0",http_response_status_code="409"}}'),
        (f"{HTTP}_count", f'{LIMITS}{{outcome="refused"}}'),
        (f"{HTTP}_count", 'mahavishnu_slo_requests_total{slo="checkout",outcome="bad"}'),
        (LIMITS, f'{LIMITS}{{limit="per_client",outcome="refused"}}'),
        (LIMITS, 'mahavishnu_limit_near_total{limit="login"}'),
        (f'{LIMITS}{{limit="login",outcome="allowed"}}', 'mahavishnu_limit_near_total{limit="login"}'),
        (CALLS, 'mahavishnu_dependency_fallbacks_total{dependency="payment",outcome="failed"}'),
        (f'{CALLS}{{dependency="payment"}}', 'mahavishnu_dead_letters_parked_total{outcome=~"(full|lost)"}'),
        (f'{CALLS}{{outcome!="rejected"}}', "mahavishnu_retries_total"),
        ("mahavishnu_dependency_duration_seconds_count", f'{CALLS}{{outcome="timeout"}}'),
        ("mahavishnu_breaker_calls_total", 'mahavishnu_breaker_calls_total{speed="slow"}'),
        ("mahavishnu_dead_letters_redriven_total", "mahavishnu_dead_letters_dropped_total"),
        # Of two kinds nobody can say it: a warning, and no error.
        ("mahavishnu_dead_letters_parked_total", "mahavishnu_dead_letters_dropped_total"),
        (f'{HTTP}_count{{http_route="/orders"}}', f'{CALLS}{{outcome="timeout"}}'),
        ("mahavishnu_event_loop_lag_seconds_count", 'mahavishnu_event_loop_lag_seconds_bucket{le="0.1"}'),
    ],
)
def test_a_part_of_all_is_promised(total: str, bad: str) -> None:
    """The same series with more labels, another part of its histogram, or another series of such events."""
    assert said(promise(min_requests="auto", query={"total": total, "bad": bad})) == []


@pytest.mark.parametrize(
    ("total", "bad", "says"),
    [
        (f"{HTTP}_bucket", f"{HTTP}_count", "for every boundary"),
        (f"{HTTP}_count", f'{HTTP}_bucket{{http_response_status_code="500"}}', "for every boundary"),
        (f"{HTTP}_sum", f"{HTTP}_count", "adds up seconds"),
        (f"{HTTP}_count", f"{HTTP}_sum", "adds up seconds"),
        ("process_cpu_seconds_total", CALLS, "adds up seconds"),
        (f'{HTTP}_bucket{{le="0.1"}}', f'{HTTP}_bucket{{le="1.0"}}', "is no part of"),
        (f'{HTTP}_bucket{{le="0.1"}}', f"{HTTP}_count", "is no part of"),
        (
            f'{HTTP}_bucket{{le="1.0",http_route="/orders"}}',
            f'{HTTP}_bucket{{le="0.1",http_route="/login"}}',
            "is no part of",
        ),
        (f'{LIMITS}{{limit="login"}}', 'mahavishnu_limit_near_total{limit="search"}', "is no part of"),
        (f'{LIMITS}{{limit="login"}}', "mahavishnu_limit_near_total", "is no part of"),
    ],
)
def test_what_is_no_part_of_all_is_refused(total: str, bad: str, says: str) -> None:
    """Or is no event at all, or counted several times."""
    (fault,) = said(promise(min_requests="auto", query={"total": total, "bad": bad}))
    assert says in fault


@pytest.mark.parametrize(
    "query",
    [
        f"time() - {AT} > 86400",
        f"time() - max({AT}) > 86400",
        f"time() - {AT} < 600",
        # Two points in time, and what lies between them.
        f"{BACKUP}last_success_timestamp_seconds - {BACKUP}last_verified_timestamp_seconds > 86400",
        f"{BACKUP}age_seconds > 90000",
        f"{BACKUP}age_seconds > {BACKUP}verified_age_seconds",
        "avg_over_time(up[5m]) <= 0.5",
        "avg(up) > 0.2 and avg(up) < 0.8",
        "sum(up) < 3",
        "up == 0",
        "up != 1",
        "up < 0.5",
        f"{BACKUP}step_successful == 0",
        "mahavishnu_limit_utilisation_ratio > 0.9",
        "mahavishnu_dead_letters_full_ratio >= 1",
        'mahavishnu_breaker_state{state=~"(open|half_open)"} == 1',
        "sum(mahavishnu_spec_info) < 2",
        "mahavishnu_event_loop_late_seconds > 0.5",
        "process_resident_memory_bytes / mahavishnu_memory_limit_bytes > 0.9",
        "rate(process_cpu_seconds_total[5m]) > 0.9",
        f"sum(rate({HTTP}_sum[5m])) / sum(rate({HTTP}_count[5m])) > 2",
        f'sum(rate({LIMITS}{{limit=~"per_client|(login|search)"}}[5m])) > 3',
        f'sum(rate({LIMITS}{{limit=~"(?:log|per_cl)i.*"}}[5m])) > 3',
        f'sum(rate({LIMITS}{{limit!~"(login|search)"}}[5m])) > 3',
        f'sum(rate({HTTP}_count{{http_response_status_code=~"(4|5).."}}[5m])) > 5',
        f'sum(rate({HTTP}_count{{http_request_method=~"P(OST|UT|ATCH)"}}[5m])) > 5',
        f'sum(rate({HTTP}_count{{http_route=~"(/orders(/.*)?|/login)"}}[5m])) > 5',
    ],
)
def test_a_condition_that_can_come_true_and_end_stays_accepted(query: str) -> None:
    """Whatever it is made of."""
    assert said(alarm(query)) == []


@pytest.mark.parametrize(
    ("query", "says"),
    [
        (f"{AT} > 86400", "tells a point in time"),
        (f"max({AT}) < 1700000000", "tells a point in time"),
        (f"{BACKUP}last_success_timestamp_seconds > {BACKUP}age_seconds", "tells a point in time"),
        (f"time() - {BACKUP}age_seconds > 600", "no series that it asks for tells another one"),
        ("time() - process_resident_memory_bytes > 600", "no series that it asks for tells another one"),
        ("up > 1", "under which it is true"),
        ("up > 0.3 and up < 0.7", "under which it is true"),
        (f"{BACKUP}step_successful == 0.5", "under which it is true"),
        (f'sum(rate({LIMITS}{{limit=~"(login|serach)"}}[5m])) > 3', "never has the value serach"),
        (f'sum(rate({LIMITS}{{limit=~"per_(clint|client)"}}[5m])) > 3', "never has the value per_clint"),
        (
            f'sum(rate({HTTP}_count{{http_request_method=~"P(OST|UTT)"}}[5m])) > 5',
            "never has the value PUTT",
        ),
    ],
)
def test_a_condition_that_cannot_is_refused(query: str, says: str) -> None:
    """Though a level is found at which numbers like these would fulfil it."""
    assert says in said(alarm(query))[0]
